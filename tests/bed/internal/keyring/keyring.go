// Package keyring asks the kubelet's own code which credentials it would try
// for an image, and in which order.
package keyring

import (
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/kubernetes/pkg/credentialprovider"
	"k8s.io/kubernetes/pkg/credentialprovider/secrets"
	"k8s.io/kubernetes/pkg/util/parsers"
)

// Request is what a Pod would give the kubelet: its pull secrets, in the
// order of spec.imagePullSecrets, and its images.
type Request struct {
	// DockerConfigJSON holds the data of .dockerconfigjson of each secret.
	DockerConfigJSON []string `json:"dockerconfigjson"`
	// Images are image references as a Pod names them; tag and digest may be
	// there and do not matter.
	Images []string `json:"images"`
}

// Credential is one user name and password that the kubelet would try.
type Credential struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

// Lookup returns for each image what the kubelet would try, first one first.
// It fails where the kubelet fails to pull: a malformed secret, or an image
// that is no reference. It does what the kubelet's image manager does
// (pkg/kubelet/images/image_manager.go, makeLookupPullCredentialsFunc) on a
// node that has no credentials of its own.
func Lookup(request Request) ([][]Credential, error) {
	pullSecrets := make([]corev1.Secret, len(request.DockerConfigJSON))
	for n, data := range request.DockerConfigJSON {
		name := "secret-" + strconv.Itoa(n)
		pullSecrets[n] = corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name)},
			Type:       corev1.SecretTypeDockerConfigJson,
			Data:       map[string][]byte{corev1.DockerConfigJsonKey: []byte(data)},
		}
	}
	ring, err := secrets.MakeDockerKeyring(pullSecrets, credentialprovider.UnionDockerKeyring{})
	if err != nil {
		return nil, fmt.Errorf("pull secret: %w", err)
	}
	found := make([][]Credential, len(request.Images))
	for n, image := range request.Images {
		repository, _, _, err := parsers.ParseImageName(image)
		if err != nil {
			return nil, err
		}
		tracked, _ := ring.Lookup(repository)
		found[n] = make([]Credential, len(tracked))
		for m, config := range tracked {
			found[n][m] = Credential{Username: config.Username, Password: config.Password}
		}
	}
	return found, nil
}
