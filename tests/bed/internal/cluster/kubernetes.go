package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	"pullpass/bed/internal/apiserver"
)

const (
	apiPort = 6443
	// nodeName is the name of the only node.
	nodeName = "bed"
	// kubeletRoot is short: paths of sockets below it must fit 108 bytes.
	kubeletRoot = "/run/kubelet"
	// nodeDeadline is from the start of the kubelet until it is ready.
	nodeDeadline = 90 * time.Second
	// migration has StorageVersionMigrations acted on, which are off by
	// default.
	migration = "--feature-gates=StorageVersionMigrator=true"
)

// kubeletConfig: cgroups of version 1 are still accepted, images are never
// collected, pulls run side by side, and a Pod's /etc/resolv.conf names an
// address that refuses at once, since there is no cluster DNS. A container
// that ended is started again a second later, however often. How often mounted
// Secrets are looked at is given.
const kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: %[1]q}
authorization: {mode: Webhook}
cgroupDriver: cgroupfs
cgroupRoot: %[2]q
cgroupsPerQOS: true
clusterDNS: ["127.0.0.1"]
clusterDomain: cluster.local
containerRuntimeEndpoint: "unix://%[3]s"
crashLoopBackOff: {maxContainerRestartPeriod: 1s}
enforceNodeAllocatable: [pods]
eventRecordQPS: 0
evictionHard: {memory.available: 50Mi, nodefs.available: 1%%, imagefs.available: 1%%}
failCgroupV1: false
failSwapOn: false
featureGates: {KubeletCrashLoopBackOffMax: true}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
registryPullQPS: 0
resolvConf: %[4]q
serializeImagePulls: false
syncFrequency: %[5]s
volumePluginDir: /run/kubelet-volume-plugins
`

// startAPIServer also prepares the certificate by which the API server
// proves itself to the kubelet (`kubectl logs` and `exec`).
func (n *node) startAPIServer(ctx context.Context) error {
	certificate, key := n.frame.Path("kubernetes", "kubelet-client.crt"), n.frame.Path("kubernetes", "kubelet-client.key")
	api, err := apiserver.New(n.frame, apiserver.Options{
		Bind:      "0.0.0.0",
		Address:   n.Link.Node,
		Port:      apiPort,
		OnFailure: n.failed,
		Args: []string{
			"--kubelet-preferred-address-types=InternalIP",
			"--kubelet-client-certificate=" + certificate,
			"--kubelet-client-key=" + key,
			migration,
			"--runtime-config=storagemigration.k8s.io/v1beta1=true",
		},
	})
	if err != nil {
		return err
	}
	n.api = api
	config, err := api.WriteKubeconfig("kubelet-client", "kube-apiserver-kubelet-client", "system:masters")
	if err != nil {
		return err
	}
	if err := splitKubeconfig(config, certificate, key); err != nil {
		return err
	}
	return api.Start(ctx)
}

// splitKubeconfig stores the client certificate of a kubeconfig as files.
func splitKubeconfig(path, certificate, key string) error {
	config, err := clientcmd.LoadFromFile(path)
	if err != nil {
		return err
	}
	for _, user := range config.AuthInfos {
		return errors.Join(
			os.WriteFile(certificate, user.ClientCertificateData, 0o644),
			os.WriteFile(key, user.ClientKeyData, 0o600),
		)
	}
	return fmt.Errorf("%s names no user", path)
}

func (n *node) startControlPlane() error {
	controllers, err := n.api.WriteKubeconfig("controller-manager", "system:kube-controller-manager")
	if err != nil {
		return err
	}
	scheduler, err := n.api.WriteKubeconfig("scheduler", "system:kube-scheduler")
	if err != nil {
		return err
	}
	proxy, err := n.api.WriteKubeconfig("proxy", "system:kube-proxy")
	if err != nil {
		return err
	}
	// Each controller first makes itself a ServiceAccount and a token; at the
	// default rate that alone takes 4 s.
	_, controllersErr := n.start("kube-controller-manager",
		"--kubeconfig="+controllers, "--authentication-kubeconfig="+controllers, "--authorization-kubeconfig="+controllers,
		"--leader-elect=false", "--kube-api-qps=1000", "--kube-api-burst=1000", "--use-service-account-credentials=true",
		"--service-account-private-key-file="+n.api.SigningKey, "--root-ca-file="+n.api.CA,
		"--service-cluster-ip-range="+apiserver.ServiceRange, "--profiling=false", migration)
	_, schedulerErr := n.start("kube-scheduler",
		"--kubeconfig="+scheduler, "--authentication-kubeconfig="+scheduler, "--authorization-kubeconfig="+scheduler,
		"--leader-elect=false", "--profiling=false")
	// Zero leaves the machine's connection tracking limits alone.
	_, proxyErr := n.start("kube-proxy",
		"--kubeconfig="+proxy, "--hostname-override="+nodeName, "--proxy-mode=iptables", "--cluster-cidr="+n.Link.Pods,
		"--iptables-localhost-nodeports=false", "--conntrack-max-per-core=0",
		"--conntrack-tcp-timeout-established=0s", "--conntrack-tcp-timeout-close-wait=0s")
	return errors.Join(controllersErr, schedulerErr, proxyErr)
}

// firstKubelet starts it as usual; its end ends the cluster.
func (n *node) firstKubelet() error {
	if err := n.startKubelet(nil); err != nil {
		return err
	}
	n.kubelet.OnFailure(n.failed)
	return nil
}

// startKubelet gives it these flags besides.
func (n *node) startKubelet(flags []string) error {
	kubeconfig, err := n.api.WriteKubeconfig("kubelet", "system:node:"+nodeName, "system:nodes")
	if err != nil {
		return err
	}
	resolv, err := n.write("nameserver 127.0.0.1\n", "kubelet", "resolv.conf")
	if err != nil {
		return err
	}
	config, err := n.write(fmt.Sprintf(kubeletConfig, n.api.CA, n.Cgroup, containerdSocket, resolv, n.SyncFrequency), "kubelet", "config.yaml")
	if err != nil {
		return err
	}
	args := append([]string{"--config=" + config, "--kubeconfig=" + kubeconfig, "--root-dir=" + kubeletRoot,
		"--cert-dir=" + n.frame.Path("kubelet", "pki"), "--hostname-override=" + nodeName, "--node-ip=" + n.Link.Node}, flags...)
	n.kubelet, err = n.launch("kubelet", args...)
	return err
}

// awaitNode returns when the node takes Pods: it is Ready, untainted, and
// `default` has its ServiceAccount.
func (n *node) awaitNode(ctx context.Context) error {
	client, err := n.api.Client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, nodeDeadline)
	defer cancel()
	for {
		found, err := client.CoreV1().Nodes().Get(ctx, nodeName, metav1.GetOptions{})
		if err == nil {
			err = unready(found)
		}
		if err == nil {
			_, err = client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		}
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: see kubelet.log and containerd.log", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func unready(found *corev1.Node) error {
	for _, taint := range found.Spec.Taints {
		return fmt.Errorf("node %s is tainted %s", found.Name, taint.Key)
	}
	for _, condition := range found.Status.Conditions {
		if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
			return nil
		}
		if condition.Type == corev1.NodeReady {
			return fmt.Errorf("node %s is not ready: %s", found.Name, condition.Message)
		}
	}
	return fmt.Errorf("node %s has no status yet", found.Name)
}
