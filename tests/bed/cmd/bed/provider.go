package main

import (
	"context"

	"pullpass/bed/internal/provider"
)

func init() {
	register(verb{
		name: "match-images",
		help: `oracle: {"matchImages":[…],"images":[…]} per line → {"matches":[bool…]}, as the kubelet asks a credential provider`,
		run: func(ctx context.Context, args []string) error {
			return oracle(ctx, args, func(request provider.Request) (any, error) {
				found, err := provider.Matches(request)
				return map[string]any{"matches": found}, err
			})
		},
	})
	register(verb{
		name: "provider",
		args: "CONFIG BIN-DIR",
		help: "oracle: ends well when the kubelet starts with these files of credential providers; exit code 1 and its words when not",
		run: func(_ context.Context, args []string) error {
			if len(args) != 2 {
				return exitError{2, "write it as `bed provider CONFIG BIN-DIR`"}
			}
			return provider.Start(args[0], args[1])
		},
	})
}
