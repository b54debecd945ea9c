package release

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pullpass/bed/internal/images"
)

// root is the repository's, seen from here.
const root = "../../../.."

var when = time.Unix(1_700_000_000, 0)

// unpack has the names of an archive's files, in its order.
func unpack(t *testing.T, packed []byte) map[string]*tar.Header {
	t.Helper()
	content, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	if !content.ModTime.IsZero() || content.Name != "" {
		t.Errorf("gzip tells of %s, %q", content.ModTime, content.Name)
	}
	headers := map[string]*tar.Header{}
	archive := tar.NewReader(content)
	last := ""
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return headers
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Name <= last {
			t.Errorf("%s comes after %s", header.Name, last)
		}
		last = header.Name
		headers[header.Name] = header
	}
}

// TestPackGoesByNamesAndContentsAlone packs what two people have in two
// folders, written in another order, at another time and with other rights.
func TestPackGoesByNamesAndContentsAlone(t *testing.T) {
	var packed [][]byte
	for _, mine := range []struct {
		names []string
		mode  os.FileMode
	}{{[]string{"b/c", "a"}, 0o600}, {[]string{"a", "b/c"}, 0o777}} {
		folder := t.TempDir()
		for _, name := range mine.names {
			file := filepath.Join(folder, name)
			if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(name), mine.mode); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chtimes(filepath.Join(folder, "a"), time.Now(), time.Unix(int64(mine.mode), 0)); err != nil {
			t.Fatal(err)
		}
		files, err := ReadFolder(folder, "top")
		if err != nil {
			t.Fatal(err)
		}
		content, err := Pack(files, when)
		if err != nil {
			t.Fatal(err)
		}
		packed = append(packed, content)
	}
	if !bytes.Equal(packed[0], packed[1]) {
		t.Error("they differ")
	}
	header := unpack(t, packed[0])["top/b/c"]
	if header == nil || header.Mode != 0o644 || !header.ModTime.Equal(when) || header.Uid != 0 || header.Uname != "" {
		t.Errorf("%+v", header)
	}
}

func TestPackMakesAProgramRunnable(t *testing.T) {
	packed, err := Pack([]File{{Name: "pullpass", Content: []byte("x"), Program: true}}, when)
	if err != nil {
		t.Fatal(err)
	}
	if header := unpack(t, packed)["pullpass"]; header.Mode != 0o755 {
		t.Errorf("%+v", header)
	}
}

func TestPackChartHoldsItsFolder(t *testing.T) {
	for _, name := range []string{"chart", "chart-registries"} {
		folder := filepath.Join(root, "manifests", name)
		chart, err := PackChart(folder, when)
		if err != nil {
			t.Fatal(err)
		}
		files, err := ReadFolder(folder, chart.Name)
		if err != nil {
			t.Fatal(err)
		}
		headers := unpack(t, chart.Package)
		if len(headers) != len(files) || headers[chart.Name+"/Chart.yaml"] == nil || headers[chart.Name+"/values.yaml"] == nil {
			t.Errorf("%s: %d of %d files", name, len(headers), len(files))
		}
	}
}

func TestChecksumsAreOfAllOthers(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{"b", "a", "SUMS"} {
		if err := os.WriteFile(filepath.Join(folder, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sums, err := Checksums(folder, "SUMS")
	const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	if want := empty + "  a\n" + empty + "  b\n"; err != nil || sums != want {
		t.Errorf("%q, %v", sums, err)
	}
}

const (
	tree = "0|pullpass v1.0.0 (/somewhere)|Apache-2.0||\n" +
		"1|b v2.0.0|MIT/Apache-2.0|https://example.com/b|\n" +
		"2|a v1.0.0+x|MIT||\n" +
		"1|macros v1.0.0 (proc-macro)|MIT||\n" +
		"2|a v1.0.0+x|MIT|| (*)\n" +
		"1|a v2.0.0|MIT||\n"
	linked = "0|pullpass v1.0.0 (/somewhere)|Apache-2.0||\n1|b v2.0.0|MIT||\n2|a v1.0.0+x|MIT||\n1|a v2.0.0|MIT||\n"
	lock   = "[[package]]\nname = \"a\"\nversion = \"1.0.0+x\"\nchecksum = \"a1\"\n" +
		"[[package]]\nname = \"a\"\nversion = \"2.0.0\"\nchecksum = \"a2\"\n" +
		"[[package]]\nname = \"b\"\nversion = \"2.0.0\"\nchecksum = \"b2\"\n" +
		"[[package]]\nname = \"macros\"\nversion = \"1.0.0\"\nchecksum = \"m1\"\n"
)

func TestBuildPartsReadsTrees(t *testing.T) {
	parts, err := buildParts(tree, linked, lock)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, part := range parts {
		text, _ := json.Marshal([]any{part.Purl(), part.License, part.Checksum, part.Build, part.Needs})
		found = append(found, string(text))
	}
	want := []string{
		`["pkg:cargo/pullpass@1.0.0","Apache-2.0","",false,[2,3,4]]`,
		`["pkg:cargo/a@1.0.0+x","MIT","a1",false,null]`,
		`["pkg:cargo/a@2.0.0","MIT","a2",false,null]`,
		`["pkg:cargo/b@2.0.0","MIT OR Apache-2.0","b2",false,[1]]`,
		`["pkg:cargo/macros@1.0.0","MIT","m1",true,[1]]`,
	}
	if !slices.Equal(found, want) {
		t.Errorf("%s", strings.Join(found, "\n"))
	}
}

func TestBuildPartsRefusesWhatIsNotLocked(t *testing.T) {
	if _, err := buildParts(tree, linked, "[[package]]\n"); err == nil {
		t.Error("a crate without a checksum was taken")
	}
	if _, err := buildParts("", linked, lock); err == nil {
		t.Error("no tree was taken")
	}
}

func TestAuditableRefersByPlace(t *testing.T) {
	parts, err := buildParts(tree, linked, lock)
	if err != nil {
		t.Fatal(err)
	}
	content, err := Auditable(parts)
	if err != nil {
		t.Fatal(err)
	}
	text, err := zlib.NewReader(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	var said struct {
		Packages []struct {
			Name, Kind, Source string
			Root               bool
			Dependencies       []int
		}
	}
	if err := json.NewDecoder(text).Decode(&said); err != nil {
		t.Fatal(err)
	}
	program, macros := said.Packages[0], said.Packages[4]
	if !program.Root || program.Source != "local" || !slices.Equal(program.Dependencies, []int{2, 3, 4}) || macros.Kind != "build" {
		t.Errorf("%+v", said)
	}
}

// TestListsGoBySources tells two releases of the same parts apart.
func TestListsGoBySources(t *testing.T) {
	parts, err := buildParts(tree, linked, lock)
	if err != nil {
		t.Fatal(err)
	}
	for name, list := range map[string]func([]Part, images.Sources, string) ([]byte, error){"CycloneDX": CycloneDX, "SPDX": SPDX} {
		sources := images.Sources{Version: "1.0.0", Commit: "c0ffee", Time: when}
		first, _ := list(parts, sources, "x86_64-unknown-linux-gnu")
		again, _ := list(parts, sources, "x86_64-unknown-linux-gnu")
		sources.Commit = "decaf"
		other, err := list(parts, sources, "x86_64-unknown-linux-gnu")
		if err != nil || !bytes.Equal(first, again) || bytes.Equal(first, other) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
