package images

import (
	"bytes"
	"debug/elf"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

const (
	// pullpassProgram is on the PATH that container runtimes set.
	pullpassProgram = "/usr/local/bin/pullpass"
	// authoritiesFile is where rustls-native-certs looks, as OpenSSL does.
	authoritiesFile = "/etc/ssl/certs/ca-certificates.crt"
	// licensesFolder is where Red Hat's certification looks.
	licensesFolder = "/licenses/"
)

// LicenseFiles come from the repository's root.
var LicenseFiles = []string{"LICENSE", "NOTICE", "THIRD-PARTY-LICENSES"}

// Sources say what the image was made of.
type Sources struct {
	Version string
	// Commit of the repository; none where nobody said it.
	Commit string
	// Time of the commit.
	Time time.Time
	// Folder with the licenses: the repository's root.
	Folder string
}

// Pullpass is the image that is shipped: the program, the public certificate
// authorities of clouds and registries, the licenses of all that is in it, and
// a user that is not root. There is no shell in it and nothing else to run.
func Pullpass(binary string, sources Sources) (v1.Image, error) {
	if err := checkStatic(binary); err != nil {
		return nil, err
	}
	files := []File{
		{Path: "/etc/group", Content: []byte("nonroot:x:65532:\n")},
		{Path: "/etc/passwd", Content: []byte("nonroot:x:65532:65532:nonroot:/:/sbin/nologin\n")},
		{Path: authoritiesFile, Content: authorities()},
	}
	for _, name := range LicenseFiles {
		content, err := os.ReadFile(filepath.Join(sources.Folder, name))
		if err != nil {
			return nil, err
		}
		files = append(files, File{Path: licensesFolder + name, Content: content})
	}
	labels := map[string]string{
		"org.opencontainers.image.licenses": "Apache-2.0",
		"org.opencontainers.image.title":    "pullpass",
		"org.opencontainers.image.version":  sources.Version,
	}
	if sources.Commit != "" {
		labels["org.opencontainers.image.revision"] = sources.Commit
	}
	return Build(Spec{
		Binary:  binary,
		Program: pullpassProgram,
		Args:    []string{"--help"},
		Files:   files,
		Labels:  labels,
		Created: sources.Time,
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
