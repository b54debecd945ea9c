package main

import (
	"context"
	"flag"

	"pullpass/bed/internal/images"
	"pullpass/bed/internal/instance"
)

func init() {
	register(verb{
		name: "kaniko",
		args: "--name REFERENCE --output FILE",
		help: "kaniko's image as a tar of an OCI layout",
		run:  runKaniko,
	})
}

func runKaniko(_ context.Context, args []string) error {
	flags := flag.NewFlagSet("bed kaniko", flag.ContinueOnError)
	reference := flags.String("name", "pullpass.bed/kaniko:1", "the image's `REFERENCE`, which `ctr images import` gives it")
	output := flags.String("output", "kaniko.tar", "the `FILE` to write")
	if err := parse(flags, args); err != nil {
		return err
	}
	binary, err := instance.Binary("kaniko")
	if err != nil {
		return err
	}
	image, err := images.Kaniko(binary)
	if err != nil {
		return err
	}
	if err := images.WriteLayout(*output, image, *reference); err != nil {
		return err
	}
	return instance.PrintLine(map[string]string{"image": *reference, "file": *output})
}
