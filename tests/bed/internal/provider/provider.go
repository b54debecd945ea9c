// Package provider asks the kubelet's own code whether it starts with a
// configuration of credential providers, and which images it asks them for.
package provider

import (
	"errors"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/credentialprovider"
	"k8s.io/kubernetes/pkg/credentialprovider/plugin"
	"k8s.io/kubernetes/pkg/util/parsers"
)

// errNobody is never seen: no Pod is there for which a plug-in would be run.
var errNobody = errors.New("nobody is there")

// Start does what the kubelet does at its start with its flags
// --image-credential-provider-config and --image-credential-provider-bin-dir,
// and returns why it would end. It may be called once in a process.
func Start(config, binDir string) error {
	return plugin.RegisterCredentialProviderPlugins(config, binDir,
		func(string, string, *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error) {
			return nil, errNobody
		},
		func(string, string) (*corev1.ServiceAccount, error) { return nil, errNobody },
	)
}

// Request are entries of matchImages, and images as Pods name them.
type Request struct {
	MatchImages []string `json:"matchImages"`
	Images      []string `json:"images"`
}

// Matches says of each image whether the kubelet asks a provider with these
// entries (pkg/credentialprovider/plugin/plugin.go, isImageAllowed).
func Matches(request Request) ([]bool, error) {
	found := make([]bool, len(request.Images))
	for n, image := range request.Images {
		repository, _, _, err := parsers.ParseImageName(image)
		if err != nil {
			return nil, err
		}
		for _, entry := range request.MatchImages {
			matched, _ := credentialprovider.URLsMatchStr(entry, repository)
			found[n] = found[n] || matched
		}
	}
	return found, nil
}
