package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
)

// trial asks for one real pull or push.
type trial struct {
	// Client is one of doers.
	Client string `json:"client"`
	// Image has a tag; helm's is named as its chart: …/chart:0.1.0.
	Image string `json:"image"`
	// Push says that the image is pushed, and not pulled.
	Push bool `json:"push"`
	// DockerConfigJSON is what the client reads as a file.
	DockerConfigJSON string `json:"dockerconfigjson"`
	// Proxy is the URL of what finds the image's host, CA the file with the
	// authority of that host's certificate.
	Proxy string `json:"proxy"`
	CA    string `json:"ca"`
	// ServiceAccount says where k8schain looks instead of in a file.
	ServiceAccount account `json:"serviceAccount"`
}

// account is a ServiceAccount of a cluster.
type account struct {
	Kubeconfig string `json:"kubeconfig"`
	Namespace  string `json:"namespace"`
	Name       string `json:"name"`
}

// done answers a trial that went well.
type done struct {
	Image string `json:"image"`
}

// doers pull and push as each client does.
var doers = map[string]func(*journey) error{
	"docker":   asDocker,
	"crane":    asCrane,
	"k8schain": asK8schain,
	"oras":     asOras,
	"helm":     asHelm,
	"skopeo":   asSkopeo,
}

// journey is a trial with what it takes.
type journey struct {
	trial
	file      config
	proxy     *url.URL
	transport *http.Transport
}

func try(file config, asked trial) (done, error) {
	do := doers[asked.Client]
	if do == nil {
		return done{}, fmt.Errorf("no client %q", asked.Client)
	}
	if err := file.write(asked.DockerConfigJSON); err != nil {
		return done{}, err
	}
	proxy, err := url.Parse(asked.Proxy)
	if err != nil {
		return done{}, err
	}
	ca, err := os.ReadFile(asked.CA)
	if err != nil {
		return done{}, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return done{}, errors.New(asked.CA + " holds no certificate")
	}
	transport := &http.Transport{Proxy: http.ProxyURL(proxy), TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer transport.CloseIdleConnections()
	return done{asked.Image}, do(&journey{asked, file, proxy, transport})
}
