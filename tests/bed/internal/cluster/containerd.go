package cluster

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"pullpass/bed/internal/images"
	"pullpass/bed/internal/instance"
)

const (
	containerdSocket = "/run/containerd/containerd.sock"
	// pauseImage is the sandbox image; it is imported, never pulled.
	pauseImage = "pullpass.bed/pause:1"
	// overlayMagic is the file system type of overlayfs (statfs(2)).
	overlayMagic = 0x794c7630
	// importDeadline covers containerd's start and the import.
	importDeadline = 60 * time.Second
)

// containerdConfig is for containerd 2.4. It may not lower OOM scores where
// CAP_SYS_RESOURCE is missing, so restrict_oom_score_adj is on.
const containerdConfig = `version = 4
root = %[1]q
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri", "io.containerd.internal.v1.tracing"]

[plugins.'io.containerd.server.v1.grpc']
  address = %[2]q
[plugins.'io.containerd.server.v1.ttrpc']
  address = "/run/containerd/containerd.sock.ttrpc"

[plugins.'io.containerd.cri.v1.images']
  snapshotter = %[3]q
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = %[4]q
  [plugins.'io.containerd.cri.v1.images'.registry]
    config_path = %[5]q

[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = [%[6]q]
    conf_dir = %[7]q
    use_internal_loopback = true
  [plugins.'io.containerd.cri.v1.runtime'.containerd]
    default_runtime_name = "runc"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      snapshotter = %[3]q
      [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
        BinaryName = %[8]q
        SystemdCgroup = false
`

// cniConfig gives each Pod a veth of its own; this machine has a route back,
// so nothing is masqueraded.
const cniConfig = `{
  "cniVersion": "1.0.0",
  "name": "bed",
  "plugins": [
    {"type": "ptp", "ipMasq": false, "ipam": {
      "type": "host-local", "dataDir": "/run/cni",
      "ranges": [[{"subnet": %q}]], "routes": [{"dst": "0.0.0.0/0"}]}}
  ]
}
`

// hostsConfig sends the images of a host to a mirror
// (https://github.com/containerd/containerd/blob/main/docs/hosts.md).
const hostsConfig = `server = %[1]q
[host.%[1]q]
  capabilities = ["pull", "resolve"]
  ca = %[2]q
`

func (n *node) startContainerd() error {
	plugins, err := cniFolder()
	if err != nil {
		return err
	}
	runc, err := findProgram("runc")
	if err != nil {
		return err
	}
	if _, err := n.write(fmt.Sprintf(cniConfig, n.Link.Pods), "containerd", "net.d", "10-bed.conflist"); err != nil {
		return err
	}
	for _, mirror := range n.Mirrors {
		text := fmt.Sprintf(hostsConfig, mirror.URL, mirror.CA)
		if _, err := n.write(text, "containerd", "certs.d", mirror.folder(), "hosts.toml"); err != nil {
			return err
		}
	}
	config, err := n.write(fmt.Sprintf(containerdConfig,
		n.frame.Path("containerd", "root"), containerdSocket, snapshotter(n.frame.Dir), pauseImage,
		n.frame.Path("containerd", "certs.d"), plugins, n.frame.Path("containerd", "net.d"), runc,
	), "containerd", "config.toml")
	if err != nil {
		return err
	}
	_, err = n.start("containerd", "--config", config)
	return err
}

// folder is the name of the host's folder below certs.d: `:` before a port
// becomes `_` there.
func (m Mirror) folder() string {
	if host, port, err := net.SplitHostPort(m.Host); err == nil {
		return host + "_" + port + "_"
	}
	return m.Host
}

// snapshotter is overlayfs but where the folder itself lies on an overlay,
// which the kernel does not stack.
func snapshotter(dir string) string {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(dir, &stat); err == nil && stat.Type == overlayMagic {
		return "native"
	}
	return "overlayfs"
}

// importImages waits for containerd and gives it the sandbox image and those
// that were asked for.
func (n *node) importImages(ctx context.Context) error {
	pause, err := instance.Binary("pause")
	if err != nil {
		return err
	}
	archive := n.frame.Path("containerd", "pause.tar")
	if err := images.WriteLayoutOf(archive, images.Spec{Binary: pause}, pauseImage); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, importDeadline)
	defer cancel()
	for _, file := range append([]string{archive}, n.Archives...) {
		if err := n.importArchive(ctx, file); err != nil {
			return fmt.Errorf("import %s: %w", file, err)
		}
	}
	return os.Remove(archive)
}

func (n *node) importArchive(ctx context.Context, archive string) error {
	for {
		command, err := n.command("ctr", "--address", containerdSocket, "--namespace", "k8s.io",
			"images", "import", "--local", "--snapshotter", snapshotter(n.frame.Dir), archive)
		if err != nil {
			return err
		}
		output, err := command.CombinedOutput()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(output)))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// command is a program of the bed that finds its neighbours and root's tools.
func (n *node) command(name string, args ...string) (*exec.Cmd, error) {
	program, err := instance.Binary(name)
	if err != nil {
		return nil, err
	}
	command := exec.Command(program, args...)
	command.Dir = n.frame.Dir
	command.Env = []string{
		"PATH=" + filepath.Dir(program) + ":" + os.Getenv("PATH") + ":/usr/local/sbin:/usr/sbin:/sbin",
		"HOME=" + n.frame.Dir,
	}
	return command, nil
}
