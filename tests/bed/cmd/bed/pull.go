package main

import (
	"context"
	"flag"
	"os"

	"pullpass/bed/internal/instance"
	"pullpass/bed/internal/pull"
)

func init() {
	register(verb{
		name: "pull",
		args: "--dockerconfigjson FILE --registry URL --ca FILE IMAGE",
		help: "pull IMAGE from the registry at URL with what the kubelet's keyring finds in FILE",
		run:  runPull,
	})
}

func runPull(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bed pull", flag.ContinueOnError)
	secret := flags.String("dockerconfigjson", "", "`FILE` with the content of the pull secret")
	registry := flags.String("registry", "", "`URL` that stands for the image's own host")
	ca := flags.String("ca", "", "`FILE` with the authority of the registry's certificate")
	if err := parse(flags, args, "IMAGE"); err != nil {
		return err
	}
	if *secret == "" || *registry == "" || *ca == "" {
		return exitError{2, "--dockerconfigjson, --registry and --ca are all needed"}
	}
	content, err := os.ReadFile(*secret)
	if err != nil {
		return err
	}
	result, err := pull.Pull(ctx, pull.Options{
		DockerConfigJSON: string(content),
		Registry:         *registry,
		CA:               *ca,
		Image:            flags.Arg(0),
	})
	if err != nil {
		return err
	}
	return instance.PrintLine(result)
}
