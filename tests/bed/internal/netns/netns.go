// Package netns runs a command in a network namespace of its own, which has a
// loopback device and one bridge with an address that is not loopback.
package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// Bridge is the device that every namespace gets.
	Bridge = "br0"
	// Address is the bridge's address.
	Address = "10.213.0.1"
	// gateway makes a default route possible; nobody answers there.
	gateway    = "10.213.0.254"
	prefixBits = 24
)

// DeniedError says that this machine does not allow a network namespace.
type DeniedError struct{ cause error }

func (e *DeniedError) Error() string {
	return fmt.Sprintf("this machine allows no new network namespace (%v): run as root with CAP_SYS_ADMIN, or allow unprivileged user namespaces", e.cause)
}

// Exec replaces this process by command inside a new network namespace, whose
// loopback device has these addresses besides. It returns only on failure.
func Exec(command, addresses []string) error {
	path, err := exec.LookPath(command[0])
	if err != nil {
		return err
	}
	// exec keeps the namespace of the thread that calls it.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return &DeniedError{fmt.Errorf("unshare: %w", err)}
	}
	if err := configure(addresses); err != nil {
		return fmt.Errorf("set up the network namespace: %w", err)
	}
	return fmt.Errorf("run %s: %w", path, syscall.Exec(path, command, os.Environ()))
}

// InUserNamespace runs program with args as root of a new user namespace,
// where an ordinary user may make a network namespace, and returns the exit
// code. When ctx ends, the program gets SIGTERM.
func InUserNamespace(ctx context.Context, program string, args []string) (int, error) {
	command := exec.CommandContext(ctx, program, args...)
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	// The thread that starts the child must outlive it (PDEATHSIG).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := command.Start(); err != nil {
		return 0, &DeniedError{err}
	}
	err := command.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			return 128 + int(status.Signal()), nil // as a shell says it
		}
		return exit.ExitCode(), nil
	}
	return 0, err
}

// configure brings loopback up, with further addresses, and makes the bridge
// with its address and a default route, all in the namespace of the calling
// thread.
func configure(addresses []string) error {
	loopback, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(loopback); err != nil {
		return err
	}
	for _, address := range addresses {
		ip, err := netip.ParseAddr(address)
		if err != nil {
			return err
		}
		alone := &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(ip.BitLen(), ip.BitLen())}
		if err := netlink.AddrAdd(loopback, &netlink.Addr{IPNet: alone}); err != nil {
			return fmt.Errorf("add %s: %w", address, err)
		}
	}
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: Bridge}}
	if err := netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("add bridge %s: %w", Bridge, err)
	}
	network := &net.IPNet{IP: net.ParseIP(Address), Mask: net.CIDRMask(prefixBits, 32)}
	if err := netlink.AddrAdd(bridge, &netlink.Addr{IPNet: network}); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(bridge); err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{LinkIndex: bridge.Attrs().Index, Gw: net.ParseIP(gateway)})
}
