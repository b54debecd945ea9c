package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/distribution/reference"
	dockercli "github.com/docker/cli/cli/config"
	"github.com/google/go-containerregistry/pkg/authn"
	kauth "github.com/google/go-containerregistry/pkg/authn/kubernetes"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	dockerconfig "go.podman.io/image/v5/pkg/docker/config"
	"go.podman.io/image/v5/types"
	helmregistry "helm.sh/helm/v4/pkg/registry"
	corev1 "k8s.io/api/core/v1"
	orasremote "oras.land/oras-go/v2/registry/remote"
	orasauth "oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
)

// lookupQuestion asks who is sent for each image, so many times.
type lookupQuestion struct {
	DockerConfigJSON string   `json:"dockerconfigjson"`
	Images           []string `json:"images"`
	Tries            int      `json:"tries"`
}

// lookupAnswer has, by client, for each image how often each user was sent;
// the user "" is none.
type lookupAnswer map[string][]map[string]int

// finder is a client's way from a docker config to the user that it sends. The
// transport stands for the registry.
type finder func(file config, image string, registry *recorder) (string, error)

// errNotRefused is of a client that says it found something.
var errNotRefused = errors.New("found what is not there")

// finders are the clients that read a file or Secret by themselves; the
// kubelet's own keyring is `bed keyring`.
var finders = map[string]finder{
	"docker":   findAsDocker,
	"crane":    findAsCrane,
	"k8schain": findAsK8schain,
	"oras":     findAsOras,
	"helm":     findAsHelm,
	"skopeo":   findAsSkopeo,
}

func lookup(file config, question lookupQuestion) (lookupAnswer, error) {
	if err := file.write(question.DockerConfigJSON); err != nil {
		return nil, err
	}
	answer := lookupAnswer{}
	for client, find := range finders {
		for _, image := range question.Images {
			users := map[string]int{}
			for range question.Tries {
				user, err := find(file, image, &recorder{})
				if err != nil {
					return nil, fmt.Errorf("%s, %s: %w", client, image, err)
				}
				users[user]++
			}
			answer[client] = append(answer[client], users)
		}
	}
	return answer, nil
}

// recorder is a registry that asks for HTTP basic, remembers who came, and has
// nothing.
type recorder struct{ user string }

// RoundTrip implements http.RoundTripper.
func (r *recorder) RoundTrip(request *http.Request) (*http.Response, error) {
	answer := &http.Response{
		StatusCode: http.StatusNotFound, Status: "404 Not Found",
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: http.NoBody, Request: request,
	}
	user, _, sent := request.BasicAuth()
	if !sent {
		answer.StatusCode, answer.Status = http.StatusUnauthorized, "401 Unauthorized"
		answer.Header.Set("WWW-Authenticate", `Basic realm="bed"`)
		return answer, nil
	}
	r.user = user
	return answer, nil
}

// dockerHost is what docker looks up for a host: Docker Hub under the name
// that it had first
// (https://github.com/docker/cli/blob/master/cli/command/registry.go).
func dockerHost(host string) string {
	if host == "docker.io" {
		return "https://index.docker.io/v1/"
	}
	return host
}

// dockerLogin is what docker's library, which buildx uses as well, finds for
// an image. The programs hand it to a daemon.
func dockerLogin(image string) (authn.Basic, error) {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return authn.Basic{}, err
	}
	file, err := dockercli.Load(dockercli.Dir())
	if err != nil {
		return authn.Basic{}, err
	}
	login, err := file.GetAuthConfig(dockerHost(reference.Domain(named)))
	return authn.Basic{Username: login.Username, Password: login.Password}, err
}

func findAsDocker(_ config, image string, _ *recorder) (string, error) {
	login, err := dockerLogin(image)
	return login.Username, err
}

func findAsCrane(_ config, image string, registry *recorder) (string, error) {
	return sendFrom(authn.DefaultKeychain, image, registry)
}

// sendFrom has go-containerregistry ask for an image.
func sendFrom(keychain authn.Keychain, image string, registry *recorder) (string, error) {
	parsed, err := name.ParseReference(image)
	if err != nil {
		return "", err
	}
	_, err = remote.Head(parsed, remote.WithAuthFromKeychain(keychain), remote.WithTransport(registry))
	if err == nil {
		return "", errNotRefused
	}
	return registry.user, nil
}

// findAsK8schain is the part of k8schain that reads pull secrets; what follows
// there are the clouds' own ways, which no host here is of.
func findAsK8schain(file config, image string, registry *recorder) (string, error) {
	content, err := os.ReadFile(string(file))
	if err != nil {
		return "", err
	}
	secret := corev1.Secret{Type: corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{corev1.DockerConfigJsonKey: content}}
	keychain, err := kauth.NewFromPullSecrets(context.Background(), []corev1.Secret{secret})
	if err != nil {
		return "", err
	}
	return sendFrom(keychain, image, registry)
}

func findAsOras(file config, image string, registry *recorder) (string, error) {
	repository, err := orasRepository(file, image, &http.Client{Transport: registry})
	if err != nil {
		return "", err
	}
	if _, err = repository.Resolve(context.Background(), repository.Reference.Reference); err == nil {
		return "", errNotRefused
	}
	return registry.user, nil
}

// orasRepository is an image's as the program oras opens it.
func orasRepository(file config, image string, client *http.Client) (*orasremote.Repository, error) {
	store, err := credentials.NewStore(string(file), credentials.StoreOptions{})
	if err != nil {
		return nil, err
	}
	repository, err := orasremote.NewRepository(image)
	if err != nil {
		return nil, err
	}
	repository.Client = &orasauth.Client{Client: client, Credential: credentials.Credential(store)}
	return repository, nil
}

func findAsHelm(file config, image string, registry *recorder) (string, error) {
	client, err := helmClient(file, &http.Client{Transport: registry})
	if err != nil {
		return "", err
	}
	if _, err = client.Resolve(image); err == nil {
		return "", errNotRefused
	}
	return registry.user, nil
}

// helmClient reads the file as HELM_REGISTRY_CONFIG.
func helmClient(file config, client *http.Client) (*helmregistry.Client, error) {
	return helmregistry.NewClient(helmregistry.ClientOptCredentialsFile(string(file)), helmregistry.ClientOptHTTPClient(client))
}

// findAsSkopeo is what skopeo, buildah and podman do with REGISTRY_AUTH_FILE.
func findAsSkopeo(file config, image string, _ *recorder) (string, error) {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return "", err
	}
	login, err := dockerconfig.GetCredentialsForRef(&types.SystemContext{AuthFilePath: string(file)}, named)
	return login.Username, err
}
