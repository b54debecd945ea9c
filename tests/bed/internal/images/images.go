// Package images makes small container images in pure Go: a static binary,
// perhaps some files beside it, nothing else.
package images

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"pullpass/bed/internal/instance"
)

// Spec says what an image holds.
type Spec struct {
	// Binary is the path of a statically linked program on this machine.
	Binary string
	// Program is where it is in the image; by default /<its base name>.
	Program string
	// Entrypoint defaults to that one program.
	Entrypoint []string
	// Args are the image's default arguments (CMD).
	Args []string
	// User defaults to 65532, with which an image also passes the restricted
	// Pod Security level.
	User string
	// Env are the image's own variables, as NAME=value.
	Env []string
	// Files stand in a layer of their own below the program's.
	Files []File
	// Labels of the image
	// (https://github.com/opencontainers/image-spec/blob/main/annotations.md).
	Labels map[string]string
	// Created is when its sources are from; the zero time is left out.
	Created time.Time
}

// File is a file of an image, which everybody may read.
type File struct {
	// Path is absolute.
	Path    string
	Content []byte
	mode    int64
}

// Hello is the application image: it prints "hello from <name>" and waits.
func Hello(name string) (v1.Image, error) {
	binary, err := instance.Binary("hello")
	if err != nil {
		return nil, err
	}
	return Build(Spec{Binary: binary, Args: []string{"-name", name}})
}

// Build makes the image of spec. The same spec gives the same digest.
func Build(spec Spec) (v1.Image, error) {
	program := spec.Program
	if program == "" {
		program = "/" + filepath.Base(spec.Binary)
	}
	content, err := os.ReadFile(spec.Binary)
	if err != nil {
		return nil, fmt.Errorf("program of the image: %w", err)
	}
	architecture, err := Architecture(spec.Binary)
	if err != nil {
		return nil, err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for _, files := range [][]File{spec.Files, {{Path: program, Content: content, mode: 0o755}}} {
		if len(files) == 0 {
			continue
		}
		layer, err := makeLayer(files)
		if err != nil {
			return nil, err
		}
		if image, err = mutate.AppendLayers(image, layer); err != nil {
			return nil, err
		}
	}
	file, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", architecture
	file.Created = v1.Time{Time: spec.Created}
	file.Config.User = spec.User
	if spec.User == "" {
		file.Config.User = "65532:65532"
	}
	file.Config.Env = spec.Env
	file.Config.WorkingDir = "/"
	file.Config.Labels = spec.Labels
	file.Config.Entrypoint = spec.Entrypoint
	if len(spec.Entrypoint) == 0 {
		file.Config.Entrypoint = []string{program}
	}
	file.Config.Cmd = spec.Args
	return mutate.ConfigFile(image, file)
}

// Architecture is what a program runs on, in the words of Go and OCI.
func Architecture(binary string) (string, error) {
	file, err := elf.Open(binary)
	if err != nil {
		return "", fmt.Errorf("program of the image: %s: %w", binary, err)
	}
	defer file.Close()
	switch file.Machine {
	case elf.EM_X86_64:
		return "amd64", nil
	case elf.EM_AARCH64:
		return "arm64", nil
	default:
		return "", fmt.Errorf("%s is for %s: images are for amd64 and arm64", binary, file.Machine)
	}
}

// Index is one image for several architectures. The same images in the same
// order give the same digest.
func Index(all []v1.Image) (v1.ImageIndex, error) {
	var index v1.ImageIndex = empty.Index
	for _, image := range all {
		config, err := image.ConfigFile()
		if err != nil {
			return nil, err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        image,
			Descriptor: v1.Descriptor{Platform: config.Platform()},
		})
	}
	return index, nil
}

// WriteLayout stores image as a tar of an OCI image layout that
// `ctr images import` takes, named ref (a full reference such as
// registry.k8s.io/pause:3.10).
func WriteLayout(tarPath string, image v1.Image, ref string) error {
	return writeLayout(tarPath, func(folder layout.Path) error {
		return folder.AppendImage(image, named(ref))
	})
}

// WriteLayoutOfIndex does so for an index.
func WriteLayoutOfIndex(tarPath string, index v1.ImageIndex, ref string) error {
	return writeLayout(tarPath, func(folder layout.Path) error {
		return folder.AppendIndex(index, named(ref))
	})
}

// named are the annotations by which tools find an image in a layout.
// containerd takes the name from the first
// (https://github.com/containerd/containerd/blob/main/core/images/annotations.go).
func named(ref string) layout.Option {
	return layout.WithAnnotations(map[string]string{
		"io.containerd.image.name":          ref,
		"org.opencontainers.image.ref.name": ref,
	})
}

// writeLayout packs the layout that fill fills.
func writeLayout(tarPath string, fill func(layout.Path) error) error {
	dir, err := os.MkdirTemp(filepath.Dir(tarPath), ".layout-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	folder, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	if err := fill(folder); err != nil {
		return err
	}
	packed, err := TarFolder(dir)
	if err != nil {
		return err
	}
	return os.WriteFile(tarPath, packed, 0o644)
}

// WriteLayoutOf builds the image of spec and stores it as WriteLayout does.
func WriteLayoutOf(tarPath string, spec Spec, ref string) error {
	image, err := Build(spec)
	if err != nil {
		return err
	}
	return WriteLayout(tarPath, image, ref)
}

// makeLayer is a layer with these files and the folders above them.
func makeLayer(files []File) (v1.Layer, error) {
	var content bytes.Buffer
	archive := tar.NewWriter(&content)
	made := map[string]bool{".": true}
	for _, file := range files {
		name := strings.TrimPrefix(file.Path, "/")
		if err := writeFolders(archive, path.Dir(name), made); err != nil {
			return nil, err
		}
		mode := file.mode
		if mode == 0 {
			mode = 0o644
		}
		header := &tar.Header{Name: name, Mode: mode, Size: int64(len(file.Content)), Typeflag: tar.TypeReg}
		if err := archive.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := archive.Write(file.Content); err != nil {
			return nil, err
		}
	}
	if err := archive.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content.Bytes())), nil
	}, tarball.WithMediaType(types.OCILayer))
}

func writeFolders(archive *tar.Writer, folder string, made map[string]bool) error {
	if made[folder] {
		return nil
	}
	if err := writeFolders(archive, path.Dir(folder), made); err != nil {
		return err
	}
	made[folder] = true
	return archive.WriteHeader(&tar.Header{Name: folder + "/", Mode: 0o755, Typeflag: tar.TypeDir})
}

// TarFolder is a tar of a folder's files without who made them and when, so
// that the same files give the same tar.
func TarFolder(dir string) ([]byte, error) {
	var packed bytes.Buffer
	archive := tar.NewWriter(&packed)
	folder := os.DirFS(dir)
	err := fs.WalkDir(folder, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		if entry.IsDir() {
			return archive.WriteHeader(&tar.Header{Name: name + "/", Mode: 0o755, Typeflag: tar.TypeDir})
		}
		content, err := fs.ReadFile(folder, name)
		if err != nil {
			return err
		}
		header := &tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		_, err = archive.Write(content)
		return err
	})
	err = errors.Join(err, archive.Close())
	return packed.Bytes(), err
}
