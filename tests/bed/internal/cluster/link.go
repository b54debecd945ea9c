package cluster

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/vishvananda/netlink"
)

// link is the wire between this machine and a cluster: a veth pair whose other
// end is the node's only device. Its number also names the cluster's cgroup;
// the kernel removes the device with the cluster's network namespace, so the
// device is there exactly as long as the cluster lives.
type link struct {
	// Number is 0 to 255.
	Number int
	// Host is this machine's address on the wire, Node the node's.
	Host, Node string
	// Pods is the range of the Pods' addresses (CIDR).
	Pods string
}

const (
	linkPrefix = "pullbed"
	// nodeDevice is the name of the other end.
	nodeDevice = "eth0"
	prefixBits = 24
)

func linkName(number int) string { return fmt.Sprintf("%s%d", linkPrefix, number) }

func newLink(number int) link {
	return link{
		Number: number,
		Host:   fmt.Sprintf("10.214.%d.1", number),
		Node:   fmt.Sprintf("10.214.%d.2", number),
		Pods:   fmt.Sprintf("10.215.%d.0/24", number),
	}
}

// linkAlive tells whether the cluster of that number lives.
func linkAlive(number int) bool {
	_, err := netlink.LinkByName(linkName(number))
	return err == nil
}

// connect makes the wire into the network namespace of process pid, with the
// first number whose addresses this machine does not use. The number is -1
// when there is nothing to remove after an error.
func connect(pid int) (link, error) {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return link{Number: -1}, err
	}
	for number := range 256 {
		wire := newLink(number)
		if taken(routes, wire) {
			continue
		}
		err := wire.add(pid)
		if errors.Is(err, syscall.EEXIST) {
			continue // another start was faster
		}
		return wire, err
	}
	return link{Number: -1}, errors.New("all of 10.214.0.0/16 and 10.215.0.0/16 is in use on this machine")
}

func taken(routes []netlink.Route, wire link) bool {
	_, pods, _ := net.ParseCIDR(wire.Pods)
	for _, route := range routes {
		if route.Dst == nil {
			continue
		}
		if ones, _ := route.Dst.Mask.Size(); ones == 0 {
			continue
		}
		if route.Dst.Contains(net.ParseIP(wire.Host)) || pods.Contains(route.Dst.IP) || route.Dst.Contains(pods.IP) {
			return true
		}
	}
	return false
}

// add makes the device and gives this machine's end its address, and a route
// to the Pods.
func (l link) add(pid int) error {
	device := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: linkName(l.Number)},
		PeerName:      nodeDevice,
		PeerNamespace: netlink.NsPid(pid),
	}
	if err := netlink.LinkAdd(device); err != nil {
		if errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.EPERM) {
			return &DeniedError{fmt.Sprintf("it makes no veth devices (%v)", err)}
		}
		return fmt.Errorf("add device %s: %w", device.Name, err)
	}
	if err := raise(linkName(l.Number), l.Host); err != nil {
		return err
	}
	_, pods, err := net.ParseCIDR(l.Pods)
	if err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{Dst: pods, Gw: net.ParseIP(l.Node)})
}

// remove takes the wire away, if the kernel has not yet.
func (l link) remove() error {
	device, err := netlink.LinkByName(linkName(l.Number))
	if err != nil {
		return nil // gone with the namespace
	}
	if err := netlink.LinkDel(device); err != nil && !errors.Is(err, syscall.ENODEV) {
		return err
	}
	return nil
}

// raise gives a device of the calling process's namespace its address and
// brings it up.
func raise(name, address string) error {
	device, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("device %s: %w", name, err)
	}
	if address != "" {
		network := &net.IPNet{IP: net.ParseIP(address), Mask: net.CIDRMask(prefixBits, 32)}
		if err := netlink.AddrAdd(device, &netlink.Addr{IPNet: network}); err != nil {
			return fmt.Errorf("address of %s: %w", name, err)
		}
	}
	return netlink.LinkSetUp(device)
}
