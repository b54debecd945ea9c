package main

import (
	"context"

	"pullpass/bed/internal/noipv6"
)

func init() {
	register(verb{
		name: "no-ipv6",
		args: "-- COMMAND…",
		help: "run COMMAND as on a machine whose kernel has no IPv6",
		run: func(_ context.Context, args []string) error {
			if len(args) > 0 && args[0] == "--" {
				args = args[1:]
			}
			if len(args) == 0 {
				return exitError{2, "no command: write it as `bed no-ipv6 -- COMMAND…`"}
			}
			return noipv6.Exec(args)
		},
	})
}
