// Package keyring asks the kubelet's own code which credentials it would try
// for an image, and in which order.
package keyring

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/credentialprovider"
	"k8s.io/kubernetes/pkg/credentialprovider/secrets"
)

var _ = secrets.MakeDockerKeyring
var _ credentialprovider.DockerKeyring
var _ corev1.Secret
