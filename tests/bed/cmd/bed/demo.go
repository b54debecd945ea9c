package main

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"

	"pullpass/bed/internal/demo"
)

func init() {
	register(verb{
		name: "demo",
		args: "--pullpass PROGRAM [--source DIR] [--keep] | --down",
		help: "shows a Pod that pulls a private image and one that does not; --down ends what --keep left up",
		run:  runDemo,
	})
}

func runDemo(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bed demo", flag.ContinueOnError)
	options := demo.Options{Out: os.Stdout}
	flags.StringVar(&options.Pullpass, "pullpass", "", "the pullpass `PROGRAM` that is shown")
	flags.StringVar(&options.Source, "source", ".", "the checkout `DIR`, which holds manifests/")
	flags.BoolVar(&options.Keep, "keep", false, "leave everything up and say how to reach it")
	down := flags.Bool("down", false, "end what an earlier run with --keep left up")
	if err := parse(flags, args); err != nil {
		return err
	}
	if *down {
		return demo.Down(os.Stdout)
	}
	if options.Pullpass == "" {
		return exitError{2, "say which program to show: bed demo --pullpass target/release/pullpass"}
	}
	var err, failed error
	options.Pullpass, err = filepath.Abs(options.Pullpass)
	options.Source, failed = filepath.Abs(options.Source)
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	return demo.Run(ctx, options)
}
