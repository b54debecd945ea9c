package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// kubectl runs the bed's kubectl as the cluster's admin.
type kubectl struct {
	program    string
	kubeconfig string
}

// run returns what the command printed on stdout; its error is what it
// printed on stderr.
func (k kubectl) run(ctx context.Context, input string, args ...string) (string, error) {
	command := exec.CommandContext(ctx, k.program, args...)
	command.Env = append(os.Environ(), "KUBECONFIG="+k.kubeconfig)
	command.Stdin = strings.NewReader(input)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// apply applies manifests.
func (k kubectl) apply(ctx context.Context, manifests string) error {
	_, err := k.run(ctx, manifests, "apply", "-f", "-")
	return err
}

// get reads objects as JSON into value.
func (k kubectl) get(ctx context.Context, value any, args ...string) error {
	text, err := k.run(ctx, "", append(append([]string{"get"}, args...), "-o", "json")...)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(text), value)
}

// poll asks until done says so, 10 times a second, and fails after limit with
// what was waited for.
func poll(ctx context.Context, limit time.Duration, what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errTooLong)
	defer cancel()
	for {
		ok, err := done()
		if ok {
			return nil
		}
		if ctx.Err() != nil {
			return errors.Join(fmt.Errorf("waited %s for %s", limit, what), err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

var errTooLong = errors.New("too long")
