// Package images makes small container images in pure Go: a static binary,
// perhaps some files beside it, nothing else.
package images

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"

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
	file.OS, file.Architecture = runtime.GOOS, runtime.GOARCH
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

// WriteLayout stores image as a tar of an OCI image layout that
// `ctr images import` takes, named ref (a full reference such as
// registry.k8s.io/pause:3.10).
func WriteLayout(tarPath string, image v1.Image, ref string) error {
	dir, err := os.MkdirTemp(filepath.Dir(tarPath), ".layout-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	folder, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	// containerd takes the image's name from the first annotation
	// (https://github.com/containerd/containerd/blob/main/core/images/annotations.go).
	err = folder.AppendImage(image, layout.WithAnnotations(map[string]string{
		"io.containerd.image.name":          ref,
		"org.opencontainers.image.ref.name": ref,
	}))
	if err != nil {
		return err
	}
	return tarFolder(tarPath, dir)
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

// tarFolder leaves out who made the files and when, so that the same files
// give the same tar.
func tarFolder(tarPath, dir string) (err error) {
	file, err := os.Create(tarPath)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	archive := tar.NewWriter(file)
	folder := os.DirFS(dir)
	err = fs.WalkDir(folder, ".", func(name string, entry fs.DirEntry, err error) error {
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
	return errors.Join(err, archive.Close())
}
