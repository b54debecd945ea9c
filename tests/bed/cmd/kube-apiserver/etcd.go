package main

import (
	"errors"
	"net/url"
	"os"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
)

// etcdDeadline is how long etcd may take to elect itself.
const etcdDeadline = 30 * time.Second

// startEtcd runs a one-member etcd with its data in dir and returns the
// endpoint for clients, a socket in the same folder. The process moves into
// dir first: a socket's path may have at most 107 bytes, a relative one fits
// wherever the folder is.
func startEtcd(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	if err := os.Chdir(dir); err != nil {
		return "", err
	}
	// etcd wants host:port also of a socket; the whole is the file's name.
	client := url.URL{Scheme: "unix", Host: "client:0"}
	peer := url.URL{Scheme: "unix", Host: "peer:0"}
	config := embed.NewConfig()
	config.Name = "bed"
	config.Dir = "data"
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	// Data need not outlive the machine, only the process.
	config.UnsafeNoFsync = true
	config.LogLevel = "warn"
	config.WarningUnaryRequestDuration = time.Second
	etcd, err := embed.StartEtcd(config)
	if err != nil {
		return "", err
	}
	select {
	case <-etcd.Server.ReadyNotify():
		return client.String(), nil
	case err := <-etcd.Err():
		return "", err
	case <-time.After(etcdDeadline):
		return "", errors.New("no leader after " + etcdDeadline.String())
	}
}
