package main

import (
	"context"
	"errors"
	"os"

	"pullpass/bed/internal/netns"
)

// notAllowed is the exit code for "this machine does not allow it".
const notAllowed = 3

func init() {
	register(verb{
		name: "netns",
		args: "-- COMMAND…",
		help: "run COMMAND in a new network namespace with loopback and a bridge at " + netns.Address,
		run:  runNetns,
	})
}

func runNetns(ctx context.Context, args []string) error {
	command := args
	if len(command) > 0 && command[0] == "--" {
		command = command[1:]
	}
	if len(command) == 0 {
		return exitError{2, "no command: write it as `bed netns -- COMMAND…`"}
	}
	if os.Geteuid() != 0 {
		return netnsAsUser(ctx, args)
	}
	err := netns.Exec(command)
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
