package demo

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// configure is what an admin does: one Registry, one source Secret, one label.
func (d *demo) configure(ctx context.Context) error {
	return d.step("The admin's part: one Secret with the access key, one Registry, one namespace label", func() error {
		source, err := json.Marshal(map[string]any{
			"apiVersion": "v1", "kind": "Secret",
			"metadata": map[string]any{
				"name": "aws-image-puller", "namespace": ownNamespace,
				"labels": map[string]string{"pullpass.dev/source": "true"},
			},
			"stringData": map[string]string{"AWS_ACCESS_KEY_ID": d.key.id, "AWS_SECRET_ACCESS_KEY": d.key.secret},
		})
		if err != nil {
			return err
		}
		if err := d.kubectl.apply(ctx, string(source)); err != nil {
			return err
		}
		registry := fmt.Sprintf(`apiVersion: pullpass.dev/v1alpha1
kind: Registry
metadata: {name: team}
spec:
  images: [%s/team]
  namespaceSelector: {}
  ecr:
    identity: {keys: {secretRef: {name: aws-image-puller}}}
    endpoints: {ecr: %q, sts: %q}
`, registryHost, d.place.Moto.URL, d.place.Moto.URL)
		d.show(registry)
		if err := d.kubectl.apply(ctx, registry); err != nil {
			return err
		}
		for _, namespace := range []string{optedIn, notOptedIn} {
			if err := d.makeNamespace(ctx, namespace); err != nil {
				return err
			}
		}
		d.say("kubectl label namespace %s pullpass.dev/inject=enabled", optedIn)
		_, err = d.kubectl.run(ctx, "", "label", "namespace", optedIn, "pullpass.dev/inject=enabled")
		return err
	})
}

// makeNamespace also waits for the `default` ServiceAccount, which the
// controller-manager makes; where there is none, it is made here.
func (d *demo) makeNamespace(ctx context.Context, name string) error {
	if _, err := d.kubectl.run(ctx, "", "create", "namespace", name); err != nil {
		return err
	}
	if !d.place.node {
		_, err := d.kubectl.run(ctx, "", "create", "serviceaccount", "default", "-n", name)
		return err
	}
	return poll(ctx, 20*time.Second, "the ServiceAccount default in "+name, func() (bool, error) {
		_, err := d.kubectl.run(ctx, "", "get", "serviceaccount", "default", "-n", name)
		return err == nil, err
	})
}

const deployment = `apiVersion: apps/v1
kind: Deployment
metadata: {name: hello}
spec:
  selector: {matchLabels: {app: hello}}
  template:
    metadata: {labels: {app: hello}}
    spec:
      containers:
        - name: hello
          image: ` + image + `
`

const barePod = `apiVersion: v1
kind: Pod
metadata: {name: hello}
spec:
  containers:
    - name: hello
      image: ` + image + `
`

// deploy sends the same Deployment to both namespaces. Without a
// controller-manager nobody makes its Pods, so a Pod is sent.
func (d *demo) deploy(ctx context.Context) error {
	what, manifest := "Deployment", deployment
	if !d.place.node {
		what, manifest = "Pod", barePod
	}
	return d.step("The same "+what+" is sent to both namespaces; it says nothing about secrets", func() error {
		d.show(manifest)
		for _, namespace := range []string{optedIn, notOptedIn} {
			if _, err := d.kubectl.run(ctx, manifest, "create", "-n", namespace, "-f", "-"); err != nil {
				return err
			}
		}
		return nil
	})
}

// showPod shows the Pod as the API server stored it.
func (d *demo) showPod(ctx context.Context) error {
	return d.step("The Pod as it was stored in "+optedIn+", where pullpass saw it, and in "+notOptedIn, func() error {
		for _, namespace := range []string{optedIn, notOptedIn} {
			stored, err := d.firstPod(ctx, namespace)
			if err != nil {
				return err
			}
			d.say("%s/%s:", namespace, stored.Metadata.Name)
			d.show(stored.describe())
			if injected := len(stored.Spec.ImagePullSecrets) == 1; injected != (namespace == optedIn) {
				return fmt.Errorf("Pod %s in %s has %d pull secrets; pullpass says:\n%s",
					stored.Metadata.Name, namespace, len(stored.Spec.ImagePullSecrets), tail(d.frame.Path("logs", "pullpass.log")))
			}
		}
		return nil
	})
}

// showSecret shows the namespace's pull secret without its password.
func (d *demo) showSecret(ctx context.Context) error {
	return d.step("The Secret that it refers to, there before the Pod was (redacted)", func() error {
		var found secret
		if err := d.kubectl.get(ctx, &found, "secret", "pullpass", "-n", optedIn); err != nil {
			return err
		}
		text, err := found.redacted()
		if err != nil {
			return err
		}
		d.show(text)
		d.payload, err = base64.StdEncoding.DecodeString(found.Data[".dockerconfigjson"])
		return err
	})
}

// showPull shows that the image is really pulled: by the kubelet or, without
// a node, by a registry client that is given the kubelet's choice.
func (d *demo) showPull(ctx context.Context) error {
	if !d.place.node {
		return d.step("The kubelet's own keyring picks the credential, and a registry client pulls with it", func() error {
			return d.pullWithoutNode(ctx)
		})
	}
	return d.step("The kubelet pulls the image and the container speaks", func() error {
		running, err := d.firstPod(ctx, optedIn)
		if err != nil {
			return err
		}
		name := running.Metadata.Name
		err = poll(ctx, 60*time.Second, "Pod "+name+" to run", func() (bool, error) {
			err := d.kubectl.get(ctx, &running, "pod", name, "-n", optedIn)
			return running.Status.Phase == "Running", err
		})
		if err != nil {
			return err
		}
		if err := d.showEvents(ctx, optedIn, "Pulling", "Pulled", "Started"); err != nil {
			return err
		}
		var output string
		err = poll(ctx, 20*time.Second, "the container's output", func() (bool, error) {
			var err error
			output, err = d.kubectl.run(ctx, "", "logs", name, "-n", optedIn)
			return output != "", err
		})
		if err != nil {
			return err
		}
		d.say("kubectl logs %s -n %s", name, optedIn)
		d.show(output)
		if !strings.Contains(output, "hello from "+repository) {
			return errors.New("that is not what the image says")
		}
		return nil
	})
}

func (d *demo) pullWithoutNode(ctx context.Context) error {
	file := d.frame.Path("dockerconfig.json")
	if err := os.WriteFile(file, d.payload, 0o600); err != nil {
		return err
	}
	pulled, err := d.bedPull(ctx, file)
	if err != nil {
		return err
	}
	d.show(pulled)
	return nil
}

// bedPull pulls the demo's image with the credentials of a file.
func (d *demo) bedPull(ctx context.Context, file string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	text, err := exec.CommandContext(ctx, self, "pull", "--dockerconfigjson", file,
		"--registry", d.place.Registry.URL, "--ca", d.place.Registry.CA, image).CombinedOutput()
	return string(text), err
}

// showTheOther shows the same Pod where nobody opted in.
func (d *demo) showTheOther(ctx context.Context) error {
	if !d.place.node {
		return d.step("Without that credential the same pull is refused", func() error {
			file := d.frame.Path("empty.json")
			if err := os.WriteFile(file, []byte(`{"auths":{}}`), 0o600); err != nil {
				return err
			}
			refusal, err := d.bedPull(ctx, file)
			if err == nil {
				return errors.New("the registry gave the image to somebody without a password")
			}
			d.show(refusal)
			return nil
		})
	}
	return d.step("The same Pod in "+notOptedIn+", which did not opt in, is refused by the registry", func() error {
		waiting, err := d.firstPod(ctx, notOptedIn)
		if err != nil {
			return err
		}
		name := waiting.Metadata.Name
		var reason string
		err = poll(ctx, 60*time.Second, "Pod "+name+" to fail", func() (bool, error) {
			err := d.kubectl.get(ctx, &waiting, "pod", name, "-n", notOptedIn)
			for _, status := range waiting.Status.ContainerStatuses {
				reason = status.State.Waiting.Reason
			}
			return reason == "ErrImagePull" || reason == "ImagePullBackOff", err
		})
		if err != nil {
			return err
		}
		d.say("%s: %s", name, reason)
		return d.showEvents(ctx, notOptedIn, "Failed")
	})
}

// showEvents prints what the kubelet said about the namespace's Pod.
func (d *demo) showEvents(ctx context.Context, namespace string, reasons ...string) error {
	var events list[event]
	if err := d.kubectl.get(ctx, &events, "events", "-n", namespace, "--sort-by=.lastTimestamp"); err != nil {
		return err
	}
	for _, e := range events.Items {
		for _, reason := range reasons {
			if e.InvolvedObject.Kind == "Pod" && e.Reason == reason {
				d.show(fmt.Sprintf("%s %s %s", e.Type, e.Reason, strings.TrimSpace(e.Message)))
			}
		}
	}
	return nil
}
