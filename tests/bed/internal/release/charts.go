package release

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"sigs.k8s.io/yaml"
)

// The media types of a chart in a registry
// (https://helm.sh/docs/topics/registries/#helm-chart-manifest).
const (
	chartConfig  types.MediaType = "application/vnd.cncf.helm.config.v1+json"
	chartContent types.MediaType = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
)

// Chart is a packed one.
type Chart struct {
	Name, Version, Description string
	// Metadata is Chart.yaml as JSON.
	Metadata []byte
	// Package is what `helm package` makes, with times of the sources.
	Package []byte
}

// File is how the package is named everywhere.
func (c Chart) File() string { return c.Name + "-" + c.Version + ".tgz" }

// PackChart packs the chart of a folder.
func PackChart(folder string, modified time.Time) (Chart, error) {
	text, err := os.ReadFile(filepath.Join(folder, "Chart.yaml"))
	if err != nil {
		return Chart{}, err
	}
	metadata, err := yaml.YAMLToJSON(text)
	if err != nil {
		return Chart{}, fmt.Errorf("%s: Chart.yaml: %w", folder, err)
	}
	chart := Chart{Metadata: metadata}
	if err := json.Unmarshal(metadata, &chart); err != nil {
		return Chart{}, fmt.Errorf("%s: Chart.yaml: %w", folder, err)
	}
	chart.Metadata = metadata
	files, err := ReadFolder(folder, chart.Name)
	if err != nil {
		return Chart{}, err
	}
	chart.Package, err = Pack(files, modified)
	return chart, err
}

// WriteChartLayout fills a folder with an OCI layout of the charts, each by
// its name and version.
func WriteChartLayout(folder string, charts []Chart, created time.Time) error {
	into, err := layout.Write(folder, empty.Index)
	if err != nil {
		return err
	}
	for _, chart := range charts {
		config, err := writeBlob(into, chartConfig, chart.Metadata)
		if err != nil {
			return err
		}
		content, err := writeBlob(into, chartContent, chart.Package)
		if err != nil {
			return err
		}
		manifest, err := json.Marshal(v1.Manifest{
			SchemaVersion: 2,
			MediaType:     types.OCIManifestSchema1,
			Config:        config,
			Layers:        []v1.Descriptor{content},
			Annotations: map[string]string{
				"org.opencontainers.image.created":     created.UTC().Format(time.RFC3339),
				"org.opencontainers.image.description": chart.Description,
				"org.opencontainers.image.title":       chart.Name,
				"org.opencontainers.image.version":     chart.Version,
			},
		})
		if err != nil {
			return err
		}
		named, err := writeBlob(into, types.OCIManifestSchema1, manifest)
		if err != nil {
			return err
		}
		named.Annotations = map[string]string{"org.opencontainers.image.ref.name": chart.Name + ":" + chart.Version}
		if err := into.AppendDescriptor(named); err != nil {
			return err
		}
	}
	return nil
}

func writeBlob(into layout.Path, media types.MediaType, content []byte) (v1.Descriptor, error) {
	digest, size, err := v1.SHA256(bytes.NewReader(content))
	if err != nil {
		return v1.Descriptor{}, err
	}
	err = into.WriteBlob(digest, io.NopCloser(bytes.NewReader(content)))
	return v1.Descriptor{MediaType: media, Size: size, Digest: digest}, err
}
