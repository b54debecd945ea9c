package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/authn/k8schain"
	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/directory"
	"go.podman.io/image/v5/docker"
	ocilayout "go.podman.io/image/v5/oci/layout"
	"go.podman.io/image/v5/signature"
	"go.podman.io/image/v5/types"
	helmregistry "helm.sh/helm/v4/pkg/registry"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/memory"
)

// asDocker does as docker's daemon with the login that the command line finds.
func asDocker(j *journey) error {
	login, err := dockerLogin(j.Image)
	if err != nil {
		return err
	}
	return j.byCrane(crane.WithAuth(&login))
}

func asCrane(j *journey) error { return j.byCrane(crane.WithAuthFromKeychain(authn.DefaultKeychain)) }

// asK8schain does as Knative and Tekton, with the pull secrets that a
// ServiceAccount lists.
func asK8schain(j *journey) error {
	loaded, err := clientcmd.BuildConfigFromFlags("", j.ServiceAccount.Kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(loaded)
	if err != nil {
		return err
	}
	keychain, err := k8schain.New(context.Background(), client, k8schain.Options{
		Namespace: j.ServiceAccount.Namespace, ServiceAccountName: j.ServiceAccount.Name,
	})
	if err != nil {
		return err
	}
	return j.byCrane(crane.WithAuthFromKeychain(keychain))
}

func (j *journey) byCrane(auth crane.Option) error {
	options := []crane.Option{auth, crane.WithTransport(j.transport)}
	if !j.Push {
		pulled, err := crane.Pull(j.Image, options...)
		if err != nil {
			return err
		}
		_, err = pulled.RawConfigFile()
		return err
	}
	pushed, err := random.Image(256, 1)
	if err != nil {
		return err
	}
	return crane.Push(pushed, j.Image, options...)
}

func asOras(j *journey) error {
	ctx := context.Background()
	repository, err := orasRepository(j.file, j.Image, &http.Client{Transport: j.transport})
	if err != nil {
		return err
	}
	local, tag := memory.New(), repository.Reference.Reference
	if !j.Push {
		_, err = oras.Copy(ctx, repository, tag, local, tag, oras.DefaultCopyOptions)
		return err
	}
	manifest, err := oras.PackManifest(ctx, local, oras.PackManifestVersion1_1, "application/vnd.pullpass.bed", oras.PackManifestOptions{})
	if err != nil {
		return err
	}
	if err := local.Tag(ctx, manifest, tag); err != nil {
		return err
	}
	_, err = oras.Copy(ctx, local, tag, repository, tag, oras.DefaultCopyOptions)
	return err
}

func asHelm(j *journey) error {
	client, err := helmClient(j.file, &http.Client{Transport: j.transport})
	if err != nil {
		return err
	}
	if !j.Push {
		_, err = client.Pull(j.Image)
		return err
	}
	chart, err := makeChart(j.Image)
	if err != nil {
		return err
	}
	_, err = client.Push(chart, j.Image, helmregistry.PushOptStrictMode(true))
	return err
}

// makeChart packs the smallest chart that there is.
func makeChart(image string) ([]byte, error) {
	name, version, found := strings.Cut(path.Base(image), ":")
	if !found {
		return nil, errors.New(image + " has no tag")
	}
	text := "apiVersion: v2\nname: " + name + "\nversion: " + version + "\n"
	var packed bytes.Buffer
	zipped := gzip.NewWriter(&packed)
	archive := tar.NewWriter(zipped)
	err := archive.WriteHeader(&tar.Header{Name: name + "/Chart.yaml", Mode: 0o644, Size: int64(len(text)), Typeflag: tar.TypeReg})
	if err == nil {
		_, err = archive.Write([]byte(text))
	}
	err = errors.Join(err, archive.Close(), zipped.Close())
	return packed.Bytes(), err
}

// asSkopeo is `skopeo copy`, from or to a folder.
func asSkopeo(j *journey) error {
	folder, err := os.MkdirTemp("", "skopeo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	certificates := filepath.Join(folder, "certificates")
	local := filepath.Join(folder, "image")
	if err := os.Mkdir(local, 0o700); err != nil {
		return err
	}
	ca, err := os.ReadFile(j.CA)
	if err != nil {
		return err
	}
	if err := errors.Join(os.Mkdir(certificates, 0o700), os.WriteFile(filepath.Join(certificates, "ca.crt"), ca, 0o600)); err != nil {
		return err
	}
	system := &types.SystemContext{AuthFilePath: string(j.file), DockerCertPath: certificates, DockerProxyURL: j.proxy}
	source, err := docker.ParseReference("//" + j.Image)
	if err != nil {
		return err
	}
	destination, err := directory.NewReference(local)
	if j.Push {
		destination = source
		source, err = writeRandomLayout(local)
	}
	if err != nil {
		return err
	}
	accepted := &signature.Policy{Default: []signature.PolicyRequirement{signature.NewPRInsecureAcceptAnything()}}
	policy, err := signature.NewPolicyContext(accepted)
	if err != nil {
		return err
	}
	_, err = copy.Image(context.Background(), policy, destination, source, &copy.Options{SourceCtx: system, DestinationCtx: system})
	return errors.Join(err, policy.Destroy())
}

func writeRandomLayout(folder string) (types.ImageReference, error) {
	image, err := random.Image(256, 1)
	if err != nil {
		return nil, err
	}
	written, err := layout.Write(folder, empty.Index)
	if err != nil {
		return nil, err
	}
	if err := written.AppendImage(image); err != nil {
		return nil, err
	}
	return ocilayout.NewReference(folder, "")
}
