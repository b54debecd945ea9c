package images

import (
	"bytes"
	"debug/elf"
	"encoding/pem"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

const (
	// pullpassProgram is on the PATH that container runtimes set.
	pullpassProgram = "/usr/local/bin/pullpass"
	// authoritiesFile is where rustls-native-certs looks, as OpenSSL does.
	authoritiesFile = "/etc/ssl/certs/ca-certificates.crt"
)

// Pullpass is the image that is shipped: the program, the public certificate
// authorities of clouds and registries, and a user that is not root. There is
// no shell in it and nothing else to run.
func Pullpass(binary, version string) (v1.Image, error) {
	if err := checkStatic(binary); err != nil {
		return nil, err
	}
	return Build(Spec{
		Binary:  binary,
		Program: pullpassProgram,
		Args:    []string{"--help"},
		Files: []File{
			{Path: "/etc/group", Content: []byte("nonroot:x:65532:\n")},
			{Path: "/etc/passwd", Content: []byte("nonroot:x:65532:65532:nonroot:/:/sbin/nologin\n")},
			{Path: authoritiesFile, Content: authorities()},
		},
		Labels: map[string]string{
			"org.opencontainers.image.title":   "pullpass",
			"org.opencontainers.image.version": version,
		},
	})
}

// authorities are Mozilla's, as the pinned Go module has them, without those
// that are trusted for a part of the certificates only: a file of
// certificates cannot say so.
func authorities() []byte {
	var text bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			_ = pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate})
		}
	}
	return text.Bytes()
}

// checkStatic refuses a program that would look for libraries which the image
// does not have.
func checkStatic(binary string) error {
	file, err := elf.Open(binary)
	if err != nil {
		return fmt.Errorf("%s: %w", binary, err)
	}
	defer file.Close()
	libraries, err := file.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("%s: %w", binary, err)
	}
	if len(libraries) > 0 {
		return fmt.Errorf("%s needs %v, which the image does not have: build it as `make image` does", binary, libraries)
	}
	return nil
}
