// Package references reads image references with the reference
// implementation, github.com/distribution/reference.
package references

import (
	"github.com/distribution/reference"
)

// Parts are the parts of a normalised reference; a part that is not there is
// empty, no default tag is added.
type Parts struct {
	Domain string `json:"domain"`
	Path   string `json:"path"`
	Tag    string `json:"tag"`
	Digest string `json:"digest"`
}

// Parse reads image as ParseNormalizedNamed does, which is what the kubelet
// and containerd use.
func Parse(image string) (Parts, error) {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return Parts{}, err
	}
	parts := Parts{Domain: reference.Domain(named), Path: reference.Path(named)}
	if tagged, ok := named.(reference.Tagged); ok {
		parts.Tag = tagged.Tag()
	}
	if digested, ok := named.(reference.Digested); ok {
		parts.Digest = digested.Digest().String()
	}
	return parts, nil
}
