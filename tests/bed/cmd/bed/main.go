// Command bed runs the parts of the test bed: a real Kubernetes API server, a
// real registry, AWS's API as moto speaks it, a whole one-node cluster, and
// the kubelet's own code as oracles. Each verb has a file of its own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// verb is one subcommand; its file registers it in an init function.
type verb struct {
	// name is the word on the command line.
	name string
	// args shows the arguments in the usage line.
	args string
	// help is one line for the list of verbs.
	help string
	// run gets the arguments after the verb; ctx ends on SIGINT and SIGTERM.
	run func(ctx context.Context, args []string) error
}

var verbs []verb

func register(v verb) { verbs = append(verbs, v) }

// exitError ends bed with code; an empty message prints nothing.
type exitError struct {
	code    int
	message string
}

func (e exitError) Error() string { return e.message }

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	code := run(ctx, os.Args[1:])
	cancel()
	os.Exit(code)
}

func run(ctx context.Context, args []string) int {
	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		fmt.Print(usage())
		return 0
	}
	at := slices.IndexFunc(verbs, func(v verb) bool { return v.name == args[0] })
	if at < 0 {
		fmt.Fprintf(os.Stderr, "bed: no such verb: %s\n%s", args[0], usage())
		return 2
	}
	err := verbs[at].run(ctx, args[1:])
	if err == nil {
		return 0
	}
	code := 1
	var exit exitError
	if errors.As(err, &exit) {
		code = exit.code
	}
	if text := err.Error(); text != "" {
		fmt.Fprintf(os.Stderr, "bed %s: %s\n", verbs[at].name, text)
	}
	return code
}

func usage() string {
	slices.SortFunc(verbs, func(a, b verb) int { return strings.Compare(a.name, b.name) })
	var text strings.Builder
	text.WriteString("usage: bed VERB [ARGUMENTS]\n\n")
	for _, v := range verbs {
		fmt.Fprintf(&text, "  bed %-60s %s\n", v.name+" "+v.args, v.help)
	}
	text.WriteString("\nA long-running verb prints one JSON line when it is ready and ends when its stdin closes.\n")
	return text.String()
}

// parse reads flags and exactly the named arguments after them. Its errors end
// bed with code 2.
func parse(flags *flag.FlagSet, args []string, names ...string) error {
	if err := flags.Parse(args); err != nil {
		// The flag package has printed the reason, or the help.
		if errors.Is(err, flag.ErrHelp) {
			return exitError{code: 0}
		}
		return exitError{code: 2}
	}
	if flags.NArg() < len(names) {
		return exitError{2, names[flags.NArg()] + " is missing: see --help"}
	}
	if flags.NArg() > len(names) {
		return exitError{2, fmt.Sprintf("does not take %q: see --help", flags.Arg(len(names)))}
	}
	return nil
}
