// Command hello is the only program of the test bed's container image: it
// says who it is and then waits like a server, or ends as it is told. It can
// read a mounted docker config again and again, as a long build does.
package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	name := flag.String("name", "team/hello", "who says hello")
	exit := flag.Int("exit", -1, "end at once with this code instead of waiting")
	sleep := flag.Duration("sleep", 0, "end by itself with code 0 after this long; 0 waits for SIGTERM")
	read := flag.String("read", "", "read this docker config every second, and print as JSON when, and the digests of its logins")
	flag.Parse()

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	fmt.Println("hello from", *name)
	if *exit >= 0 {
		os.Exit(*exit)
	}
	if *read != "" {
		readUntil(stop, *read)
		return
	}
	var ended <-chan time.Time
	if *sleep > 0 {
		ended = time.After(*sleep)
	}
	select {
	case <-stop:
	case <-ended:
	}
}

// reading is one look at a docker config.
type reading struct {
	Time time.Time `json:"time"`
	// Passwords are as in the registry's access log.
	Passwords []string `json:"passwords"`
	Error     string   `json:"error,omitempty"`
}

// readUntil prints a reading every second.
func readUntil(stop <-chan os.Signal, file string) {
	lines := json.NewEncoder(os.Stdout)
	every := time.NewTicker(time.Second)
	defer every.Stop()
	for {
		now := reading{Time: time.Now().UTC()}
		var err error
		if now.Passwords, err = readPasswords(file); err != nil {
			now.Error = err.Error()
		}
		_ = lines.Encode(now)
		select {
		case <-stop:
			return
		case <-every.C:
		}
	}
}

// readPasswords gives the digest of each password in a docker config.
func readPasswords(file string) ([]string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var config struct {
		Auths map[string]struct {
			Auth string `json:"auth"`
		} `json:"auths"`
	}
	if err := json.Unmarshal(text, &config); err != nil {
		return nil, err
	}
	var digests []string
	for _, entry := range config.Auths {
		login, err := base64.StdEncoding.DecodeString(entry.Auth)
		if err != nil {
			return nil, err
		}
		_, password, _ := strings.Cut(string(login), ":")
		sum := sha256.Sum256([]byte(password))
		digests = append(digests, hex.EncodeToString(sum[:])[:12])
	}
	return digests, nil
}
