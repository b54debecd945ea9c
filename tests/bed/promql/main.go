// promql tells whether Prometheus understands expressions; or runs those of a Grafana dashboard on recorded metrics, says what each panel
// shows, and draws it.
//
// example: promql 'up == 0'
// example: promql -dashboard dashboard.json -recording metrics.txt -svg dashboard.svg
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/prometheus/prometheus/promql/parser"
)

func main() {
	panels := flag.String("dashboard", "", "the dashboard, as Grafana imports it")
	recorded := flag.String("recording", "", "the metrics, as tests/api/dashboard.rs records them")
	namespace := flag.String("namespace", "pullpass", "the dashboard's variable")
	svg := flag.String("svg", "", "where to draw it")
	flag.Parse()
	var err error
	if *panels != "" {
		err = show(*panels, *recorded, *namespace, *svg)
	} else {
		err = parse(flag.Args())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func parse(expressions []string) (wrong error) {
	for _, expression := range expressions {
		if _, err := parser.ParseExpr(expression); err != nil {
			wrong = errors.Join(wrong, fmt.Errorf("%s: %w", expression, err))
		}
	}
	return wrong
}

func show(panels, recorded, namespace, svg string) error {
	read, err := readRecording(recorded)
	if err != nil {
		return err
	}
	all, err := readDashboard(panels)
	if err != nil {
		return err
	}
	if err := all.query(read, namespace); err != nil {
		return err
	}
	summary, err := all.summarise()
	if err != nil {
		return err
	}
	if svg != "" {
		if err := os.WriteFile(svg, []byte(all.draw()), 0o644); err != nil {
			return err
		}
	}
	_, err = fmt.Println(string(summary))
	return err
}
