package cluster

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// cgroupPrefix starts the name of every cluster's own cgroup; the rest is the
// cluster's number.
const cgroupPrefix = "pullpass-bed-"

// needed are the controllers without which the kubelet does not start
// (https://kubernetes.io/docs/concepts/architecture/cgroups/).
var needed = []string{"cpu", "cpuset", "memory", "pids"}

// hierarchy is one mounted cgroup tree; version 2 has a single one.
type hierarchy struct {
	mount       string
	unified     bool
	controllers []string
}

// cgroupHierarchies lists what is mounted (proc_pid_mountinfo(5)).
func cgroupHierarchies() ([]hierarchy, error) {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var found []hierarchy
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		before, after, _ := strings.Cut(lines.Text(), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if len(left) < 5 || len(right) < 3 {
			continue
		}
		mount := left[4]
		switch right[0] {
		case "cgroup":
			found = append(found, hierarchy{mount: mount, controllers: strings.Split(right[2], ",")})
		case "cgroup2":
			listed, err := os.ReadFile(filepath.Join(mount, "cgroup.controllers"))
			if err != nil {
				return nil, err
			}
			found = append(found, hierarchy{mount: mount, unified: true, controllers: strings.Fields(string(listed))})
		}
	}
	return found, lines.Err()
}

// unfitCgroups says what speaks against a node, "" when nothing does.
func unfitCgroups(hierarchies []hierarchy) string {
	for _, controller := range needed {
		offers := func(h hierarchy) bool { return slices.Contains(h.controllers, controller) }
		if !slices.ContainsFunc(hierarchies, offers) {
			return fmt.Sprintf("no mounted cgroup hierarchy has the %s controller", controller)
		}
	}
	return ""
}

// makeCgroup makes the cluster's own cgroup in every hierarchy, ready for the
// kubelet to make its own below, and returns its path as the kubelet wants it.
func makeCgroup(number int) (string, error) {
	hierarchies, err := cgroupHierarchies()
	if err != nil {
		return "", err
	}
	name := fmt.Sprintf("%s%d", cgroupPrefix, number)
	for _, h := range hierarchies {
		if err := h.add(name); err != nil {
			return "", err
		}
	}
	return "/" + name, nil
}

func (h hierarchy) add(name string) error {
	dir := filepath.Join(h.mount, name)
	if h.unified && len(h.controllers) > 0 {
		// A cgroup that holds processes cannot hand controllers down, but for
		// the real root (https://docs.kernel.org/admin-guide/cgroup-v2.html).
		if err := handDown(h.mount, h.controllers); err != nil {
			return &DeniedError{fmt.Sprintf("cgroup v2: %s cannot hand controllers down to a cgroup of its own (%v): start it from the root cgroup", h.mount, err)}
		}
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return &DeniedError{err.Error()}
	}
	if h.unified && len(h.controllers) > 0 {
		return handDown(dir, h.controllers)
	}
	if slices.Contains(h.controllers, "cpuset") {
		// In version 1 a new cpuset is empty and takes no process.
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			value, err := os.ReadFile(filepath.Join(h.mount, file))
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(dir, file), value, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

func handDown(dir string, controllers []string) error {
	listed, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	for _, controller := range strings.Fields(string(listed)) {
		if !slices.Contains(needed, controller) && controller != "hugetlb" && controller != "io" {
			continue
		}
		err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+controller), 0o644)
		if err != nil && slices.Contains(needed, controller) {
			return err
		}
	}
	return nil
}

// removeCgroup removes a cluster's cgroup everywhere; its processes are dead
// or dying, so it waits for them a little.
func removeCgroup(number int) error {
	hierarchies, err := cgroupHierarchies()
	if err != nil {
		return err
	}
	var failures []error
	for _, h := range hierarchies {
		failures = append(failures, removeTree(filepath.Join(h.mount, fmt.Sprintf("%s%d", cgroupPrefix, number))))
	}
	return errors.Join(failures...)
}

// removeTree removes a cgroup and those below it, deepest first.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() {
			if err := removeTree(filepath.Join(dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := syscall.Rmdir(dir)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if !errors.Is(err, syscall.EBUSY) || time.Now().After(deadline) {
			return &os.PathError{Op: "rmdir", Path: dir, Err: err}
		}
	}
}

// clearCgroups removes what clusters that died left behind: every cgroup
// whose number has no device any more.
func clearCgroups(alive func(number int) bool) error {
	hierarchies, err := cgroupHierarchies()
	if err != nil {
		return err
	}
	for _, h := range hierarchies {
		dirs, err := filepath.Glob(filepath.Join(h.mount, cgroupPrefix+"*"))
		if err != nil {
			return err
		}
		for _, dir := range dirs {
			var number int
			if _, err := fmt.Sscanf(filepath.Base(dir), cgroupPrefix+"%d", &number); err != nil || alive(number) {
				continue
			}
			if err := removeTree(dir); err != nil {
				return err
			}
		}
	}
	return nil
}
