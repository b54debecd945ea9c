// Package registry runs the CNCF distribution registry behind TLS, with an
// access controller whose accepted passwords a test can change at any time.
package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem" // the storage of every instance
	"github.com/sirupsen/logrus"

	"pullpass/bed/internal/pki"
)

// Options say how to run a registry.
type Options struct {
	// Dir is the folder for the storage, the CA and the file `access`.
	Dir string
	// Logs is the folder for registry.log and access.jsonl.
	Logs string
	// Listen is the address to listen on; port 0 takes a free one.
	Listen string
	// Hosts are further names and addresses for the serving certificate.
	Hosts []string
	// Images are the repository:tag names to seed with the hello image.
	Images []string
}

// Registry is a running registry.
type Registry struct {
	// URL is https://host:port, the host as in Options.Listen.
	URL string
	// CA is the path of the authority that signed the serving certificate.
	CA string
	// Access is the path of the JSON file with the accepted passwords.
	Access string
	// AccessLog is the path of the JSON lines about every request.
	AccessLog string
	// Proxy is the URL of a proxy through which the registry is found under
	// Options.Hosts.
	Proxy string

	server *http.Server
	proxy  *http.Server
	ended  chan error
}

// Start opens the registry; it answers requests when Start returns.
func Start(ctx context.Context, options Options) (*Registry, error) {
	logFile, err := os.OpenFile(filepath.Join(options.Logs, "registry.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	// distribution logs through logrus' one logger per process.
	logrus.SetOutput(logFile)
	registry := &Registry{
		Access:    filepath.Join(options.Dir, "access.json"),
		AccessLog: filepath.Join(options.Logs, "access.jsonl"),
		ended:     make(chan error, 1),
	}
	storage := filepath.Join(options.Dir, "registry")
	if err := seed(ctx, handlers.NewApp(ctx, config(storage, nil)), options.Images); err != nil {
		return nil, err
	}
	if err := os.WriteFile(registry.Access, []byte("{\"allow\":[]}\n"), 0o600); err != nil {
		return nil, err
	}
	app := handlers.NewApp(ctx, config(storage, configuration.Auth{controllerName: configuration.Parameters{
		"file": registry.Access,
		"log":  registry.AccessLog,
	}}))
	listener, err := registry.listen(options)
	if err != nil {
		return nil, err
	}
	registry.server = &http.Server{
		Handler:           app,
		ReadHeaderTimeout: 30 * time.Second,
		ErrorLog:          stdlog.New(io.Writer(logFile), "http: ", stdlog.LstdFlags),
	}
	go func() { registry.ended <- registry.server.Serve(listener) }()
	registry.Proxy, err = registry.front(options.Listen, options.Hosts)
	return registry, err
}

// Close stops the registry at once.
func (r *Registry) Close() error { return errors.Join(r.proxy.Close(), r.server.Close()) }

// listen opens the TLS listener and fills in URL and CA.
func (r *Registry) listen(options Options) (net.Listener, error) {
	host, _, err := net.SplitHostPort(options.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen address %q: %w: write it as host:port", options.Listen, err)
	}
	ca, err := pki.NewCA("pullpass bed registry CA")
	if err != nil {
		return nil, err
	}
	if r.CA, err = ca.Write(options.Dir, "ca.crt"); err != nil {
		return nil, err
	}
	leaf, err := ca.Server("registry", append([]string{"127.0.0.1", "::1", "localhost", host}, options.Hosts...)...)
	if err != nil {
		return nil, err
	}
	pair, err := leaf.TLS()
	if err != nil {
		return nil, err
	}
	listener, err := tls.Listen("tcp", options.Listen, &tls.Config{
		Certificates: []tls.Certificate{pair},
		NextProtos:   []string{"h2", "http/1.1"},
		MinVersion:   tls.VersionTLS12,
	})
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	r.URL = "https://" + net.JoinHostPort(host, port)
	return listener, err
}

// config is distribution's configuration for the storage folder; auth may be
// nil.
func config(storage string, auth configuration.Auth) *configuration.Configuration {
	settings := &configuration.Configuration{
		Version: configuration.CurrentVersion,
		Storage: configuration.Storage{
			"filesystem": configuration.Parameters{"rootdirectory": storage},
			"delete":     configuration.Parameters{"enabled": true},
		},
		Auth: auth,
	}
	settings.Log.Level = "info"
	// Any value does: uploads are not shared between processes.
	settings.HTTP.Secret = "bed"
	return settings
}
