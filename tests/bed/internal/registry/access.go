package registry

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/distribution/distribution/v3/registry/auth"
)

const controllerName = "pullpass-bed"

func init() {
	if err := auth.Register(controllerName, newController); err != nil {
		panic(err)
	}
}

// accessFile is the file that a test writes: what is allowed, and nothing else.
type accessFile struct {
	Allow []struct {
		Username string `json:"username"`
		Password string `json:"password"`
		// Principal, instead of both, is an ARN: each token that the AWS
		// double gave it is a password.
		Principal string `json:"principal"`
		// Repositories are prefixes of repository names; none means all.
		Repositories []string `json:"repositories"`
		// Actions are what may be done there: pull, push, delete; none means all.
		// https://distribution.github.io/distribution/spec/auth/scope/
		Actions []string `json:"actions"`
	} `json:"allow"`
	// Minted is needed where a principal is named.
	Minted *minted `json:"minted"`
}

// accessEntry is one line of the access log.
type accessEntry struct {
	Time time.Time `json:"time"`
	// Host is the registry that the client thinks it talks to: ?ns= of
	// containerd's mirrors
	// (https://github.com/containerd/containerd/blob/main/docs/hosts.md), or
	// else the Host header.
	Host     string `json:"host"`
	Method   string `json:"method"`
	Path     string `json:"path"`
	Username string `json:"username"`
	// Password is the first 12 hexadecimal digits of its SHA-256; empty when
	// none was sent.
	Password string `json:"passwordSha256"`
	Allowed  bool   `json:"allowed"`
}

// controller asks every request for a user name and password (HTTP basic) and
// reads the file of accepted ones anew each time, so that a change holds from
// the next request on.
type controller struct {
	file string
	mu   sync.Mutex
	log  *os.File
}

func newController(options map[string]any) (auth.AccessController, error) {
	file, _ := options["file"].(string)
	path, _ := options["log"].(string)
	log, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return &controller{file: file, log: log}, nil
}

// Authorized implements auth.AccessController.
func (c *controller) Authorized(r *http.Request, records ...auth.Access) (*auth.Grant, error) {
	username, password, sent := r.BasicAuth()
	refusal := c.decide(username, password, sent, records)
	if err := c.record(r, username, password, sent, refusal == nil); err != nil {
		return nil, err
	}
	if refusal != nil {
		return nil, challenge{refusal}
	}
	resources := make([]auth.Resource, len(records))
	for n, access := range records {
		resources[n] = access.Resource
	}
	return &auth.Grant{User: auth.UserInfo{Name: username}, Resources: resources}, nil
}

// decide returns why the request is refused, nil when it is allowed.
func (c *controller) decide(username, password string, sent bool, records []auth.Access) error {
	if !sent {
		return errors.New("no credentials")
	}
	text, err := os.ReadFile(c.file)
	if err != nil {
		return err
	}
	var file accessFile
	if err := json.Unmarshal(text, &file); err != nil {
		return fmt.Errorf("%s: %w", c.file, err)
	}
	principal := ""
	if file.Minted != nil && username == awsUsername {
		if principal, err = file.Minted.find(password); err != nil {
			return err
		}
	}
	known := false
	for _, entry := range file.Allow {
		is := entry.Username == username && subtle.ConstantTimeCompare([]byte(entry.Password), []byte(password)) == 1
		if entry.Principal != "" {
			is = entry.Principal == principal
		}
		if is && covers(entry.Repositories, entry.Actions, records) {
			return nil
		}
		known = known || is
	}
	if known {
		return errors.New("these credentials do not reach this repository")
	}
	return auth.ErrAuthenticationFailure
}

// covers tells whether every repository of records starts with a prefix, and
// whether what is done there is among actions.
func covers(prefixes, actions []string, records []auth.Access) bool {
	for _, access := range records {
		starts := func(prefix string) bool { return strings.HasPrefix(access.Name, prefix) }
		if len(prefixes) > 0 && !slices.ContainsFunc(prefixes, starts) {
			return false
		}
		if len(actions) > 0 && !slices.Contains(actions, access.Action) {
			return false
		}
	}
	return true
}

func (c *controller) record(r *http.Request, username, password string, sent, allowed bool) error {
	entry := accessEntry{
		Time:     time.Now().UTC(),
		Host:     r.Host,
		Method:   r.Method,
		Path:     r.URL.Path,
		Username: username,
		Allowed:  allowed,
	}
	if ns := r.URL.Query().Get("ns"); ns != "" {
		entry.Host = ns
	}
	if sent {
		sum := sha256.Sum256([]byte(password))
		entry.Password = hex.EncodeToString(sum[:])[:12]
	}
	line, err := json.Marshal(entry)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err = c.log.Write(append(line, '\n'))
	return err
}

// challenge makes the registry answer 401 and ask for HTTP basic, as ECR does.
type challenge struct{ reason error }

func (c challenge) Error() string { return c.reason.Error() }

// SetHeaders implements auth.Challenge.
func (c challenge) SetHeaders(_ *http.Request, w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate", `Basic realm="pullpass bed",service="registry"`)
}
