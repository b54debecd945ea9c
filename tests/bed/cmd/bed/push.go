package main

import (
	"context"
	"flag"
	"os"

	"pullpass/bed/internal/instance"
	"pullpass/bed/internal/push"
)

func init() {
	register(verb{
		name: "push",
		args: "--dockerconfigjson FILE --proxy URL --ca FILE IMAGE",
		help: "push a small image as IMAGE with what crane's library finds in FILE",
		run:  runPush,
	})
}

func runPush(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bed push", flag.ContinueOnError)
	config := flags.String("dockerconfigjson", "", "`FILE` with the content of the Secret that a builder mounts")
	proxy := flags.String("proxy", "", "`URL` of the registry's proxy, by which the image's host is found")
	ca := flags.String("ca", "", "`FILE` with the authority of the registry's certificate")
	if err := parse(flags, args, "IMAGE"); err != nil {
		return err
	}
	if *config == "" || *proxy == "" || *ca == "" {
		return exitError{2, "--dockerconfigjson, --proxy and --ca are all needed"}
	}
	content, err := os.ReadFile(*config)
	if err != nil {
		return err
	}
	digest, err := push.Push(ctx, push.Options{DockerConfigJSON: content, Proxy: *proxy, CA: *ca, Image: flags.Arg(0)})
	if err != nil {
		return err
	}
	return instance.PrintLine(map[string]string{"image": flags.Arg(0), "digest": digest})
}
