package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"pullpass/bed/internal/instance"
	"pullpass/bed/internal/moto"
	"pullpass/bed/internal/pki"
)

func init() {
	register(verb{
		name: "moto",
		args: "[--listen ADDRESS] [--host NAME]…",
		help: "AWS's API (ECR, ECR Public, STS) behind TLS, refusing what AWS refuses",
		run:  runMoto,
	})
}

func runMoto(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("bed moto", flag.ContinueOnError)
	var options moto.Options
	flags.StringVar(&options.Listen, "listen", "127.0.0.1", "`ADDRESS` of AWS's API")
	flags.Var((*list)(&options.Hosts), "host", "further `NAME` or address for the certificate (repeatable)")
	flags.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: bed moto [flags]\nexample: bed moto --host sts.eu-west-1.amazonaws.com\nThe control calls are listed in tests/bed/moto/README.md.")
		flags.PrintDefaults()
	}
	if err := parse(flags, args); err != nil {
		return err
	}
	in, err := instance.New("moto")
	if err != nil {
		return err
	}
	defer func() {
		if closing := in.Close(); err == nil {
			err = closing
		}
	}()
	authority, err := pki.NewCA("bed moto")
	if err != nil {
		return err
	}
	endpoints, child, err := moto.Start(ctx, in, authority, options)
	if err != nil {
		return err
	}
	ready := struct {
		moto.Endpoints
		Dir  string `json:"dir"`
		Logs string `json:"logs"`
		PID  int    `json:"pid"`
	}{endpoints, in.Dir, in.Logs, child.PID()}
	return instance.Serve(ctx, ready, nil, child)
}
