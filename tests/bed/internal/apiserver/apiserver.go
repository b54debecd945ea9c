// Package apiserver runs a real kube-apiserver with embedded etcd, and makes
// kubeconfigs for it.
package apiserver

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"pullpass/bed/internal/instance"
	"pullpass/bed/internal/pki"
)

// readyDeadline is generous: a cold page cache on a slow disk.
const readyDeadline = 90 * time.Second

// Options say how to run an API server; the zero value is one on loopback and
// a free port.
type Options struct {
	// Version is the Kubernetes to run, such as 1.34; this module's when empty.
	Version string
	// Bind is the address to listen on, 127.0.0.1 when empty.
	Bind string
	// Address is where clients reach it, in kubeconfigs and as the advertised
	// address; Bind when empty.
	Address string
	// Port is a free one when 0.
	Port int
	// Hosts are further names and addresses for the serving certificate.
	Hosts []string
	// OnFailure, when set, is told when the process ends without Stop.
	OnFailure func(error)
	// Args are further flags of kube-apiserver; they come last and win.
	Args []string
}

// Server is an API server of an instance.
type Server struct {
	// URL is https://address:port.
	URL string
	// CA is the path of the authority of the serving and client certificates.
	CA string
	// Kubeconfig is the path of the administrator's kubeconfig.
	Kubeconfig string
	// SigningKey is the path of the ServiceAccount signing key, which the
	// controller-manager needs as well.
	SigningKey string

	frame     *instance.Instance
	ca        *pki.CA
	binary    string
	args      []string
	process   *instance.Child
	onFailure func(error)
}

// ServiceRange is the range of Service addresses; its first address is the
// API server's own Service.
const ServiceRange = "10.0.0.0/24"

// New makes the certificates and kubeconfigs of an API server in the folder
// of frame. Nothing runs before Start.
func New(frame *instance.Instance, options Options) (*Server, error) {
	program := "kube-apiserver"
	if options.Version != "" {
		program += "-" + options.Version
	}
	binary, err := instance.Binary(program)
	if err != nil {
		return nil, err
	}
	if options.Bind == "" {
		options.Bind = "127.0.0.1"
	}
	if options.Address == "" {
		options.Address = options.Bind
	}
	if options.Port == 0 {
		if options.Port, err = freePort(options.Bind); err != nil {
			return nil, err
		}
	}
	ca, err := pki.NewCA("pullpass bed cluster CA")
	if err != nil {
		return nil, err
	}
	server := &Server{
		URL:    "https://" + net.JoinHostPort(options.Address, strconv.Itoa(options.Port)),
		frame:  frame,
		ca:     ca,
		binary: binary,

		onFailure: options.OnFailure,
	}
	if err := server.prepare(options); err != nil {
		return nil, err
	}
	return server, nil
}

// prepare writes the files and fills in the arguments.
func (s *Server) prepare(options Options) error {
	dir := s.frame.Path("kubernetes")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var err error
	if s.CA, err = s.ca.Write(dir, "ca.crt"); err != nil {
		return err
	}
	hosts := append([]string{
		"127.0.0.1", "localhost", options.Address, "10.0.0.1",
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
	}, options.Hosts...)
	leaf, err := s.ca.Server("kube-apiserver", hosts...)
	if err != nil {
		return err
	}
	certificate, key, err := leaf.Write(dir, "serving")
	if err != nil {
		return err
	}
	if s.SigningKey, err = pki.WriteSigningKey(dir, "service-account.key"); err != nil {
		return err
	}
	if s.Kubeconfig, err = s.WriteKubeconfig("admin", "bed-admin", "system:masters"); err != nil {
		return err
	}
	s.args = append([]string{
		"--embedded-etcd", s.frame.Path("etcd"),
		"--bind-address=" + options.Bind,
		"--secure-port=" + strconv.Itoa(options.Port),
		"--advertise-address=" + options.Address,
		"--external-hostname=" + options.Address,
		"--tls-cert-file=" + certificate,
		"--tls-private-key-file=" + key,
		"--client-ca-file=" + s.CA,
		"--authorization-mode=Node,RBAC",
		// Not on by default, and on wherever people run Kubernetes: it also says which audiences a node may ask tokens for.
		"--enable-admission-plugins=NodeRestriction",
		"--service-cluster-ip-range=" + ServiceRange,
		"--service-account-issuer=" + s.URL,
		"--service-account-jwks-uri=" + s.URL + "/openid/v1/jwks",
		"--service-account-key-file=" + s.SigningKey,
		"--service-account-signing-key-file=" + s.SigningKey,
		"--allow-privileged=true",
		"--profiling=false",
	}, options.Args...)
	return nil
}

// Start runs the process and returns when it is ready to serve.
func (s *Server) Start(ctx context.Context) error {
	if s.Running() {
		return errors.New("the API server runs already")
	}
	process, err := s.frame.Start("kube-apiserver", exec.Command(s.binary, s.args...))
	if err != nil {
		return err
	}
	s.process = process
	if err := process.WaitReady(ctx, readyDeadline, s.ready); err != nil {
		return err
	}
	if s.onFailure != nil {
		process.OnFailure(s.onFailure)
	}
	return nil
}

// Stop kills the process, as a crash would; the data stays.
func (s *Server) Stop() error {
	if !s.Running() {
		return errors.New("the API server does not run")
	}
	s.process.Kill()
	return nil
}

// Running tells whether the process lives.
func (s *Server) Running() bool {
	if s.process == nil {
		return false
	}
	select {
	case <-s.process.Done():
		return false
	default:
		return true
	}
}

// PID is the process id of the running API server.
func (s *Server) PID() int { return s.process.PID() }

// freePort finds a port that nobody listens on now. It looks below the range
// that the kernel hands out by itself (32768 and up,
// https://docs.kernel.org/networking/ip-sysctl.html), so that no outgoing
// connection takes the port while the API server is stopped, and below the
// range of NodePorts (30000 and up).
func freePort(address string) (int, error) {
	const lowest, count, tries = 10000, 20000, 100
	var err error
	for range tries {
		port := lowest + rand.IntN(count)
		var listener net.Listener
		if listener, err = net.Listen("tcp", net.JoinHostPort(address, strconv.Itoa(port))); err == nil {
			return port, listener.Close()
		}
	}
	return 0, fmt.Errorf("no free port on %s: %w", address, err)
}

// WriteKubeconfig makes a client certificate for user and groups and stores a
// kubeconfig with it as <name>.kubeconfig in the instance's folder.
func (s *Server) WriteKubeconfig(name, user string, groups ...string) (string, error) {
	leaf, err := s.ca.Client(user, groups...)
	if err != nil {
		return "", err
	}
	path := s.frame.Path("kubernetes", filepath.Base(name)+".kubeconfig")
	return path, writeKubeconfig(path, s.URL, s.ca.CertPEM, leaf)
}
