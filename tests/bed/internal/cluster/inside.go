package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"pullpass/bed/internal/apiserver"
	"pullpass/bed/internal/instance"
)

// settingsDeadline is how long the outer side may take to make the wire.
const settingsDeadline = 30 * time.Second

// node is the inner side's state.
type node struct {
	frame *instance.Instance
	settings
	api     *apiserver.Server
	kubelet *instance.Child
	failed  context.CancelCauseFunc
}

// Inside brings everything up inside the namespaces, tells the outer side, and
// returns when a part ends by itself or ctx does.
func Inside(dir string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	ctx, failed := context.WithCancelCause(ctx)
	n := &node{frame: &instance.Instance{Dir: dir, Logs: filepath.Join(dir, "logs")}, failed: failed}
	if err := n.up(ctx); err != nil {
		return n.because(ctx, err)
	}
	<-ctx.Done()
	return n.because(ctx, nil)
}

// because prefers the part that ended to the error that its end led to.
func (n *node) because(ctx context.Context, err error) error {
	var ended *instance.EndedError
	if errors.As(context.Cause(ctx), &ended) {
		return ended
	}
	return err
}

func (n *node) up(ctx context.Context) error {
	if err := n.awaitSettings(ctx); err != nil {
		return err
	}
	steps := []struct {
		what string
		run  func() error
	}{
		{"mounts", n.mounts},
		{"network", n.network},
		{"containerd", n.startContainerd},
		{"API server", func() error { return n.startAPIServer(ctx) }},
		{"control plane", n.startControlPlane},
		{"kubelet", n.firstKubelet},
		{"images", func() error { return n.importImages(ctx) }},
		{"node", func() error { return n.awaitNode(ctx) }},
		{"control", func() error { return n.serveControl(ctx) }},
	}
	for _, step := range steps {
		begin := time.Now()
		if err := step.run(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
		fmt.Fprintf(os.Stderr, "%s %s: %.2f s\n", time.Now().UTC().Format("15:04:05.000"), step.what, time.Since(begin).Seconds())
	}
	return writeJSON(n.frame.Path(readyFile), Ready{URL: n.api.URL, CA: n.api.CA, Kubeconfig: n.api.Kubeconfig})
}

func (n *node) awaitSettings(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settingsDeadline)
	defer cancel()
	for {
		err := readJSON(n.frame.Path(settingsFile), &n.settings)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no settings from the outer side: %w", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// kubeletTunables are the kernel settings that the kubelet would change for
// the whole machine
// (https://kubernetes.io/docs/tasks/administer-cluster/sysctl-cluster/). It
// finds these values in place and leaves the machine's own alone.
var kubeletTunables = map[string]int{
	"vm/overcommit_memory":      1,
	"vm/panic_on_oom":           0,
	"kernel/panic":              10,
	"kernel/panic_on_oops":      1,
	"kernel/keys/root_maxkeys":  1000000,
	"kernel/keys/root_maxbytes": 25000000,
}

// mounts keeps what the node's programs write at fixed places away from the
// machine's own folders.
func (n *node) mounts() error {
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	for _, fixed := range []string{"/var/log", cniCache, kubeletRoot} {
		own := n.frame.Path("root", fixed)
		if err := errors.Join(os.MkdirAll(own, 0o755), os.MkdirAll(fixed, 0o755)); err != nil {
			return err
		}
		if err := bind(own, fixed); err != nil {
			return err
		}
	}
	for name, value := range kubeletTunables {
		own := n.frame.Path("root", "sys", name)
		if err := os.MkdirAll(filepath.Dir(own), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(own, []byte(strconv.Itoa(value)+"\n"), 0o644); err != nil {
			return err
		}
		if err := bind(own, filepath.Join("/proc/sys", name)); err != nil {
			return err
		}
	}
	return nil
}

func bind(from, to string) error {
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s over %s: %w", from, to, err)
	}
	return nil
}

// network sets up loopback, the node's end of the wire and the way out.
func (n *node) network() error {
	if err := raise("lo", ""); err != nil {
		return err
	}
	if err := raise(nodeDevice, n.Link.Node); err != nil {
		return err
	}
	// Service addresses are rewritten after routing: without a default route
	// they are unreachable before that.
	if err := netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(n.Link.Host)}); err != nil {
		return fmt.Errorf("default route: %w", err)
	}
	return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1\n"), 0o644)
}

// start runs a program of the bed; its end ends the cluster.
func (n *node) start(name string, args ...string) (*instance.Child, error) {
	child, err := n.launch(name, args...)
	if err == nil {
		child.OnFailure(n.failed)
	}
	return child, err
}

// launch runs a program of the bed that may end.
func (n *node) launch(name string, args ...string) (*instance.Child, error) {
	command, err := n.command(name, args...)
	if err != nil {
		return nil, err
	}
	return n.frame.Start(name, command)
}

// write makes a file of the instance, with the folders above it.
func (n *node) write(content string, elements ...string) (string, error) {
	path := n.frame.Path(elements...)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	return path, os.WriteFile(path, []byte(content), 0o600)
}
