package demo

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"pullpass/bed/internal/instance"
)

// place is where the story happens.
type place struct {
	Kubeconfig string `json:"kubeconfig"`
	URL        string `json:"url"`
	// HostAddress is this machine as the API server sees it.
	HostAddress string `json:"hostAddress"`
	Registry    struct {
		URL    string `json:"url"`
		CA     string `json:"ca"`
		Proxy  string `json:"proxy"`
		Access string `json:"access"`
	} `json:"registry"`
	Moto struct {
		URL     string `json:"url"`
		CA      string `json:"ca"`
		Control string `json:"control"`
	} `json:"moto"`
	// node says that there is a kubelet; without one nothing runs Pods.
	node bool
}

// notAllowed is the exit code of `bed cluster up` where the machine forbids it.
const notAllowed = 3

// startPlace starts the whole cluster or, where the machine does not allow a
// node, its API server, the registry and AWS's API alone.
func (d *demo) startPlace(ctx context.Context) error {
	return d.step("A real Kubernetes cluster, a registry that asks for a password, and AWS's API start", func() error {
		d.place.node = true
		err := d.verb(ctx, &d.place, "cluster", "up", "--mirror", registryHost, "--image", repository+":1")
		if exitCode(err) == notAllowed {
			d.say("%s", err)
			d.say("So there is no node here: the story goes on without a running Pod.")
			err = d.startWithoutNode(ctx)
		}
		if err != nil {
			return err
		}
		program, err := instance.Binary("kubectl")
		if err != nil {
			return err
		}
		d.kubectl = kubectl{program: program, kubeconfig: d.place.Kubeconfig}
		version, err := d.kubectl.run(ctx, "", "version")
		if err != nil {
			return err
		}
		d.show(version)
		if d.place.node {
			nodes, err := d.kubectl.run(ctx, "", "get", "nodes", "-o", "wide")
			if err != nil {
				return err
			}
			d.show(nodes)
		}
		return nil
	})
}

func (d *demo) startWithoutNode(ctx context.Context) error {
	d.processes = nil
	d.place = place{HostAddress: "127.0.0.1"}
	if err := d.verb(ctx, &d.place, "api"); err != nil {
		return err
	}
	if err := d.verb(ctx, &d.place.Registry, "registry", "--image", repository+":1", "--host", registryHost); err != nil {
		return err
	}
	return d.verb(ctx, &d.place.Moto, "moto")
}

// setUpAWS makes the key that may ask for tokens, and lets the registry accept
// what that key's owner mints, as Amazon ECR does.
func (d *demo) setUpAWS(ctx context.Context) error {
	return d.step("An AWS account: one user that may pull, with one access key", func() error {
		d.key = accessKey{"AKIAPULLPASSDEMO0001", "demo-secret-made-for-this-run-only-0001"}
		body, err := json.Marshal(map[string]any{
			"accessKeyId": d.key.id, "secretAccessKey": d.key.secret, "principal": principal,
		})
		if err != nil {
			return err
		}
		if err := d.tellAWS(ctx, "/keys", body); err != nil {
			return err
		}
		access, err := json.Marshal(map[string]any{
			"allow":  []any{map[string]any{"principal": principal}},
			"minted": map[string]any{"control": d.place.Moto.Control},
		})
		if err != nil {
			return err
		}
		d.say("The registry accepts only tokens that AWS minted for %s.", principal)
		return replaceFile(d.place.Registry.Access, access)
	})
}

// accessKey is an AWS key pair.
type accessKey struct{ id, secret string }

// tellAWS posts to the control side of the AWS double.
func (d *demo) tellAWS(ctx context.Context, path string, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, d.place.Moto.Control+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode >= 300 {
		return fmt.Errorf("the AWS double answered %s to POST %s", answer.Status, path)
	}
	return nil
}

// startPullpass gives pullpass an account with the rights that it ships with,
// a certificate of its own, and starts it beside the cluster.
func (d *demo) startPullpass(ctx context.Context) error {
	return d.step("pullpass starts, with its own certificate and no more rights than manifests/rbac.yaml", func() error {
		if err := d.grantRights(ctx); err != nil {
			return err
		}
		certs := d.frame.Path("certs")
		made, err := exec.CommandContext(ctx, d.Pullpass, "certs", certs, "--host", d.place.HostAddress).CombinedOutput()
		if err != nil {
			return fmt.Errorf("pullpass certs: %w: %s", err, made)
		}
		kubeconfig, err := d.ownKubeconfig(ctx)
		if err != nil {
			return err
		}
		if d.webhook, err = freeAddress(d.place.HostAddress); err != nil {
			return err
		}
		if d.health, err = freeAddress("127.0.0.1"); err != nil {
			return err
		}
		arguments := []string{
			"serve", "--kubeconfig", kubeconfig, "--namespace", ownNamespace,
			"--listen", d.webhook, "--metrics-listen", d.health,
			"--tls-cert", filepath.Join(certs, "tls.crt"), "--tls-key", filepath.Join(certs, "tls.key"),
			"--extra-ca", d.place.Moto.CA, "--drain-delay", "0",
		}
		d.say("pullpass %s", strings.Join(arguments, " "))
		command := exec.Command(d.Pullpass, arguments...)
		if d.Keep {
			d.frame.Hold(command)
		}
		process, err := start(command, d.frame.Path("logs", "pullpass.log"), d.Keep)
		if err != nil {
			return err
		}
		d.processes = append(d.processes, process)
		err = poll(ctx, 20*time.Second, "pullpass to be ready", func() (bool, error) {
			select {
			case <-process.done:
				return false, fmt.Errorf("pullpass ended: %s", tail(process.log))
			default:
			}
			answer, err := http.Get("http://" + d.health + "/readyz")
			if err != nil {
				return false, err
			}
			defer answer.Body.Close()
			return answer.StatusCode == http.StatusOK, nil
		})
		if err != nil {
			return fmt.Errorf("%w\n%s", err, tail(process.log))
		}
		return d.registerWebhook(ctx, filepath.Join(certs, "ca.crt"))
	})
}

// grantRights makes pullpass' namespace, kind and account.
func (d *demo) grantRights(ctx context.Context) error {
	for _, name := range []string{"crd.yaml", "rbac.yaml"} {
		if _, err := d.kubectl.run(ctx, "", "apply", "-f", filepath.Join(d.Source, "manifests", name)); err != nil {
			return err
		}
	}
	_, err := d.kubectl.run(ctx, "", "wait", "--for=condition=Established", "--timeout=20s", "crd/registries.pullpass.dev")
	return err
}

// ownKubeconfig is a kubeconfig of pullpass' ServiceAccount, with a token as a
// Pod would have it.
func (d *demo) ownKubeconfig(ctx context.Context) (string, error) {
	token, err := d.kubectl.run(ctx, "", "create", "token", "pullpass", "-n", ownNamespace, "--duration=24h")
	if err != nil {
		return "", err
	}
	path := d.frame.Path("pullpass.kubeconfig")
	admin, err := os.ReadFile(d.place.Kubeconfig)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(path, admin, 0o600); err != nil {
		return "", err
	}
	own := kubectl{program: d.kubectl.program, kubeconfig: path}
	if _, err := own.run(ctx, "", "config", "set-credentials", "pullpass", "--token="+strings.TrimSpace(token)); err != nil {
		return "", err
	}
	if _, err := own.run(ctx, "", "config", "set-context", "--current", "--user=pullpass"); err != nil {
		return "", err
	}
	return path, nil
}

// registerWebhook applies the webhook configuration with this run's address
// and authority.
func (d *demo) registerWebhook(ctx context.Context, caFile string) error {
	ca, err := os.ReadFile(caFile)
	if err != nil {
		return err
	}
	text, err := d.kubectl.run(ctx, "", "create", "--dry-run=client", "-o", "json", "-f", filepath.Join(d.Source, "manifests", "webhook.yaml"))
	if err != nil {
		return err
	}
	documents := json.NewDecoder(strings.NewReader(text))
	for documents.More() {
		var configuration map[string]any
		if err := documents.Decode(&configuration); err != nil {
			return err
		}
		if err := d.applyWebhooks(ctx, configuration, ca); err != nil {
			return err
		}
	}
	return nil
}

// applyWebhooks applies one webhook configuration, its webhooks' paths kept.
func (d *demo) applyWebhooks(ctx context.Context, configuration map[string]any, ca []byte) error {
	webhooks, _ := configuration["webhooks"].([]any)
	for _, entry := range webhooks {
		webhook, _ := entry.(map[string]any)
		client, _ := webhook["clientConfig"].(map[string]any)
		text, _ := client["url"].(string)
		address, err := url.Parse(text)
		if err != nil {
			return err
		}
		address.Host = d.webhook
		webhook["clientConfig"] = map[string]any{
			"url":      address.String(),
			"caBundle": base64.StdEncoding.EncodeToString(ca),
		}
	}
	rendered, err := json.Marshal(configuration)
	if err != nil {
		return err
	}
	return d.kubectl.apply(ctx, string(rendered))
}

// freeAddress is HOST:PORT with a port that is free now.
func freeAddress(host string) (string, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

// replaceFile writes a file in one step.
func replaceFile(path string, content []byte) error {
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
