// Package platform runs what clouds put in front of an API server: the
// webhooks that give Pods the tokens of their cloud identities.
package platform

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"pullpass/bed/internal/pki"
)

// Webhook changes a Pod that is about to be created. account is the Pod's
// ServiceAccount; nil: there is none.
type Webhook interface {
	mutate(pod *corev1.Pod, account *corev1.ServiceAccount) error
}

// Server answers the API server's reviews for a Webhook.
type Server struct {
	// URL is where the API server is to call.
	URL string
	// CA is the path of the authority of its certificate.
	CA string

	webhook Webhook
	client  kubernetes.Interface
	server  *http.Server
}

// Start listens on loopback; reviews are answered when it returns. ServiceAccounts
// are read as the user of kubeconfig.
func Start(dir, kubeconfig string, webhook Webhook) (*Server, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	ca, certificate, key, err := WriteCertificates(dir)
	if err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return nil, err
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		return nil, err
	}
	server := &Server{URL: fmt.Sprintf("https://%s/mutate", listener.Addr()), CA: ca, webhook: webhook, client: client}
	server.serve(listener)
	return server, nil
}

// WriteCertificates makes an authority and a certificate of it for loopback,
// and returns their paths and the key's.
func WriteCertificates(dir string) (ca, certificate, key string, err error) {
	authority, err := pki.NewCA("bed platform")
	if err != nil {
		return "", "", "", err
	}
	leaf, err := authority.Server("platform", "127.0.0.1")
	if err != nil {
		return "", "", "", err
	}
	if ca, err = authority.Write(dir, "platform-ca.crt"); err != nil {
		return "", "", "", err
	}
	certificate, key, err = leaf.Write(dir, "platform")
	return ca, certificate, key, err
}

func (s *Server) serve(listener net.Listener) {
	s.server = &http.Server{Handler: http.HandlerFunc(s.handle)}
	// It ends with Close.
	go func() { _ = s.server.Serve(listener) }()
}

// Close stops it.
func (s *Server) Close() error { return s.server.Close() }

func (s *Server) handle(writer http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	var review admissionv1.AdmissionReview
	if err == nil {
		err = json.Unmarshal(body, &review)
	}
	if err != nil || review.Request == nil {
		http.Error(writer, fmt.Sprintf("no review: %v", err), http.StatusBadRequest)
		return
	}
	review.Response = s.answer(request.Context(), review.Request)
	review.Request = nil
	writer.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(writer).Encode(review)
}

func (s *Server) answer(ctx context.Context, request *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	patch, err := s.patch(ctx, request)
	if err != nil {
		return &admissionv1.AdmissionResponse{UID: request.UID, Result: &metav1.Status{Message: err.Error()}}
	}
	form := admissionv1.PatchTypeJSONPatch
	return &admissionv1.AdmissionResponse{UID: request.UID, Allowed: true, Patch: patch, PatchType: &form}
}

// patch replaces what a webhook may have changed.
func (s *Server) patch(ctx context.Context, request *admissionv1.AdmissionRequest) ([]byte, error) {
	var pod corev1.Pod
	if err := json.Unmarshal(request.Object.Raw, &pod); err != nil {
		return nil, err
	}
	account, err := s.client.CoreV1().ServiceAccounts(request.Namespace).Get(ctx, pod.Spec.ServiceAccountName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		account, err = nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := s.webhook.mutate(&pod, account); err != nil {
		return nil, err
	}
	return json.Marshal([]map[string]any{
		{"op": "replace", "path": "/spec", "value": pod.Spec},
		{"op": "replace", "path": "/metadata", "value": pod.ObjectMeta},
	})
}

// containers are all of a Pod, those for its start first.
func containers(pod *corev1.Pod) []*corev1.Container {
	var all []*corev1.Container
	for i := range pod.Spec.InitContainers {
		all = append(all, &pod.Spec.InitContainers[i])
	}
	for i := range pod.Spec.Containers {
		all = append(all, &pod.Spec.Containers[i])
	}
	return all
}

// has tells whether a container's environment has one of these names.
func has(container *corev1.Container, names ...string) bool {
	for _, variable := range container.Env {
		for _, name := range names {
			if variable.Name == name {
				return true
			}
		}
	}
	return false
}

// set appends a variable.
func set(container *corev1.Container, name, value string) {
	container.Env = append(container.Env, corev1.EnvVar{Name: name, Value: value})
}

// mount mounts a volume by its name, unless something of that name is mounted.
func mount(container *corev1.Container, name, path string) {
	for _, mounted := range container.VolumeMounts {
		if mounted.Name == name {
			return
		}
	}
	container.VolumeMounts = append(container.VolumeMounts, corev1.VolumeMount{Name: name, MountPath: path, ReadOnly: true})
}

// projected is a volume that holds a token of the Pod's ServiceAccount.
func projected(name, path, audience string, seconds int64) corev1.Volume {
	token := &corev1.ServiceAccountTokenProjection{Audience: audience, ExpirationSeconds: &seconds, Path: path}
	sources := []corev1.VolumeProjection{{ServiceAccountToken: token}}
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: sources}}}
}
