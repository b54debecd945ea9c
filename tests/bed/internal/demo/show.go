package demo

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// pod is what the demo reads of a Pod.
type pod struct {
	Metadata struct {
		Name        string            `json:"name"`
		Labels      map[string]string `json:"labels"`
		Annotations map[string]string `json:"annotations"`
	} `json:"metadata"`
	Spec struct {
		Containers []struct {
			Name  string `json:"name"`
			Image string `json:"image"`
		} `json:"containers"`
		ImagePullSecrets []struct {
			Name string `json:"name"`
		} `json:"imagePullSecrets"`
	} `json:"spec"`
	Status struct {
		Phase             string `json:"phase"`
		ContainerStatuses []struct {
			State struct {
				Waiting struct {
					Reason  string `json:"reason"`
					Message string `json:"message"`
				} `json:"waiting"`
			} `json:"state"`
		} `json:"containerStatuses"`
	} `json:"status"`
}

// list is a Kubernetes list of T.
type list[T any] struct {
	Items []T `json:"items"`
}

// secret is what the demo reads of a Secret.
type secret struct {
	Metadata struct {
		Annotations map[string]string `json:"annotations"`
		Labels      map[string]string `json:"labels"`
		UID         string            `json:"uid"`
	} `json:"metadata"`
	Type string            `json:"type"`
	Data map[string]string `json:"data"`
}

// event is what the demo reads of an Event.
type event struct {
	Type           string `json:"type"`
	Reason         string `json:"reason"`
	Message        string `json:"message"`
	InvolvedObject struct {
		Kind string `json:"kind"`
		Name string `json:"name"`
	} `json:"involvedObject"`
}

// dockerConfig is the payload of a pull secret.
// https://kubernetes.io/docs/concepts/configuration/secret/#docker-config-secrets
type dockerConfig struct {
	Auths map[string]struct {
		Auth string `json:"auth"`
	} `json:"auths"`
}

// firstPod waits for the Deployment's Pod in a namespace.
func (d *demo) firstPod(ctx context.Context, namespace string) (pod, error) {
	var found list[pod]
	err := poll(ctx, 20*time.Second, "the Pod in namespace "+namespace, func() (bool, error) {
		err := d.kubectl.get(ctx, &found, "pods", "-n", namespace)
		return err == nil && len(found.Items) > 0, err
	})
	if err != nil {
		return pod{}, err
	}
	return found.Items[0], nil
}

// describe is the part of a Pod that the story is about.
func (p pod) describe() string {
	var text strings.Builder
	for _, container := range p.Spec.Containers {
		fmt.Fprintf(&text, "image: %s\n", container.Image)
	}
	if len(p.Spec.ImagePullSecrets) == 0 {
		text.WriteString("imagePullSecrets: none\n")
	}
	for _, reference := range p.Spec.ImagePullSecrets {
		fmt.Fprintf(&text, "imagePullSecrets: [{name: %s}]\n", reference.Name)
	}
	for _, key := range slices.Sorted(maps.Keys(p.Metadata.Annotations)) {
		fmt.Fprintf(&text, "annotation %s: %s\n", key, p.Metadata.Annotations[key])
	}
	return text.String()
}

// redacted shows a pull secret without its passwords.
func (s secret) redacted() (string, error) {
	var text strings.Builder
	fmt.Fprintf(&text, "type: %s\n", s.Type)
	for _, key := range slices.Sorted(maps.Keys(s.Metadata.Labels)) {
		fmt.Fprintf(&text, "label %s: %s\n", key, s.Metadata.Labels[key])
	}
	for _, key := range slices.Sorted(maps.Keys(s.Metadata.Annotations)) {
		fmt.Fprintf(&text, "annotation %s: %s\n", key, strings.TrimSpace(s.Metadata.Annotations[key]))
	}
	config, err := s.config()
	if err != nil {
		return "", err
	}
	for _, key := range slices.Sorted(maps.Keys(config.Auths)) {
		login, err := base64.StdEncoding.DecodeString(config.Auths[key].Auth)
		if err != nil {
			return "", fmt.Errorf("auths[%q].auth: %w", key, err)
		}
		user, password, _ := strings.Cut(string(login), ":")
		fmt.Fprintf(&text, "auths %q: user %s, password <%d bytes>\n", key, user, len(password))
	}
	return text.String(), nil
}

// config decodes the payload.
func (s secret) config() (dockerConfig, error) {
	var config dockerConfig
	payload, err := base64.StdEncoding.DecodeString(s.Data[".dockerconfigjson"])
	if err != nil {
		return config, err
	}
	return config, json.Unmarshal(payload, &config)
}
