package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// Init is the first process of the cluster's process namespace: it starts
// itself once more to do the work, collects the dead of the whole namespace
// as process 1 has to, and ends when the work ends or on SIGTERM. It returns
// the exit code.
func Init(dir string) (int, error) {
	if os.Getpid() != 1 {
		return 0, errors.New("this is the inner side of `bed cluster up` and runs as process 1 only")
	}
	if err := ownMounts(); err != nil {
		return 0, err
	}
	ends := make(chan os.Signal, 1)
	signal.Notify(ends, syscall.SIGTERM, syscall.SIGINT)
	worker, err := os.StartProcess("/proc/self/exe", []string{os.Args[0], firstWord, secondWord, dir}, &os.ProcAttr{
		Files: []*os.File{nil, os.Stdout, os.Stderr},
		Env:   os.Environ(),
	})
	if err != nil {
		return 0, err
	}
	codes := make(chan int, 1)
	go func() { codes <- reap(worker.Pid) }()
	select {
	case <-ends:
		return 0, nil
	case code := <-codes:
		return code, nil
	}
}

// reap collects every process that ends until pid does, whose exit code it
// returns.
func reap(pid int) int {
	for {
		var status syscall.WaitStatus
		ended, err := syscall.Wait4(-1, &status, 0, nil)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			fmt.Fprintln(os.Stderr, "wait:", err)
			return 1
		}
		if err == nil && ended == pid {
			return status.ExitStatus()
		}
	}
}

// ownMounts cuts the mount namespace off from the machine's and gives it the
// process namespace's own /proc.
func ownMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	// Pods may ask for mount propagation; it ends at this namespace.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("make mounts shared: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	return nil
}
