// Command hello is the only program of the test bed's container image: it
// says who it is and then waits like a server, or ends as it is told.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	name := flag.String("name", "team/hello", "who says hello")
	exit := flag.Int("exit", -1, "end at once with this code instead of waiting")
	sleep := flag.Duration("sleep", 0, "end by itself with code 0 after this long; 0 waits for SIGTERM")
	flag.Parse()

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	fmt.Println("hello from", *name)
	if *exit >= 0 {
		os.Exit(*exit)
	}
	var ended <-chan time.Time
	if *sleep > 0 {
		ended = time.After(*sleep)
	}
	select {
	case <-stop:
	case <-ended:
	}
}
