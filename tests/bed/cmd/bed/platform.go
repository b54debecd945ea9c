package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"time"

	"pullpass/bed/internal/instance"
	"pullpass/bed/internal/platform"
)

func init() {
	register(verb{
		name: "platform",
		args: "--kubeconfig FILE [flags] eks|azure-1.5|azure",
		help: "the webhook of a cloud that gives Pods their tokens: answers where and by whose certificate",
		run:  runPlatform,
	})
}

// azureTenant is the tenant of the clusters that Azure's webhook runs in.
const azureTenant = "22222222-2222-2222-2222-222222222222"

func runPlatform(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("bed platform", flag.ContinueOnError)
	kubeconfig := flags.String("kubeconfig", "", "the `FILE` by which ServiceAccounts are read")
	var eks platform.EKS
	flags.Var((*list)(&eks.Associations), "association", "eks: `NAMESPACE/SERVICEACCOUNT` of EKS Pod Identity (repeatable)")
	flags.StringVar(&eks.CredentialsURI, "credentials-uri", "http://169.254.170.23/v1/credentials", "eks: `URI` of the agent")
	flags.StringVar(&eks.Region, "region", "", "eks: the `REGION` that Pods are told")
	flags.BoolVar(&eks.RegionalSTS, "regional-sts", false, "eks: Pods are told to use the region's AWS STS")
	if err := parse(flags, args, "the cloud"); err != nil {
		return err
	}
	frame, err := instance.New("platform")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, frame.Close()) }()
	var webhook platform.Webhook
	switch cloud := flags.Arg(0); cloud {
	case "eks":
		webhook = eks
	case "azure-1.5":
		webhook = platform.OldAzure{Tenant: azureTenant}
	case "azure":
		return serveAzure(ctx, frame, *kubeconfig)
	default:
		return exitError{2, fmt.Sprintf("knows no %q: see --help", cloud)}
	}
	server, err := platform.Start(frame.Dir, *kubeconfig, webhook)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	return instance.Serve(ctx, map[string]any{"url": server.URL, "ca": server.CA}, nil)
}

// serveAzure runs Azure's own webhook, which is a program of its own.
func serveAzure(ctx context.Context, frame *instance.Instance, kubeconfig string) error {
	program, err := instance.Binary("azure-workload-identity")
	if err != nil {
		return err
	}
	ca, certificate, key, err := platform.WriteCertificates(frame.Dir)
	if err != nil {
		return err
	}
	ready := frame.Path("url")
	command := exec.Command(program, "--kubeconfig", kubeconfig, "--tls-cert", certificate, "--tls-key", key, "--ready", ready)
	command.Env = slices.Concat(os.Environ(), []string{"AZURE_TENANT_ID=" + azureTenant})
	child, err := frame.Start("azure-workload-identity", command)
	if err != nil {
		return err
	}
	var url []byte
	err = child.WaitReady(ctx, 30*time.Second, func(context.Context) error {
		url, err = os.ReadFile(ready)
		return err
	})
	if err != nil {
		return err
	}
	return instance.Serve(ctx, map[string]any{"url": string(url), "ca": ca}, nil, child)
}
