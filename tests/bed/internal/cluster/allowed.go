package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// DeniedError says why this machine does not allow a node.
type DeniedError struct{ reason string }

func (e *DeniedError) Error() string { return "this machine allows no Kubernetes node: " + e.reason }

// namespaces are those that a cluster has of its own: ending its first
// process ends every process and every mount of it.
const namespaces = unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID

// cniFolders are where package managers put the CNI plugins.
var cniFolders = []string{"/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni", "/usr/lib/cni/bin"}

// Check returns a DeniedError when the machine does not allow a node, and
// another error when only programs are missing.
func Check() error {
	if os.Geteuid() != 0 {
		return &DeniedError{"that needs root"}
	}
	hierarchies, err := cgroupHierarchies()
	if err != nil {
		return err
	}
	if reason := unfitCgroups(hierarchies); reason != "" {
		return &DeniedError{reason}
	}
	probe := exec.Command("/proc/self/exe", "help")
	probe.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces}
	if err := probe.Run(); err != nil {
		return &DeniedError{fmt.Sprintf("no network, mount and process namespaces of its own (%v)", err)}
	}
	var missing []string
	for _, program := range []string{"runc", "iptables", "iptables-restore", "iptables-save"} {
		if _, err := findProgram(program); err != nil {
			missing = append(missing, program)
		}
	}
	if _, err := cniFolder(); err != nil {
		missing = append(missing, "CNI plugins")
	}
	if len(missing) > 0 {
		return fmt.Errorf("not installed: %s: `make doctor` prints the commands that install them", strings.Join(missing, ", "))
	}
	return nil
}

// findProgram looks in PATH and where Debian keeps root's programs.
func findProgram(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, folder := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(folder, name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed: `make doctor` prints the command that installs it", name)
}

// cniFolder is the first folder that holds the plugins which a cluster uses.
func cniFolder() (string, error) {
	for _, folder := range cniFolders {
		_, ptp := os.Stat(filepath.Join(folder, "ptp"))
		_, local := os.Stat(filepath.Join(folder, "host-local"))
		if errors.Join(ptp, local) == nil {
			return folder, nil
		}
	}
	return "", errors.New("the CNI plugins ptp and host-local are not installed: `make doctor` prints the command that installs them")
}
