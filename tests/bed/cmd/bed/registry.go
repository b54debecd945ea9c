package main

import (
	"context"
	"errors"
	"flag"
	"strings"

	"pullpass/bed/internal/instance"
	"pullpass/bed/internal/registry"
)

func init() {
	register(verb{
		name: "registry",
		args: "[--image REPOSITORY:TAG]… [--listen HOST:PORT] [--host NAME]…",
		help: "an OCI registry behind TLS that accepts what the file `access` lists",
		run:  runRegistry,
	})
}

// list is a flag that may be given several times.
type list []string

func (l *list) String() string     { return strings.Join(*l, ",") }
func (l *list) Set(v string) error { *l = append(*l, v); return nil }

func runRegistry(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("bed registry", flag.ContinueOnError)
	var images, hosts list
	flags.Var(&images, "image", "seed the hello image as `REPOSITORY:TAG` (repeatable)")
	flags.Var(&hosts, "host", "further name or address for the certificate (repeatable)")
	listen := flags.String("listen", "127.0.0.1:0", "`HOST:PORT` to listen on; port 0 takes a free one")
	if err := parse(flags, args); err != nil {
		return err
	}
	frame, err := instance.New("registry")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, frame.Close()) }()
	server, err := registry.Start(ctx, registry.Options{
		Dir: frame.Dir, Logs: frame.Logs, Listen: *listen, Hosts: hosts, Images: images,
	})
	if err != nil {
		return err
	}
	defer server.Close()
	return instance.Serve(ctx, map[string]any{
		"url":       server.URL,
		"ca":        server.CA,
		"proxy":     server.Proxy,
		"access":    server.Access,
		"accessLog": server.AccessLog,
		"dir":       frame.Dir,
		"logs":      frame.Logs,
	}, nil)
}
