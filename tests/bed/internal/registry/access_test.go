package registry

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/registry/auth"
)

func pullOf(repository string) []auth.Access {
	return []auth.Access{{Resource: auth.Resource{Type: "repository", Name: repository}, Action: "pull"}}
}

func pushTo(repository string) []auth.Access {
	access := pullOf(repository)
	return append(access, auth.Access{Resource: access[0].Resource, Action: "push"})
}

func TestDecideAccess(t *testing.T) {
	const two = `{"allow":[
		{"username":"AWS","password":"new"},
		{"username":"AWS","password":"team","repositories":["team/"]},
		{"username":"AWS","password":"reader","actions":["pull"]}]}`
	for _, c := range []struct {
		name, file         string
		username, password string
		sent               bool
		records            []auth.Access
		allowed            bool
	}{
		{"listed", two, "AWS", "new", true, pullOf("other/app"), true},
		{"ping", two, "AWS", "team", true, nil, true},
		{"wrong_password", two, "AWS", "old", true, pullOf("team/app"), false},
		{"password_prefix", two, "AWS", "ne", true, pullOf("team/app"), false},
		{"wrong_username", two, "aws", "new", true, pullOf("team/app"), false},
		{"empty_credentials", two, "", "", true, pullOf("team/app"), false},
		{"nothing_sent", `{"allow":[{"username":"","password":""}]}`, "", "", false, nil, false},
		{"repository_inside", two, "AWS", "team", true, pullOf("team/app"), true},
		{"repository_outside", two, "AWS", "team", true, pullOf("teamwork/app"), false},
		{"mount_from_outside", two, "AWS", "team", true, append(pullOf("team/app"), pullOf("other/app")...), false},
		{"push", two, "AWS", "new", true, pushTo("team/app"), true},
		{"pull_of_reader", two, "AWS", "reader", true, pullOf("team/app"), true},
		{"push_of_reader", two, "AWS", "reader", true, pushTo("team/app"), false},
		{"ping_of_reader", two, "AWS", "reader", true, nil, true},
		{"nothing_allowed", `{"allow":[]}`, "AWS", "new", true, nil, false},
		{"broken_file", `{"allow":`, "AWS", "new", true, nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "access.json")
			if err := os.WriteFile(file, []byte(c.file), 0o600); err != nil {
				t.Fatal(err)
			}
			refusal := (&controller{file: file}).decide(c.username, c.password, c.sent, c.records)
			if (refusal == nil) != c.allowed {
				t.Errorf("allowed %t, want %t (%v)", refusal == nil, c.allowed, refusal)
			}
		})
	}
}

func TestDecideAccessAfterFileChanged(t *testing.T) {
	file := filepath.Join(t.TempDir(), "access.json")
	control := &controller{file: file}
	for _, password := range []string{"one", "two"} {
		next := file + ".next"
		if err := os.WriteFile(next, []byte(`{"allow":[{"username":"AWS","password":"`+password+`"}]}`), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, file); err != nil {
			t.Fatal(err)
		}
		for _, tried := range []string{"one", "two"} {
			if refusal := control.decide("AWS", tried, true, nil); (refusal == nil) != (tried == password) {
				t.Errorf("file allows %q, %q: %v", password, tried, refusal)
			}
		}
	}
}

func TestDecideAccessOfPrincipals(t *testing.T) {
	now := time.Now()
	minted := []token{
		{Principal: "puller", Password: "old", Time: now.Add(-time.Hour), ExpiresAt: now.Add(time.Hour)},
		{Principal: "puller", Password: "pull", Time: now.Add(-time.Minute), ExpiresAt: now.Add(time.Hour)},
		{Principal: "pusher", Password: "push", Time: now.Add(-time.Minute), ExpiresAt: now.Add(time.Hour)},
		{Principal: "pusher", Password: "ended", Time: now, ExpiresAt: now.Add(-time.Second)},
		{Principal: "nobody", Password: "other", Time: now, ExpiresAt: now.Add(time.Hour)},
	}
	double := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(minted)
	}))
	defer double.Close()
	file := filepath.Join(t.TempDir(), "access.json")
	access := `{"allow":[
		{"principal":"puller","actions":["pull"]},
		{"principal":"pusher","repositories":["team/"],"actions":["pull","push"]}],
		"minted":{"control":"` + double.URL + `","overlapSeconds":30}}`
	if err := os.WriteFile(file, []byte(access), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, username, password string
		records                  []auth.Access
		allowed                  bool
	}{
		{"pull_of_puller", "AWS", "pull", pullOf("team/app"), true},
		{"push_of_puller", "AWS", "pull", pushTo("team/app"), false},
		{"push_of_pusher", "AWS", "push", pushTo("team/app"), true},
		{"push_elsewhere", "AWS", "push", pushTo("other/app"), false},
		{"superseded", "AWS", "old", pullOf("team/app"), false},
		{"ended", "AWS", "ended", pullOf("team/app"), false},
		{"not_listed", "AWS", "other", pullOf("team/app"), false},
		{"not_minted", "AWS", "", pullOf("team/app"), false},
		{"wrong_username", "aws", "pull", pullOf("team/app"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			refusal := (&controller{file: file}).decide(c.username, c.password, true, c.records)
			if (refusal == nil) != c.allowed {
				t.Errorf("allowed %t, want %t (%v)", refusal == nil, c.allowed, refusal)
			}
		})
	}
}
