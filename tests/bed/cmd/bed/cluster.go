package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"pullpass/bed/internal/cluster"
	"pullpass/bed/internal/instance"
	"pullpass/bed/internal/moto"
	"pullpass/bed/internal/pki"
	"pullpass/bed/internal/registry"
)

func init() {
	register(verb{
		name: "cluster",
		args: "allowed | up [--image REPOSITORY:TAG]… [--mirror HOST]… [--import FILE]… [--sync-frequency DURATION]",
		help: "a whole cluster with one node, a registry and AWS's API; needs root",
		run:  runCluster,
	})
}

func runCluster(ctx context.Context, args []string) error {
	switch {
	case len(args) == 2 && args[0] == "inside":
		return runInside(args[1])
	case len(args) == 1 && args[0] == "allowed":
		return orNotAllowed(cluster.Check())
	case len(args) > 0 && args[0] == "up":
		return orNotAllowed(clusterUp(ctx, args[1:]))
	}
	return exitError{2, "write it as `bed cluster up`: see `bed cluster up --help`"}
}

// orNotAllowed gives the machine's refusal an exit code of its own.
func orNotAllowed(err error) error {
	var denied *cluster.DeniedError
	if errors.As(err, &denied) {
		return exitError{notAllowed, denied.Error()}
	}
	return err
}

// runInside is how `bed cluster up` calls bed again inside the cluster's
// namespaces: as their first process, and once more below that.
func runInside(dir string) error {
	if os.Getpid() != 1 {
		return cluster.Inside(dir)
	}
	code, err := cluster.Init(dir)
	if err == nil && code != 0 {
		return exitError{code: code}
	}
	return err
}

func clusterUp(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("bed cluster up", flag.ContinueOnError)
	var seeded, mirrored, imported list
	flags.Var(&seeded, "image", "seed the registry with the hello image as `REPOSITORY:TAG` (repeatable)")
	flags.Var(&mirrored, "mirror", "the node pulls images of `HOST` from the registry (repeatable)")
	flags.Var(&imported, "import", "the node has the images of this tar of an OCI layout, `FILE` (repeatable)")
	syncFrequency := flags.Duration("sync-frequency", time.Minute, "how often the kubelet looks at what Pods mount, `DURATION`; by default as anywhere")
	flags.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: bed cluster up [flags]\nexample: bed cluster up --image team/hello:1 --mirror 123456789012.dkr.ecr.eu-west-1.amazonaws.com")
		flags.PrintDefaults()
	}
	if err := parse(flags, args); err != nil {
		return err
	}
	frame, err := instance.New("cluster")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, frame.Close()) }()
	nodes, err := cluster.New(frame)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, nodes.Close()) }()
	store, err := registry.Start(ctx, registry.Options{
		Dir: frame.Dir, Logs: frame.Logs, Listen: net.JoinHostPort(nodes.HostAddress, "0"), Hosts: mirrored, Images: seeded,
	})
	if err != nil {
		return err
	}
	defer store.Close()
	setup, err := setUp(store, mirrored, imported)
	if err != nil {
		return err
	}
	setup.SyncFrequency = *syncFrequency
	return serveCluster(ctx, frame, nodes, store, setup)
}

// setUp says where the node pulls images and which it has already.
func setUp(store *registry.Registry, mirrored, imported []string) (cluster.Setup, error) {
	var setup cluster.Setup
	for _, host := range mirrored {
		setup.Mirrors = append(setup.Mirrors, cluster.Mirror{Host: host, URL: store.URL, CA: store.CA})
	}
	for _, file := range imported {
		path, err := filepath.Abs(file)
		if err != nil {
			return setup, err
		}
		setup.Archives = append(setup.Archives, path)
	}
	return setup, nil
}

// serveCluster brings AWS's API and the node up side by side and serves until
// the end.
func serveCluster(ctx context.Context, frame *instance.Instance, nodes *cluster.Cluster, store *registry.Registry, setup cluster.Setup) error {
	authority, err := pki.NewCA("bed moto")
	if err != nil {
		return err
	}
	type cloud struct {
		endpoints moto.Endpoints
		process   *instance.Child
		err       error
	}
	clouds := make(chan cloud, 1)
	go func() {
		var c cloud
		c.endpoints, c.process, c.err = moto.Start(ctx, frame, authority, moto.Options{Listen: nodes.HostAddress, Hosts: []string{"127.0.0.1"}})
		clouds <- c
	}()
	ready, err := nodes.Start(ctx, setup)
	aws := <-clouds
	if err := errors.Join(err, aws.err); err != nil {
		return interrupted(ctx, err)
	}
	return instance.Serve(ctx, map[string]any{
		"url":         ready.URL,
		"ca":          ready.CA,
		"kubeconfig":  ready.Kubeconfig,
		"hostAddress": nodes.HostAddress,
		"registry": map[string]any{
			"url": store.URL, "ca": store.CA, "proxy": store.Proxy, "access": store.Access, "accessLog": store.AccessLog,
		},
		"moto": aws.endpoints,
		"dir":  frame.Dir,
		"logs": frame.Logs,
	}, kubeletCommands(nodes), nodes.Process, aws.process)
}

// kubeletCommands start the kubelet anew with the words as further flags.
func kubeletCommands(nodes *cluster.Cluster) instance.Commands {
	return instance.Commands{
		"kubelet": func(ctx context.Context, flags []string) (map[string]any, error) {
			return nil, nodes.RestartKubelet(ctx, flags)
		},
	}
}
