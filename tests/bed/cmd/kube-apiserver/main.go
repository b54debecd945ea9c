// Command kube-apiserver is upstream's API server with etcd in the same
// process: one start, one kill, no port for etcd (it listens on a socket in
// its data folder).
//
//	kube-apiserver --embedded-etcd DIR [kube-apiserver's own flags]
package main

import (
	"fmt"
	"os"

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // client-go metrics
	_ "k8s.io/component-base/metrics/prometheus/version"  // version metric
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	if len(os.Args) < 3 || os.Args[1] != "--embedded-etcd" {
		fmt.Fprintln(os.Stderr, "usage: kube-apiserver --embedded-etcd DIR [kube-apiserver's own flags]")
		os.Exit(2)
	}
	endpoint, err := startEtcd(os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, "etcd:", err)
		os.Exit(1)
	}
	command := app.NewAPIServerCommand()
	command.SetArgs(append([]string{"--etcd-servers=" + endpoint}, os.Args[3:]...))
	os.Exit(cli.Run(command))
}
