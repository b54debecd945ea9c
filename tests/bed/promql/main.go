// promql tells whether Prometheus understands expressions.
//
// example: promql 'up == 0'
package main

import (
	"fmt"
	"os"

	"github.com/prometheus/prometheus/promql/parser"
)

func main() {
	wrong := false
	for _, expression := range os.Args[1:] {
		if _, err := parser.ParseExpr(expression); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", expression, err)
			wrong = true
		}
	}
	if wrong {
		os.Exit(1)
	}
}
