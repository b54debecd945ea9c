// Package demo shows pullpass at work to a person: a real cluster, a real
// registry that asks for a password, AWS's API, one namespace that opted in
// and one that did not. Every line it prints is read off the running parts.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"pullpass/bed/internal/instance"
)

// What the demo speaks of.
const (
	registryHost = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
	repository   = "team/hello"
	image        = registryHost + "/" + repository + ":1"
	principal    = "arn:aws:iam::123456789012:user/image-puller"
	ownNamespace = "pullpass"
	optedIn      = "shop"
	notOptedIn   = "elsewhere"
)

// Options say what to show and where.
type Options struct {
	// Pullpass is the path of the program that is shown.
	Pullpass string
	// Source is the root of the checkout, which holds manifests/.
	Source string
	// Keep leaves everything up and says how to reach it.
	Keep bool
	// Out is where the story goes.
	Out io.Writer
}

// demo is one run.
type demo struct {
	Options
	*story
	frame     *instance.Instance
	processes []*process
	place     place
	kubectl   kubectl
	key       accessKey
	// webhook and health are the addresses that pullpass listens on.
	webhook, health string
	// payload is the dockerconfigjson of the pull secret.
	payload []byte
}

// Run tells the whole story, or as much of it as this machine allows. All that
// it started ends with it, unless Keep is set and everything went well.
func Run(ctx context.Context, options Options) (err error) {
	frame, err := instance.New("demo")
	if err != nil {
		return err
	}
	d := &demo{Options: options, story: newStory(options.Out), frame: frame}
	defer func() { err = errors.Join(err, d.end(err)) }()
	for _, step := range []func(context.Context) error{
		d.startPlace,
		d.setUpAWS,
		d.startPullpass,
		d.configure,
		d.deploy,
		d.showPod,
		d.showSecret,
		d.showPull,
		d.showTheOther,
	} {
		if err := step(ctx); err != nil {
			if ctx.Err() != nil {
				return errors.New("interrupted: everything that was started is being ended")
			}
			return err
		}
	}
	d.summary()
	return nil
}

// end stops what runs, last started first, or leaves it up.
func (d *demo) end(failure error) error {
	if d.Keep && failure == nil {
		return d.leave()
	}
	for n := len(d.processes) - 1; n >= 0; n-- {
		d.processes[n].end()
	}
	return d.frame.Close()
}

// leave writes down what runs, so that the next `demo --down` finds it.
func (d *demo) leave() error {
	root, err := instance.Root()
	if err != nil {
		return err
	}
	if err := writeLeft(filepath.Join(root, leftFile), d.processes, d.frame.Dir); err != nil {
		return err
	}
	authorities, err := d.writeAuthorities()
	if err != nil {
		return err
	}
	fmt.Fprintf(d.Out, "\nThe cluster stays up. In this shell:\n\n  export KUBECONFIG=%s\n  export PATH=%s:%s:$PATH\n  kubectl get pods -A\n",
		d.place.Kubeconfig, filepath.Join(root, "bin"), filepath.Dir(d.Pullpass))
	fmt.Fprintf(d.Out, "\nThe registry has Amazon ECR's name through a proxy, and AWS and it have authorities of their own:\n\n  export PULLPASS_EXTRA_CA=%s\n  HTTPS_PROXY=%s NO_PROXY=%s pullpass check -n %s %s\n",
		authorities, d.place.Registry.Proxy, d.place.HostAddress, optedIn, image)
	fmt.Fprintf(d.Out, "\npullpass' log:   %s\nTo end it:       make demo-down\n", d.frame.Path("logs", "pullpass.log"))
	return nil
}

// writeAuthorities writes the authorities of AWS and of the registry into one
// file, for `pullpass check`.
func (d *demo) writeAuthorities() (string, error) {
	var all []byte
	for _, file := range []string{d.place.Moto.CA, d.place.Registry.CA} {
		authority, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		all = append(append(all, authority...), '\n')
	}
	path := d.frame.Path("authorities.crt")
	return path, os.WriteFile(path, all, 0o644)
}

// Down ends what a run with Keep left up. It is no error when there is none.
func Down(out io.Writer) error {
	root, err := instance.Root()
	if err != nil {
		return err
	}
	path := filepath.Join(root, leftFile)
	left, err := readLeft(path)
	if errors.Is(err, os.ErrNotExist) {
		fmt.Fprintln(out, "nothing was left up")
		return nil
	}
	if err != nil {
		return err
	}
	left.end()
	return os.Remove(path)
}
