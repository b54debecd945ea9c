package registry

import (
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

// front is a proxy for CONNECT, on the address that the registry listens on:
// through it a client finds the registry under the further names of its
// certificate, as if it were the cloud's, and everything else where it is.
func (r *Registry) front(address string, names []string) (string, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return "", err
	}
	own := strings.TrimPrefix(r.URL, "https://")
	r.proxy = &http.Server{
		ReadHeaderTimeout: 30 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
			name, _, err := net.SplitHostPort(request.Host)
			if request.Method != http.MethodConnect || err != nil {
				http.Error(w, "only CONNECT HOST:PORT is answered here", http.StatusMethodNotAllowed)
				return
			}
			target := request.Host
			if slices.Contains(names, name) {
				target = own
			}
			tunnel(w, target)
		}),
	}
	go func() { _ = r.proxy.Serve(listener) }()
	return "http://" + listener.Addr().String(), nil
}

// tunnel joins the client's connection with one to target.
func tunnel(w http.ResponseWriter, target string) {
	server, err := net.DialTimeout("tcp", target, 10*time.Second)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer server.Close()
	w.WriteHeader(http.StatusOK)
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer client.Close()
	ended := make(chan struct{}, 2)
	go func() {
		_, _ = io.Copy(server, buffered)
		ended <- struct{}{}
	}()
	go func() {
		_, _ = io.Copy(client, server)
		ended <- struct{}{}
	}()
	<-ended
}
