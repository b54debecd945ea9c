package images

import (
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Kaniko is kaniko's own image, as its Dockerfile makes it, less the helpers
// that ask clouds for logins
// (https://github.com/GoogleContainerTools/kaniko/blob/main/deploy/Dockerfile):
// it builds in its own file system, as root and with no container engine.
func Kaniko(binary string) (v1.Image, error) {
	if err := checkStatic(binary); err != nil {
		return nil, err
	}
	return Build(Spec{
		Binary:  binary,
		Program: "/kaniko/executor",
		Files:   []File{{Path: "/etc/nsswitch.conf", Content: []byte("hosts: files dns\n")}},
		User:    "0:0",
		Env: []string{
			"HOME=/root",
			"USER=root",
			"PATH=/usr/local/bin:/kaniko",
			"SSL_CERT_DIR=/kaniko/ssl/certs",
			"DOCKER_CONFIG=/kaniko/.docker/",
		},
	})
}
