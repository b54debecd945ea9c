package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"

	"pullpass/bed/internal/apiserver"
	"pullpass/bed/internal/instance"
)

func init() {
	register(verb{
		name: "api",
		args: "[--verbosity N] [--admission-config FILE]",
		help: "a kube-apiserver with embedded etcd on loopback; commands on stdin: stop, start, restart, kubeconfig USER GROUP…, namespace NAME",
		run:  runAPI,
	})
}

func runAPI(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("bed api", flag.ContinueOnError)
	verbosity := flags.Int("verbosity", 0, "log verbosity `N` of kube-apiserver (klog, 0 to 9)")
	admission := flags.String("admission-config", "", "an AdmissionConfiguration `FILE`: how kube-apiserver shows itself to webhooks")
	if err := parse(flags, args); err != nil {
		return err
	}
	more := []string{
		"--v=" + strconv.Itoa(*verbosity),
		// Nobody reaches the `kubernetes` Service here, and a loopback
		// address may not stand in its endpoints.
		"--endpoint-reconciler-type=none",
	}
	if *admission != "" {
		more = append(more, "--admission-control-config-file="+*admission)
	}
	frame, err := instance.New("api")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, frame.Close()) }()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	server, err := apiserver.New(frame, apiserver.Options{
		Version:   os.Getenv("BED_KUBERNETES"),
		OnFailure: fail,
		Args:      more,
	})
	if err != nil {
		return err
	}
	// Nothing here is worth the second that a graceful end takes.
	defer func() { _ = server.Stop() }()
	if err := server.Start(ctx); err != nil {
		return interrupted(ctx, err)
	}
	if err := server.EnsureNamespace(ctx, "default"); err != nil {
		return interrupted(ctx, fmt.Errorf("make the ServiceAccount default/default: %w", err))
	}
	kubernetes, err := server.Version()
	if err != nil {
		return interrupted(ctx, err)
	}
	err = instance.Serve(ctx, map[string]any{
		"url":        server.URL,
		"kubernetes": kubernetes,
		"kubeconfig": server.Kubeconfig,
		"ca":         server.CA,
		"dir":        frame.Dir,
		"logs":       frame.Logs,
		"pid":        os.Getpid(),
	}, apiCommands(server))
	var ended *instance.EndedError
	if errors.As(context.Cause(ctx), &ended) {
		return ended
	}
	return err
}

// apiCommands are the commands that `bed api` takes on stdin.
func apiCommands(server *apiserver.Server) instance.Commands {
	users := 0
	return instance.Commands{
		"stop": func(context.Context, []string) (map[string]any, error) {
			return nil, server.Stop()
		},
		"start": func(ctx context.Context, _ []string) (map[string]any, error) {
			return nil, server.Start(ctx)
		},
		"restart": func(ctx context.Context, _ []string) (map[string]any, error) {
			if err := server.Stop(); err != nil {
				return nil, err
			}
			return nil, server.Start(ctx)
		},
		"kubeconfig": func(_ context.Context, words []string) (map[string]any, error) {
			if len(words) == 0 {
				return nil, errors.New("write it as: kubeconfig USER [GROUP]…")
			}
			users++
			path, err := server.WriteKubeconfig(fmt.Sprintf("user-%d", users), words[0], words[1:]...)
			return map[string]any{"kubeconfig": path}, err
		},
		"namespace": func(ctx context.Context, words []string) (map[string]any, error) {
			if len(words) != 1 {
				return nil, errors.New("write it as: namespace NAME")
			}
			return nil, server.EnsureNamespace(ctx, words[0])
		},
	}
}

// interrupted drops an error that is only the echo of SIGINT or SIGTERM.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
