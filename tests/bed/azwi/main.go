// Command azure-workload-identity is Azure's webhook for workload identity
// (1.6.0), its handler in a server of our own: on loopback and a free port,
// with a certificate that is given, and a kubeconfig instead of a Pod.
package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"net/http"
	"os"

	"github.com/Azure/azure-workload-identity/pkg/webhook"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "the `FILE` by which ServiceAccounts are read")
	certificate := flag.String("tls-cert", "", "`FILE` of the serving certificate")
	key := flag.String("tls-key", "", "`FILE` of its key")
	ready := flag.String("ready", "", "`FILE` that gets the URL when it listens")
	flag.Parse()
	if err := run(*kubeconfig, *certificate, *key, *ready); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(kubeconfig, certificate, key, ready string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	// Reads through: a cache may be behind a ServiceAccount that has just come.
	reader, err := client.New(config, client.Options{Scheme: scheme.Scheme})
	if err != nil {
		return err
	}
	mutator, err := webhook.NewPodMutator(reader, reader, "", scheme.Scheme, config, "", "")
	if err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return err
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		return err
	}
	http.Handle("/mutate-v1-pod", &admission.Webhook{Handler: mutator})
	url := fmt.Sprintf("https://%s/mutate-v1-pod", listener.Addr())
	// Renamed into its place, so that nobody reads half of it.
	if err := os.WriteFile(ready+".new", []byte(url), 0o600); err != nil {
		return err
	}
	if err := os.Rename(ready+".new", ready); err != nil {
		return err
	}
	return http.Serve(listener, nil)
}
