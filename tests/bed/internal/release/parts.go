package release

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Part is a crate of the program, or what it was built with.
type Part struct {
	Name, Version string
	// License is an SPDX expression.
	License string
	// Repository is a URL.
	Repository string
	// Checksum is SHA-256 of the crate's archive, in hex; none of the program
	// itself.
	Checksum string
	// Build says that nothing of it is in the program: build scripts, macros
	// and what they need.
	Build bool
	// Needs are the parts that it depends on, by their places in the list.
	Needs []int
}

// Purl is the part's package URL
// (https://github.com/package-url/purl-spec/blob/main/types-doc/cargo-definition.md).
func (p Part) Purl() string { return "pkg:cargo/" + p.Name + "@" + p.Version }

// LoadParts asks cargo what the program is made of on a target; the program
// itself comes first, the others by name and version.
func LoadParts(sources, target string) ([]Part, error) {
	all, err := runTree(sources, target, "normal,build")
	if err != nil {
		return nil, err
	}
	linked, err := runTree(sources, target, "normal,no-proc-macro")
	if err != nil {
		return nil, err
	}
	lock, err := os.ReadFile(filepath.Join(sources, "Cargo.lock"))
	if err != nil {
		return nil, err
	}
	return buildParts(all, linked, string(lock))
}

func runTree(sources, target, edges string) (string, error) {
	command := exec.Command(cmp.Or(os.Getenv("CARGO"), "cargo"), "tree", "--locked", "--offline", "--quiet",
		"--target", target, "--edges", edges, "--prefix", "depth", "--format", "|{p}|{l}|{r}|")
	command.Dir = sources
	var stderr bytes.Buffer
	command.Stderr = &stderr
	output, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("cargo tree: %w: %s", err, stderr.String())
	}
	return string(output), nil
}

// node is a line of `cargo tree --prefix depth`.
type node struct {
	depth int
	part  Part
}

// key tells parts apart: there may be several versions of one.
func (p Part) key() string { return p.Name + " " + p.Version }

func parseTree(tree string) ([]node, error) {
	var nodes []node
	for line := range strings.Lines(tree) {
		fields := strings.Split(line, "|")
		if len(fields) != 5 {
			return nil, fmt.Errorf("no line of cargo tree: %q", line)
		}
		depth, err := strconv.Atoi(fields[0])
		if err != nil {
			return nil, fmt.Errorf("no line of cargo tree: %q", line)
		}
		words := strings.Fields(fields[1])
		if len(words) < 2 {
			return nil, fmt.Errorf("no line of cargo tree: %q", line)
		}
		nodes = append(nodes, node{depth, Part{
			Name:    words[0],
			Version: strings.TrimPrefix(words[1], "v"),
			// Cargo's earlier form of OR.
			License:    strings.ReplaceAll(strings.ReplaceAll(fields[2], " / ", "/"), "/", " OR "),
			Repository: fields[3],
		}})
	}
	if len(nodes) == 0 {
		return nil, errors.New("cargo tree printed nothing")
	}
	return nodes, nil
}

// buildParts puts together what cargo says of all edges, of those by which
// something is linked, and of checksums.
func buildParts(all, linked, lock string) ([]Part, error) {
	nodes, err := parseTree(all)
	if err != nil {
		return nil, err
	}
	inside, err := parseTree(linked)
	if err != nil {
		return nil, err
	}
	isLinked := map[string]bool{}
	for _, one := range inside {
		isLinked[one.part.key()] = true
	}
	checksums := parseLock(lock)
	found := map[string]Part{}
	needs := map[string][]string{}
	var path []string
	for _, one := range nodes {
		key := one.part.key()
		one.part.Build = !isLinked[key]
		one.part.Checksum = checksums[key]
		found[key] = one.part
		path = append(path[:one.depth], key)
		if one.depth > 0 {
			above := path[one.depth-1]
			needs[above] = append(needs[above], key)
		}
	}
	program := nodes[0].part.key()
	keys := make([]string, 0, len(found))
	for key := range found {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b string) int {
		return cmp.Or(cmp.Compare(btoi(b == program), btoi(a == program)), cmp.Compare(a, b))
	})
	parts := make([]Part, len(keys))
	for at, key := range keys {
		parts[at] = found[key]
		for _, needed := range needs[key] {
			parts[at].Needs = append(parts[at].Needs, slices.Index(keys, needed))
		}
		slices.Sort(parts[at].Needs)
		parts[at].Needs = slices.Compact(parts[at].Needs)
		if at > 0 && parts[at].Checksum == "" {
			return nil, fmt.Errorf("Cargo.lock has no checksum of %s", key)
		}
	}
	return parts, nil
}

func btoi(is bool) int {
	if is {
		return 1
	}
	return 0
}

// parseLock has the checksums of Cargo.lock by name and version.
func parseLock(lock string) map[string]string {
	checksums := map[string]string{}
	for _, entry := range strings.Split(lock, "[[package]]") {
		fields := map[string]string{}
		for line := range strings.Lines(entry) {
			if name, value, ok := strings.Cut(strings.TrimSpace(line), " = "); ok {
				fields[name] = strings.Trim(value, `"`)
			}
		}
		checksums[fields["name"]+" "+fields["version"]] = fields["checksum"]
	}
	return checksums
}
