package instance

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestNewClearsDeadInstancesOnly(t *testing.T) {
	t.Setenv("BED_DIR", t.TempDir())
	dead, err := New("dead")
	if err != nil {
		t.Fatal(err)
	}
	// As the kernel does when the process is killed.
	if err := dead.lock.Close(); err != nil {
		t.Fatal(err)
	}
	living, err := New("living")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dead.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the dead instance's folder is still there: %v", err)
	}
	next, err := New("next")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(living.Logs); err != nil {
		t.Errorf("the living instance's folder went: %v", err)
	}
	for _, instance := range []*Instance{living, next} {
		if err := instance.Close(); err != nil {
			t.Error(err)
		}
	}
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(root, "run", "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
