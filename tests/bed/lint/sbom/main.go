// Command sbom reads lists of parts as others do, and prints the parts that
// each names, as JSON: CycloneDX, SPDX, and a program's section .dep-v0.
//
//	sbom FILE.cdx.json FILE.spdx.json PROGRAM
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/CycloneDX/cyclonedx-go"
	rustaudit "github.com/microsoft/go-rustaudit"
	spdx "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdxlib"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("needs three files, not %d", len(args))
	}
	said := map[string][]string{}
	for at, list := range []struct {
		name string
		read func(*os.File) ([]string, error)
	}{{"cyclonedx", readCycloneDX}, {"spdx", readSPDX}, {"program", readProgram}} {
		file, err := os.Open(args[at])
		if err != nil {
			return err
		}
		defer file.Close()
		parts, err := list.read(file)
		if err != nil {
			return fmt.Errorf("%s: %w", args[at], err)
		}
		slices.Sort(parts)
		said[list.name] = parts
	}
	return json.NewEncoder(os.Stdout).Encode(said)
}

// readCycloneDX takes no field that the library does not know.
func readCycloneDX(file *os.File) ([]string, error) {
	decoder := json.NewDecoder(file)
	decoder.DisallowUnknownFields()
	var list cyclonedx.BOM
	if err := decoder.Decode(&list); err != nil {
		return nil, err
	}
	parts := []string{list.Metadata.Component.PackageURL}
	known := map[string]bool{list.Metadata.Component.BOMRef: true}
	for _, component := range *list.Components {
		parts = append(parts, component.PackageURL)
		known[component.BOMRef] = true
	}
	for _, dependency := range *list.Dependencies {
		for _, ref := range append(*dependency.Dependencies, dependency.Ref) {
			if !known[ref] {
				return nil, fmt.Errorf("nothing is %s", ref)
			}
		}
	}
	if len(known) != len(parts) || len(*list.Dependencies) != len(parts) {
		return nil, fmt.Errorf("%d parts, %d of their own, %d with dependencies", len(parts), len(known), len(*list.Dependencies))
	}
	return parts, nil
}

func readSPDX(file *os.File) ([]string, error) {
	list, err := spdx.Read(file)
	if err != nil {
		return nil, err
	}
	if err := spdxlib.ValidateDocument(list); err != nil {
		return nil, err
	}
	var parts []string
	for _, one := range list.Packages {
		for _, reference := range one.PackageExternalReferences {
			parts = append(parts, reference.Locator)
		}
	}
	return parts, nil
}

func readProgram(file *os.File) ([]string, error) {
	list, err := rustaudit.GetDependencyInfo(file)
	if err != nil {
		return nil, err
	}
	var parts []string
	for _, one := range list.Packages {
		for _, needed := range one.Dependencies {
			if int(needed) >= len(list.Packages) {
				return nil, fmt.Errorf("%s needs number %d of %d", one.Name, needed, len(list.Packages))
			}
		}
		parts = append(parts, strings.Join([]string{"pkg:cargo/", one.Name, "@", one.Version}, ""))
	}
	return parts, nil
}
