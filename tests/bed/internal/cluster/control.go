package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

const (
	// controlSocket is where the inner side takes orders: the folder is the same inside and outside.
	controlSocket = "control.sock"
	// kubeletHealth answers inside once the kubelet runs
	// (https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/, healthzPort).
	kubeletHealth = "http://127.0.0.1:10248/healthz"
	// kubeletDeadline is from the kubelet's start until it is healthy.
	kubeletDeadline = 60 * time.Second
)

// order is what the outer side asks of the inner one, one JSON value a connection.
type order struct {
	// Kubelet are the flags with which the kubelet is started anew, besides its usual ones.
	Kubelet []string `json:"kubelet"`
}

// answer is what became of an order; "" is well.
type answer struct {
	Error string `json:"error"`
}

// RestartKubelet ends the kubelet and starts it with these flags besides its usual ones; it returns when the kubelet is healthy.
func (c *Cluster) RestartKubelet(ctx context.Context, flags []string) error {
	var dialer net.Dialer
	connection, err := dialer.DialContext(ctx, "unix", c.frame.Path(controlSocket))
	if err != nil {
		return err
	}
	defer connection.Close()
	if err := json.NewEncoder(connection).Encode(order{Kubelet: flags}); err != nil {
		return err
	}
	var said answer
	if err := json.NewDecoder(connection).Decode(&said); err != nil {
		return fmt.Errorf("the inner side gave no answer: %w", err)
	}
	if said.Error != "" {
		return errors.New(said.Error)
	}
	return nil
}

// serveControl takes orders until ctx ends.
func (n *node) serveControl(ctx context.Context) error {
	listener, err := net.Listen("unix", n.frame.Path(controlSocket))
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			n.obey(ctx, connection)
		}
	}()
	return nil
}

func (n *node) obey(ctx context.Context, connection net.Conn) {
	defer connection.Close()
	var asked order
	err := json.NewDecoder(connection).Decode(&asked)
	if err == nil {
		err = n.restartKubelet(ctx, asked.Kubelet)
	}
	var said answer
	if err != nil {
		said.Error = err.Error()
	}
	if err := json.NewEncoder(connection).Encode(said); err != nil {
		fmt.Fprintln(os.Stderr, "control:", err)
	}
}

// restartKubelet starts the kubelet as usual again where it refuses the flags, so that the cluster lives on.
func (n *node) restartKubelet(ctx context.Context, flags []string) error {
	n.kubelet.Stop()
	err := n.tryKubelet(ctx, flags)
	if err == nil || ctx.Err() != nil {
		return err
	}
	n.kubelet.Stop()
	return errors.Join(err, n.tryKubelet(ctx, nil))
}

func (n *node) tryKubelet(ctx context.Context, flags []string) error {
	err := n.startKubelet(flags)
	if err != nil {
		return err
	}
	err = n.kubelet.WaitReady(ctx, kubeletDeadline, func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, kubeletHealth, nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("the kubelet answers %s", response.Status)
		}
		return nil
	})
	if err == nil {
		n.kubelet.OnFailure(n.failed)
	}
	return err
}
