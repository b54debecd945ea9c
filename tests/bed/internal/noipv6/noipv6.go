// Package noipv6 runs a command as on a machine whose kernel has no IPv6.
package noipv6

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Offsets in what a filter of system calls sees, on machines whose low bytes
// come first: https://man7.org/linux/man-pages/man2/seccomp.2.html
const (
	offsetNumber        = 0
	offsetFirstArgument = 16
)

// filter refuses sockets of IPv6 as a kernel does that was started with
// ipv6.disable=1.
var filter = []unix.SockFilter{
	{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offsetNumber},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 3, K: unix.SYS_SOCKET},
	{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offsetFirstArgument},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: unix.AF_INET6},
	{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EAFNOSUPPORT)},
	{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
}

// Exec replaces this process by command, for which there is no IPv6. It
// returns only on failure.
func Exec(command []string) error {
	path, err := exec.LookPath(command[0])
	if err != nil {
		return err
	}
	// exec keeps the filter of the thread that calls it.
	runtime.LockOSThread()
	// Without this only root may set a filter.
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no new privileges: %w", err)
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, failed := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&program)))
	if failed != 0 {
		return fmt.Errorf("filter system calls: %w", failed)
	}
	return fmt.Errorf("run %s: %w", path, syscall.Exec(path, command, os.Environ()))
}
