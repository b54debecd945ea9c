// Package cluster runs a whole Kubernetes cluster with one node in network,
// mount and process namespaces of its own: API server with etcd,
// controller-manager, scheduler, kubelet, kube-proxy and containerd. Ending
// its first process ends every process and every mount of it.
//
// This machine and the node are joined by a veth pair, so that a process here
// reaches the API server, and the API server reaches a webhook here.
package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"pullpass/bed/internal/instance"
)

const (
	// readyDeadline is generous: a cold page cache on a slow disk.
	readyDeadline = 120 * time.Second
	settingsFile  = "settings.json"
	readyFile     = "ready.json"
	// firstWord and secondWord are how bed calls itself for the inner side.
	firstWord, secondWord = "cluster", "inside"
)

// Mirror says where the node pulls the images of a host.
type Mirror struct {
	// Host is the host of image references, with its port if there is one.
	Host string `json:"host"`
	// URL is the registry that is asked instead.
	URL string `json:"url"`
	// CA is the path of the authority of its certificate.
	CA string `json:"ca"`
}

// settings are what the outer side tells the inner one.
type settings struct {
	Link   link   `json:"link"`
	Cgroup string `json:"cgroup"`
	Setup
}

// Setup says what the node finds.
type Setup struct {
	Mirrors []Mirror `json:"mirrors"`
	// Archives are tars of OCI layouts whose images are there from the start.
	Archives []string `json:"archives"`
	// SyncFrequency is the kubelet's
	// (https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/).
	SyncFrequency time.Duration `json:"syncFrequency"`
}

// Ready is what the inner side tells the outer one.
type Ready struct {
	// URL of the API server, for this machine and for the node.
	URL string `json:"url"`
	// CA is the path of the cluster's authority.
	CA string `json:"ca"`
	// Kubeconfig is the path of the administrator's.
	Kubeconfig string `json:"kubeconfig"`
}

// Cluster is a cluster that is being started or runs.
type Cluster struct {
	// HostAddress is this machine's address as the cluster sees it.
	HostAddress string
	// Process is the first process inside.
	Process *instance.Child

	frame  *instance.Instance
	link   link
	cgroup string
	// madeCNI says that the folder for CNI's cache was not there before.
	madeCNI bool
}

// cniCache is fixed in libcni; the cluster mounts a folder of its own over it.
const cniCache = "/var/lib/cni"

// New makes the namespaces and the wire into them. What a cluster that died
// left behind is cleared first. It needs Start next, and Close in any case.
func New(frame *instance.Instance) (*Cluster, error) {
	if err := Check(); err != nil {
		return nil, err
	}
	if err := clearCgroups(linkAlive); err != nil {
		return nil, fmt.Errorf("clear what an earlier cluster left: %w", err)
	}
	cluster := &Cluster{frame: frame, link: link{Number: -1}}
	if _, err := os.Stat(cniCache); err != nil {
		if err := os.MkdirAll(cniCache, 0o755); err != nil {
			return nil, err
		}
		cluster.madeCNI = true
	}
	if err := cluster.enter(); err != nil {
		return nil, errors.Join(err, cluster.Close())
	}
	return cluster, nil
}

func (c *Cluster) enter() error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	command := exec.Command(program, firstWord, secondWord, c.frame.Dir)
	command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces}
	if c.Process, err = c.frame.Start("node", command); err != nil {
		return &DeniedError{err.Error()}
	}
	if c.link, err = connect(c.Process.PID()); err != nil {
		return err
	}
	c.HostAddress = c.link.Host
	c.cgroup, err = makeCgroup(c.link.Number)
	return err
}

// Start brings the cluster up; it returns when the node is ready.
func (c *Cluster) Start(ctx context.Context, setup Setup) (Ready, error) {
	err := writeJSON(c.frame.Path(settingsFile), settings{Link: c.link, Cgroup: c.cgroup, Setup: setup})
	if err != nil {
		return Ready{}, err
	}
	var ready Ready
	err = c.Process.WaitReady(ctx, readyDeadline, func(context.Context) error {
		return readJSON(c.frame.Path(readyFile), &ready)
	})
	return ready, err
}

// Close ends everything inside and removes what is left outside.
func (c *Cluster) Close() error {
	var failures []error
	if c.Process != nil {
		c.Process.Kill()
	}
	if c.link.Number >= 0 {
		failures = append(failures, removeCgroup(c.link.Number), c.link.remove())
	}
	if c.madeCNI {
		_ = os.Remove(cniCache) // not empty: somebody else uses it by now
	}
	return errors.Join(failures...)
}

// writeJSON writes in one step, so that a reader sees all or nothing.
func writeJSON(path string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func readJSON(path string, value any) error {
	text, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return err
	}
	return json.Unmarshal(text, value)
}
