package apiserver

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"pullpass/bed/internal/pki"
)

// Client is an administrator's client of the server.
func (s *Server) Client() (*kubernetes.Clientset, error) {
	config, err := clientcmd.BuildConfigFromFlags("", s.Kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS = -1 // no client-side limit
	return kubernetes.NewForConfig(config)
}

// EnsureNamespace makes the namespace, unless it is there, and its `default`
// ServiceAccount. A controller-manager would make the latter; without one,
// admission refuses every Pod of the namespace.
func (s *Server) EnsureNamespace(ctx context.Context, name string) error {
	client, err := s.Client()
	if err != nil {
		return err
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if _, err := client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: "default"}}
	if _, err := client.CoreV1().ServiceAccounts(name).Create(ctx, account, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	return nil
}

// Version is what the server says it is, such as v1.36.3.
func (s *Server) Version() (string, error) {
	client, err := s.Client()
	if err != nil {
		return "", err
	}
	version, err := client.Discovery().ServerVersion()
	if err != nil {
		return "", fmt.Errorf("GET /version: %w", err)
	}
	return version.GitVersion, nil
}

// ready asks /readyz, which covers etcd, the informers and the post-start
// hooks (among them RBAC's built-in roles).
func (s *Server) ready(ctx context.Context) error {
	client, err := s.Client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if _, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx); err != nil {
		return fmt.Errorf("GET /readyz: %w", err)
	}
	return nil
}

func writeKubeconfig(path, url string, ca []byte, leaf pki.Leaf) error {
	config := api.NewConfig()
	config.Clusters["bed"] = &api.Cluster{Server: url, CertificateAuthorityData: ca}
	config.AuthInfos["bed"] = &api.AuthInfo{ClientCertificateData: leaf.CertPEM, ClientKeyData: leaf.KeyPEM}
	config.Contexts["bed"] = &api.Context{Cluster: "bed", AuthInfo: "bed"}
	config.CurrentContext = "bed"
	return clientcmd.WriteToFile(*config, path)
}
