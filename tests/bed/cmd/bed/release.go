package main

import (
	"context"
	"flag"
	"os"
	"path/filepath"

	"pullpass/bed/internal/images"
	"pullpass/bed/internal/release"
)

func init() {
	register(verb{
		name: "sbom",
		args: "--target TRIPLE --name NAME --output FOLDER",
		help: "what pullpass is made of: NAME.cdx.json, NAME.spdx.json, and NAME.dep-v0 for the program",
		run:  runSbom,
	})
	register(verb{
		name: "pack",
		args: "--program FILE… --extras FOLDER --output FOLDER",
		help: "archives of pullpass' programs, both charts, checksums of all that is in FOLDER",
		run:  runPack,
	})
}

func runSbom(_ context.Context, args []string) error {
	flags := flag.NewFlagSet("bed sbom", flag.ContinueOnError)
	target := flags.String("target", "x86_64-unknown-linux-gnu", "the `TRIPLE` of what the program runs on")
	name := flags.String("name", "pullpass", "the files' `NAME`")
	sources := sourceFlags(flags)
	output := flags.String("output", ".", "the `FOLDER` to write into")
	if err := parse(flags, args); err != nil {
		return err
	}
	parts, err := release.LoadParts(sources.Folder, *target)
	if err != nil {
		return err
	}
	cyclone, err := release.CycloneDX(parts, *sources, *target)
	if err != nil {
		return err
	}
	spdx, err := release.SPDX(parts, *sources, *target)
	if err != nil {
		return err
	}
	auditable, err := release.Auditable(parts)
	if err != nil {
		return err
	}
	return writeAll(*output, []release.File{
		{Name: *name + ".cdx.json", Content: cyclone},
		{Name: *name + ".spdx.json", Content: spdx},
		{Name: *name + ".dep-v0", Content: auditable},
	})
}

// chartFolders are below the repository's root.
var chartFolders = []string{"manifests/chart", "manifests/chart-registries"}

// sumsFile has the checksums of all others.
const sumsFile = "SHA256SUMS"

func runPack(_ context.Context, args []string) error {
	flags := flag.NewFlagSet("bed pack", flag.ContinueOnError)
	var programs list
	flags.Var(&programs, "program", "pullpass' program, a `FILE`; once for each architecture")
	extras := flags.String("extras", "", "the `FOLDER` with man pages and completions, in a folder each")
	sources := sourceFlags(flags)
	output := flags.String("output", ".", "the `FOLDER` to write into")
	if err := parse(flags, args); err != nil {
		return err
	}
	packed, err := packPrograms(programs, *extras, *sources)
	if err != nil {
		return err
	}
	charts, err := packCharts(*sources)
	if err != nil {
		return err
	}
	if err := writeAll(*output, append(packed, charts...)); err != nil {
		return err
	}
	sums, err := release.Checksums(*output, sumsFile)
	if err != nil {
		return err
	}
	return writeAll(*output, []release.File{{Name: sumsFile, Content: []byte(sums)}})
}

// packPrograms is an archive for each architecture, and one of what is the
// same for all.
func packPrograms(programs []string, extras string, sources images.Sources) ([]release.File, error) {
	common, err := release.ReadFolder(extras, "")
	if err != nil {
		return nil, err
	}
	name := "pullpass-" + sources.Version
	packed, err := release.Pack(below(name+"-man-completions", common), sources.Time)
	if err != nil {
		return nil, err
	}
	all := []release.File{{Name: name + "-man-completions.tar.gz", Content: packed}}
	for _, license := range images.LicenseFiles {
		content, err := os.ReadFile(filepath.Join(sources.Folder, license))
		if err != nil {
			return nil, err
		}
		common = append(common, release.File{Name: license, Content: content})
	}
	for _, program := range programs {
		architecture, err := images.Architecture(program)
		if err != nil {
			return nil, err
		}
		content, err := os.ReadFile(program)
		if err != nil {
			return nil, err
		}
		files := append([]release.File{{Name: "pullpass", Content: content, Program: true}}, common...)
		name := name + "-linux-" + architecture
		if packed, err = release.Pack(below(name, files), sources.Time); err != nil {
			return nil, err
		}
		all = append(all, release.File{Name: name + ".tar.gz", Content: packed})
	}
	return all, nil
}

// below puts files into a folder.
func below(folder string, files []release.File) []release.File {
	var moved []release.File
	for _, file := range files {
		file.Name = folder + "/" + file.Name
		moved = append(moved, file)
	}
	return moved
}

// packCharts is a package of each, and a layout of both.
func packCharts(sources images.Sources) ([]release.File, error) {
	var charts []release.Chart
	var all []release.File
	for _, folder := range chartFolders {
		chart, err := release.PackChart(filepath.Join(sources.Folder, folder), sources.Time)
		if err != nil {
			return nil, err
		}
		charts = append(charts, chart)
		all = append(all, release.File{Name: chart.File(), Content: chart.Package})
	}
	folder, err := os.MkdirTemp("", "charts-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	if err := release.WriteChartLayout(folder, charts, sources.Time); err != nil {
		return nil, err
	}
	layout, err := images.TarFolder(folder)
	if err != nil {
		return nil, err
	}
	return append(all, release.File{Name: "pullpass-" + sources.Version + "-charts.oci.tar", Content: layout}), nil
}

func writeAll(folder string, files []release.File) error {
	for _, file := range files {
		if err := os.WriteFile(filepath.Join(folder, file.Name), file.Content, 0o644); err != nil {
			return err
		}
	}
	return nil
}
