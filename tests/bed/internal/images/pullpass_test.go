package images

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
	sources := Sources{Version: "1.2.3", Folder: root}
	image, err := Pullpass(self, sources)
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
	again, err := Pullpass(self, sources)
	if err != nil {
		t.Fatal(err)
	}
	first, _ := image.Digest()
	second, _ := again.Digest()
	if first != second {
		t.Errorf("the same program gives %s and %s", first, second)
	}
}

// TestIndexNamesWhatEachImageRunsOn patches this program's header: nothing of
// it is run.
func TestIndexNamesWhatEachImageRunsOn(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	var all []v1.Image
	for _, machine := range []elf.Machine{elf.EM_X86_64, elf.EM_AARCH64} {
		// e_machine of the ELF header.
		binary.LittleEndian.PutUint16(content[18:], uint16(machine))
		program := filepath.Join(t.TempDir(), "pullpass")
		if err := os.WriteFile(program, content, 0o600); err != nil {
			t.Fatal(err)
		}
		image, err := Pullpass(program, Sources{Version: "1.2.3", Commit: "c0ffee", Time: time.Unix(1, 0), Folder: root})
		if err != nil {
			t.Fatal(err)
		}
		config, err := image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if revision := config.Config.Labels["org.opencontainers.image.revision"]; revision != "c0ffee" || config.Created.Unix() != 1 {
			t.Errorf("made of %q at %s", revision, config.Created)
		}
		all = append(all, image)
	}
	index, err := Index(all)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for at, architecture := range []string{"amd64", "arm64"} {
		digest, _ := all[at].Digest()
		one := manifest.Manifests[at]
		if one.Digest != digest || one.Platform.String() != "linux/"+architecture {
			t.Errorf("%s runs on %s", one.Digest, one.Platform)
		}
	}
	first, second := filepath.Join(t.TempDir(), "image.tar"), filepath.Join(t.TempDir(), "image.tar")
	for _, file := range []string{first, second} {
		if err := WriteLayoutOfIndex(file, index, "registry.example.com/pullpass:1.2.3"); err != nil {
			t.Fatal(err)
		}
	}
	one, _ := os.ReadFile(first)
	if other, _ := os.ReadFile(second); len(one) == 0 || !bytes.Equal(one, other) {
		t.Error("two layouts of the same images differ")
	}
}

func TestPullpassRefusesAProgramThatNeedsLibraries(t *testing.T) {
	const dynamic = "/bin/sh"
	if _, err := os.Stat(dynamic); errors.Is(err, os.ErrNotExist) || checkStatic(dynamic) == nil {
		t.Skip(dynamic + " needs no libraries here")
	}
	if _, err := Pullpass(dynamic, Sources{Folder: root}); err == nil {
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
