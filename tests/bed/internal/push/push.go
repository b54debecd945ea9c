// Package push pushes an image as crane and kaniko would: their library finds
// the credentials in a docker config.
package push

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"pullpass/bed/internal/pki"
)

// layerBytes is the size of the image's only layer.
const layerBytes = 1024

// Options say what to push and where.
type Options struct {
	// DockerConfigJSON is the content of the Secret that a builder mounts.
	DockerConfigJSON []byte
	// Proxy is the URL of what finds the image's host.
	Proxy string
	// CA is the path of the authority of the registry's certificate.
	CA string
	// Image is the reference to push to.
	Image string
}

// Push pushes a small image of random content and answers its digest.
func Push(ctx context.Context, options Options) (digest string, err error) {
	reference, err := name.ParseReference(options.Image)
	if err != nil {
		return "", err
	}
	transport, err := through(options.Proxy, options.CA)
	if err != nil {
		return "", err
	}
	defer transport.CloseIdleConnections()
	folder, err := os.MkdirTemp("", "push-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	err = errors.Join(
		os.WriteFile(filepath.Join(folder, "config.json"), options.DockerConfigJSON, 0o600),
		// This file, and not that of whoever runs the tests.
		os.Setenv("DOCKER_CONFIG", folder), os.Setenv("HOME", folder),
	)
	if err != nil {
		return "", err
	}
	image, err := random.Image(layerBytes, 1)
	if err != nil {
		return "", err
	}
	hash, err := image.Digest()
	if err != nil {
		return "", err
	}
	err = remote.Write(reference, image, remote.WithAuthFromKeychain(authn.DefaultKeychain),
		remote.WithTransport(transport), remote.WithContext(ctx))
	return hash.String(), err
}

// through finds hosts by a proxy and trusts one authority.
func through(proxy, caPath string) (*http.Transport, error) {
	address, err := url.Parse(proxy)
	if err != nil || address.Host == "" {
		return nil, fmt.Errorf("proxy %q is no URL", proxy)
	}
	pool, err := pki.LoadPool(caPath)
	if err != nil {
		return nil, err
	}
	return &http.Transport{Proxy: http.ProxyURL(address), TLSClientConfig: &tls.Config{RootCAs: pool}}, nil
}
