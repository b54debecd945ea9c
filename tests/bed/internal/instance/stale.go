package instance

import (
	"bufio"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const lockName = "lock"

// lockRun makes clearing and creating one step, so that two starts at once do
// not take each other's half-made folder for a dead one.
func lockRun(run string) (unlock func(), err error) {
	file, err := os.OpenFile(run+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		file.Close()
		return nil, err
	}
	return func() { file.Close() }, nil
}

// clearStale removes the folders under run whose instance no longer lives.
// Another user's folders are left alone.
func clearStale(run string) error {
	entries, err := os.ReadDir(run)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		dir := filepath.Join(run, entry.Name())
		if alive(dir) {
			continue
		}
		if err := removeTree(dir); err != nil && !errors.Is(err, os.ErrPermission) {
			return err
		}
	}
	return nil
}

func alive(dir string) bool {
	lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR, 0)
	if err != nil {
		return errors.Is(err, os.ErrPermission)
	}
	defer lock.Close()
	return syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil
}

// removeTree unmounts what is mounted below dir, deepest first, and removes it.
func removeTree(dir string) error {
	mounts, err := mountsBelow(dir)
	if err != nil {
		return err
	}
	for n := len(mounts) - 1; n >= 0; n-- {
		if err := syscall.Unmount(mounts[n], syscall.MNT_DETACH); err != nil {
			return &os.PathError{Op: "unmount", Path: mounts[n], Err: err}
		}
	}
	// The children of an instance that was just killed may write a last file.
	for range 20 {
		if err = os.RemoveAll(dir); !errors.Is(err, syscall.ENOTEMPTY) {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
	return err
}

// mountsBelow lists the mount points at or below dir in the order in which
// they were mounted (proc_pid_mountinfo(5), field 5, octal escapes).
func mountsBelow(dir string) ([]string, error) {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var found []string
	for lines := bufio.NewScanner(file); ; {
		if !lines.Scan() {
			return found, lines.Err()
		}
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 {
			continue
		}
		if point := unescape.Replace(fields[4]); point == dir || strings.HasPrefix(point, dir+"/") {
			found = append(found, point)
		}
	}
}
