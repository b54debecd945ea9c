// Package images makes tiny container images in pure Go: one static binary in
// one layer, nothing else.
package images

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"

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
	// Binary is the path of a statically linked program on this machine; it
	// becomes /<its base name> in the image.
	Binary string
	// Entrypoint defaults to that one program.
	Entrypoint []string
	// Args are the image's default arguments (CMD).
	Args []string
}

// Hello is the application image: it prints "hello from <name>" and waits.
func Hello(name string) (v1.Image, error) {
	binary, err := instance.Binary("hello")
	if err != nil {
		return nil, err
	}
	return Build(Spec{Binary: binary, Args: []string{"-name", name}})
}

// Build makes the image of spec. The same spec gives the same digest. It runs
// as user 65532, so it also passes the restricted Pod Security level.
func Build(spec Spec) (v1.Image, error) {
	program := "/" + filepath.Base(spec.Binary)
	content, err := programLayer(spec.Binary, program)
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	}, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err := mutate.AppendLayers(base, layer)
	if err != nil {
		return nil, err
	}
	file, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = runtime.GOOS, runtime.GOARCH
	file.Config.User = "65532:65532"
	file.Config.WorkingDir = "/"
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

// programLayer is an uncompressed layer tar with one executable file.
func programLayer(binary, program string) ([]byte, error) {
	content, err := os.ReadFile(binary)
	if err != nil {
		return nil, fmt.Errorf("program of the image: %w", err)
	}
	var layer bytes.Buffer
	archive := tar.NewWriter(&layer)
	header := &tar.Header{Name: path.Base(program), Mode: 0o755, Size: int64(len(content)), Typeflag: tar.TypeReg}
	if err := archive.WriteHeader(header); err != nil {
		return nil, err
	}
	if _, err := archive.Write(content); err != nil {
		return nil, err
	}
	return layer.Bytes(), archive.Close()
}

func tarFolder(tarPath, dir string) error {
	file, err := os.Create(tarPath)
	if err != nil {
		return err
	}
	archive := tar.NewWriter(file)
	if err := archive.AddFS(os.DirFS(dir)); err != nil {
		file.Close()
		return err
	}
	if err := archive.Close(); err != nil {
		file.Close()
		return err
	}
	return file.Close()
}
