// Package moto runs the AWS double of tests/bed/moto in the bed's virtual
// environment, with a certificate of the instance's own authority.
package moto

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"pullpass/bed/internal/instance"
	"pullpass/bed/internal/pki"
	sources "pullpass/bed/moto"
)

// startDeadline is generous: Python reads moto from a cold disk.
const startDeadline = 60 * time.Second

// Options says where the double listens.
type Options struct {
	// Listen is the address of AWS's API; the certificate is valid for it and
	// for Hosts. The other sides, plain HTTP, are on 127.0.0.1.
	Listen string
	// Hosts are further names and addresses for the certificate.
	Hosts []string
	// Port of AWS's API, 0 for any free one.
	Port int
}

// Endpoints are the URLs of a running double.
type Endpoints struct {
	// URL answers ECR, ECR Public and STS, over TLS.
	URL string `json:"url"`
	// CA is the path of the certificate authority, PEM.
	CA string `json:"ca"`
	// Control is the plain HTTP side that tests hold.
	Control string `json:"control"`
	// Agent answers GET /v1/credentials like the EKS Pod Identity agent.
	Agent string `json:"agent"`
	// IMDS answers like the instance metadata service, version 2.
	IMDS string `json:"imds"`
}

// Start runs the double as a child of in and returns when it listens.
func Start(ctx context.Context, in *instance.Instance, authority *pki.CA, options Options) (Endpoints, *instance.Child, error) {
	fail := func(err error) (Endpoints, *instance.Child, error) { return Endpoints{}, nil, err }
	python, err := interpreter()
	if err != nil {
		return fail(err)
	}
	dir := in.Path("moto")
	if err := os.CopyFS(dir, fs.FS(sources.Sources)); err != nil {
		return fail(err)
	}
	leaf, err := authority.Server("moto", append([]string{options.Listen, "localhost"}, options.Hosts...)...)
	if err != nil {
		return fail(err)
	}
	cert, key, err := leaf.Write(dir, "serving")
	if err != nil {
		return fail(err)
	}
	ca, err := authority.Write(dir, "ca.crt")
	if err != nil {
		return fail(err)
	}
	ready := filepath.Join(dir, "ready.json")
	command := exec.Command(python, filepath.Join(dir, "launcher.py"), "--cert", cert, "--key", key,
		"--listen", options.Listen, "--port", strconv.Itoa(options.Port), "--ready", ready)
	command.Dir = dir
	command.Env = environment()
	child, err := in.Start("moto", command)
	if err != nil {
		return fail(err)
	}
	endpoints := Endpoints{CA: ca}
	err = child.WaitReady(ctx, startDeadline, func(context.Context) error {
		text, err := os.ReadFile(ready)
		if err != nil {
			return err
		}
		return json.Unmarshal(text, &endpoints)
	})
	return endpoints, child, err
}

func interpreter() (string, error) {
	root, err := instance.Root()
	if err != nil {
		return "", err
	}
	python := filepath.Join(root, "venv", "bin", "python")
	if _, err := os.Stat(filepath.Join(root, "venv", ".installed")); err != nil {
		return "", fmt.Errorf("%s has no moto: run `make bed-moto`", filepath.Dir(filepath.Dir(python)))
	}
	return python, nil
}

// environment is what Python gets: nothing of the caller's AWS or Python
// settings, which could change what the double answers.
func environment() []string {
	kept := []string{"PYTHONUNBUFFERED=1", "PYTHONDONTWRITEBYTECODE=1", "PYTHONNOUSERSITE=1"}
	for _, name := range []string{"PATH", "HOME", "LANG", "TMPDIR"} {
		if value, set := os.LookupEnv(name); set {
			kept = append(kept, name+"="+value)
		}
	}
	return kept
}
