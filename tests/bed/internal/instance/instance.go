// Package instance is the frame around every long-running verb of bed: a
// folder of its own under .bed/run, children that die with it, one JSON line
// when ready, commands on stdin, and an end that leaves nothing behind.
package instance

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
)

// Instance is one running verb. Make it with New and end it with Close.
type Instance struct {
	// Dir is the instance's own folder, .bed/run/<kind>-<random>; it is
	// removed by Close.
	Dir string
	// Logs is the folder of the log files, inside Dir.
	Logs string

	lock     *os.File
	mu       sync.Mutex
	children []*Child
}

// Root is the folder that holds everything generated: $BED_DIR, or else the
// folder above the one that holds the running program (.bed/bin/bed).
func Root() (string, error) {
	if dir := os.Getenv("BED_DIR"); dir != "" {
		return filepath.Abs(dir)
	}
	program, err := os.Executable()
	if err != nil {
		return "", err
	}
	return filepath.Dir(filepath.Dir(program)), nil
}

// Binary is the path of another program of the bed, checked to be there.
func Binary(name string) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, "bin", name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s is not built: run `make bed` (node programs: `make bed-cluster`; the oldest Kubernetes: `make bed-oldest`)", path)
	}
	return path, nil
}

// New makes the folder of a new instance, after it has cleared away what
// instances that died without a goodbye left behind.
func New(kind string) (*Instance, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	run := filepath.Join(root, "run")
	if err := os.MkdirAll(run, 0o755); err != nil {
		return nil, err
	}
	unlock, err := lockRun(run)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := clearStale(run); err != nil {
		return nil, err
	}
	random := make([]byte, 4)
	if _, err := rand.Read(random); err != nil {
		return nil, err
	}
	dir := filepath.Join(run, kind+"-"+hex.EncodeToString(random))
	logs := filepath.Join(dir, "logs")
	if err := os.MkdirAll(logs, 0o700); err != nil {
		return nil, err
	}
	// Held for life; the kernel lets go of it however the process ends, which
	// is how the next start tells the living from the dead.
	lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	return &Instance{Dir: dir, Logs: logs, lock: lock}, nil
}

// Hold makes the instance count as alive for as long as command's process
// lives, also after this one has ended: the process inherits the lock.
func (i *Instance) Hold(command *exec.Cmd) {
	command.ExtraFiles = append(command.ExtraFiles, i.lock)
}

// Path joins elements to the instance's folder.
func (i *Instance) Path(elements ...string) string {
	return filepath.Join(append([]string{i.Dir}, elements...)...)
}

// Close ends every child, last started first, unmounts what is mounted below
// the folder and removes it. It may be called more than once.
func (i *Instance) Close() error {
	i.mu.Lock()
	children := i.children
	i.children = nil
	i.mu.Unlock()
	for n := len(children) - 1; n >= 0; n-- {
		children[n].Stop()
	}
	err := removeTree(i.Dir)
	return errors.Join(err, i.lock.Close())
}

// PrintLine writes v to stdout as one line of JSON, the only form in which
// the bed speaks to programs.
func PrintLine(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(append(line, '\n'))
	return err
}
