// Package pull pulls an image as a node would: the kubelet's keyring chooses
// the credentials, a real registry client fetches and checks every byte.
package pull

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"pullpass/bed/internal/keyring"
	"pullpass/bed/internal/pki"
)

// Options say what to pull and from where.
type Options struct {
	// DockerConfigJSON is the content of the pull secret.
	DockerConfigJSON string
	// Registry is the URL that stands for the image's own host.
	Registry string
	// CA is the path of the authority of the registry's certificate.
	CA string
	// Image is the reference as a Pod names it.
	Image string
}

// Result is a pull that succeeded.
type Result struct {
	Image  string `json:"image"`
	Digest string `json:"digest"`
	// Bytes of manifest, configuration and layers together.
	Bytes int64 `json:"bytes"`
	// Username is the one that the registry accepted, empty for none.
	Username string `json:"username"`
}

// Pull tries the credentials that the kubelet would try, in its order, and
// without any when there are none (pkg/kubelet/kuberuntime/kuberuntime_image.go).
// When all are refused the error holds the registry's answer to each.
func Pull(ctx context.Context, options Options) (Result, error) {
	named, err := reference.ParseDockerRef(options.Image)
	if err != nil {
		return Result{}, fmt.Errorf("image %q: %w", options.Image, err)
	}
	transport, err := mirror(options.Registry, options.CA, reference.Domain(named))
	if err != nil {
		return Result{}, err
	}
	found, err := keyring.Lookup(keyring.Request{
		DockerConfigJSON: []string{options.DockerConfigJSON},
		Images:           []string{options.Image},
	})
	if err != nil {
		return Result{}, err
	}
	candidates := found[0]
	if len(candidates) == 0 {
		candidates = []keyring.Credential{{}}
	}
	var refusals []error
	for _, credential := range candidates {
		digest, size, err := fetch(ctx, named.String(), credential, transport)
		if err == nil {
			return Result{options.Image, digest, size, credential.Username}, nil
		}
		who := "without credentials"
		if credential.Username != "" {
			who = "as " + credential.Username
		}
		refusals = append(refusals, fmt.Errorf("pull %s %s: %w", options.Image, who, err))
	}
	return Result{}, errors.Join(refusals...)
}

// fetch reads the manifest, the configuration and every layer to the end; the
// client fails when a digest differs.
func fetch(ctx context.Context, image string, credential keyring.Credential, transport http.RoundTripper) (digest string, size int64, err error) {
	parsed, err := name.ParseReference(image, name.StrictValidation)
	if err != nil {
		return "", 0, err
	}
	auth := authn.Anonymous
	if credential != (keyring.Credential{}) {
		auth = &authn.Basic{Username: credential.Username, Password: credential.Password}
	}
	descriptor, err := remote.Get(parsed, remote.WithAuth(auth), remote.WithTransport(transport), remote.WithContext(ctx))
	if err != nil {
		return "", 0, err
	}
	pulled, err := descriptor.Image()
	if err != nil {
		return "", 0, err
	}
	config, err := pulled.RawConfigFile()
	if err != nil {
		return "", 0, err
	}
	layers, err := pulled.Layers()
	if err != nil {
		return "", 0, err
	}
	size = int64(len(descriptor.Manifest) + len(config))
	for _, layer := range layers {
		content, err := layer.Compressed()
		if err != nil {
			return "", 0, err
		}
		read, err := io.Copy(io.Discard, content)
		if err := errors.Join(err, content.Close()); err != nil {
			return "", 0, err
		}
		size += read
	}
	return descriptor.Digest.String(), size, nil
}

// mirror sends every request to registry instead of to the image's own host,
// and names that host in ?ns= as containerd's mirrors do.
func mirror(registry, caPath, host string) (http.RoundTripper, error) {
	target, err := url.Parse(registry)
	if err != nil || target.Scheme != "https" || target.Host == "" {
		return nil, fmt.Errorf("registry %q is no https URL", registry)
	}
	pool, err := pki.LoadPool(caPath)
	if err != nil {
		return nil, err
	}
	return &mirrorTransport{
		target: target,
		host:   host,
		base:   &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true},
	}, nil
}

type mirrorTransport struct {
	target *url.URL
	host   string
	base   http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (t *mirrorTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	sent := r.Clone(r.Context())
	sent.URL.Scheme, sent.URL.Host, sent.Host = t.target.Scheme, t.target.Host, ""
	query := sent.URL.Query()
	query.Set("ns", t.host)
	sent.URL.RawQuery = query.Encode()
	response, err := t.base.RoundTrip(sent)
	if response != nil {
		// The client compares this with where it sent the request.
		response.Request = r
	}
	return response, err
}
