package main

import (
	"context"

	"pullpass/bed/internal/keyring"
)

func init() {
	register(verb{
		name: "keyring",
		help: `oracle: {"dockerconfigjson":[…],"images":[…]} per line → {"credentials":[[{username,password}…]…]} in the kubelet's order`,
		run: func(ctx context.Context, args []string) error {
			return oracle(ctx, args, func(request keyring.Request) (any, error) {
				found, err := keyring.Lookup(request)
				return map[string]any{"credentials": found}, err
			})
		},
	})
}
