package images

import (
	"archive/tar"
	"crypto/x509"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// root is the repository's, seen from here.
const root = "../../../.."

// TestPullpassHoldsAProgramAndAuthorities takes itself for the program: it is
// linked statically, too.
func TestPullpassHoldsAProgramAndAuthorities(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	image, err := Pullpass(self, "1.2.3", root)
	if err != nil {
		t.Fatal(err)
	}
	files := readFiles(t, image)
	if program := files["usr/local/bin/pullpass"]; program.mode != 0o755 || len(program.content) == 0 {
		t.Errorf("the program has mode %o and %d bytes", program.mode, len(program.content))
	}
	pool := x509.NewCertPool()
	if file := files["etc/ssl/certs/ca-certificates.crt"]; file.mode != 0o644 || !pool.AppendCertsFromPEM(file.content) {
		t.Errorf("no certificates in %d bytes of mode %o", len(file.content), file.mode)
	}
	if count := len(pool.Subjects()); count < 80 {
		t.Errorf("%d authorities", count)
	}
	if license := string(files["licenses/LICENSE"].content); !strings.Contains(license, "Apache License") {
		t.Errorf("no license: %q", license)
	}
	if len(files) != 7 {
		t.Errorf("%d files, not program, authorities, passwd, group and three of licenses", len(files))
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Config.User != "65532:65532" {
		t.Errorf("runs as %q", config.Config.User)
	}
	again, err := Pullpass(self, "1.2.3", root)
	if err != nil {
		t.Fatal(err)
	}
	first, _ := image.Digest()
	second, _ := again.Digest()
	if first != second {
		t.Errorf("the same program gives %s and %s", first, second)
	}
}

func TestPullpassRefusesAProgramThatNeedsLibraries(t *testing.T) {
	const dynamic = "/bin/sh"
	if _, err := os.Stat(dynamic); errors.Is(err, os.ErrNotExist) || checkStatic(dynamic) == nil {
		t.Skip(dynamic + " needs no libraries here")
	}
	if _, err := Pullpass(dynamic, "", root); err == nil {
		t.Error("it was taken")
	}
}

type found struct {
	mode    int64
	content []byte
}

func readFiles(t *testing.T, image v1.Image) map[string]found {
	t.Helper()
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]found{}
	for _, layer := range layers {
		content, err := layer.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		defer content.Close()
		archive := tar.NewReader(content)
		for {
			header, err := archive.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if header.Typeflag == tar.TypeReg {
				text, err := io.ReadAll(archive)
				if err != nil {
					t.Fatal(err)
				}
				files[header.Name] = found{header.Mode, text}
			}
		}
	}
	return files
}
