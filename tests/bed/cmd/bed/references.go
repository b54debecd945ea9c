package main

import (
	"context"

	"pullpass/bed/internal/references"
)

func init() {
	register(verb{
		name: "references",
		help: "oracle: an image reference (JSON string) per line → {domain,path,tag,digest}",
		run: func(ctx context.Context, args []string) error {
			return oracle(ctx, args, func(image string) (any, error) {
				return references.Parse(image)
			})
		},
	})
}
