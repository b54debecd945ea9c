package main

import (
	"context"
	"errors"
	"flag"
	"os"

	"pullpass/bed/internal/netns"
)

// notAllowed is the exit code for "this machine does not allow it".
const notAllowed = 3

func init() {
	register(verb{
		name: "netns",
		args: "[--address ADDRESS]… -- COMMAND…",
		help: "run COMMAND in a new network namespace with loopback and a bridge at " + netns.Address,
		run:  runNetns,
	})
}

func runNetns(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bed netns", flag.ContinueOnError)
	var addresses list
	flags.Var(&addresses, "address", "further `ADDRESS` of the loopback device (repeatable)")
	// What follows is the command's own, however it looks.
	if err := flags.Parse(args); err != nil {
		return exitError{code: 2}
	}
	command := flags.Args()
	if len(command) == 0 {
		return exitError{2, "no command: write it as `bed netns -- COMMAND…`"}
	}
	if os.Geteuid() != 0 {
		return netnsAsUser(ctx, args)
	}
	err := netns.Exec(command, addresses)
	var denied *netns.DeniedError
	if errors.As(err, &denied) {
		return exitError{notAllowed, err.Error()}
	}
	return err
}

// netnsAsUser runs the same verb again as root of a user namespace.
func netnsAsUser(ctx context.Context, args []string) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	code, err := netns.InUserNamespace(ctx, program, append([]string{"netns"}, args...))
	if err != nil {
		return exitError{notAllowed, err.Error()}
	}
	if code != 0 {
		return exitError{code: code}
	}
	return nil
}
