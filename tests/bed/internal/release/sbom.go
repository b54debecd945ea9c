package release

import (
	"bytes"
	"compress/zlib"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"pullpass/bed/internal/images"
)

// object is one of JSON, whose fields come by their names.
type object = map[string]any

// inNotice is of what is linked in and is no crate.
const inNotice = "The crates of the program, and what they were built with. Rust's standard library and the C library, which are linked " +
	"statically, are in NOTICE."

// identify is a UUID that goes by what is described.
func identify(sources images.Sources, target string) string {
	sum := sha256.Sum256([]byte(sources.Version + "\n" + sources.Commit + "\n" + target))
	// Version 8: of the maker's own (RFC 9562, section 5.8).
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// CycloneDX lists the parts (https://cyclonedx.org/docs/1.6/json/).
func CycloneDX(parts []Part, sources images.Sources, target string) ([]byte, error) {
	components, dependencies := []object{}, []object{}
	for at, part := range parts {
		if at > 0 {
			components = append(components, component(part))
		}
		needs := []string{}
		for _, needed := range part.Needs {
			needs = append(needs, parts[needed].Purl())
		}
		dependencies = append(dependencies, object{"ref": part.Purl(), "dependsOn": needs})
	}
	program := component(parts[0])
	program["type"] = "application"
	delete(program, "scope")
	program["properties"] = []object{{"name": "commit", "value": sources.Commit}, {"name": "target", "value": target}}
	return indent(object{
		"$schema":      "http://cyclonedx.org/schema/bom-1.6.schema.json",
		"bomFormat":    "CycloneDX",
		"specVersion":  "1.6",
		"serialNumber": "urn:uuid:" + identify(sources, target),
		"version":      1,
		"metadata": object{
			"timestamp":  sources.Time.UTC().Format(time.RFC3339),
			"component":  program,
			"properties": []object{{"name": "comment", "value": inNotice}},
		},
		"components":   components,
		"dependencies": dependencies,
	})
}

func component(part Part) object {
	result := object{
		"type": "library", "bom-ref": part.Purl(), "purl": part.Purl(), "name": part.Name, "version": part.Version,
		"scope": "required", "licenses": []object{{"expression": part.License}},
	}
	if part.Build {
		result["scope"] = "excluded"
	}
	if part.Checksum != "" {
		result["hashes"] = []object{{"alg": "SHA-256", "content": part.Checksum}}
	}
	if part.Repository != "" {
		result["externalReferences"] = []object{{"type": "vcs", "url": part.Repository}}
	}
	return result
}

// SPDX lists the parts (https://spdx.github.io/spdx-spec/v2.3/).
func SPDX(parts []Part, sources images.Sources, target string) ([]byte, error) {
	packages := []object{}
	relations := []object{{
		"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": spdxID(parts[0]),
	}}
	for _, part := range parts {
		packages = append(packages, spdxPackage(part))
		for _, needed := range part.Needs {
			from, kind, to := spdxID(part), "DEPENDS_ON", spdxID(parts[needed])
			if parts[needed].Build && !part.Build {
				from, kind, to = to, "BUILD_DEPENDENCY_OF", from
			}
			relations = append(relations, object{"spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to})
		}
	}
	name := fmt.Sprintf("pullpass-%s-%s", sources.Version, target)
	return indent(object{
		"spdxVersion":       "SPDX-2.3",
		"dataLicense":       "CC0-1.0",
		"SPDXID":            "SPDXRef-DOCUMENT",
		"name":              name,
		"documentNamespace": "https://pullpass.dev/spdx/" + name + "-" + identify(sources, target),
		"comment":           inNotice,
		"creationInfo": object{
			"created":  sources.Time.UTC().Format(time.RFC3339),
			"creators": []string{"Tool: pullpass-release-" + sources.Version},
		},
		"packages":      packages,
		"relationships": relations,
	})
}

func spdxPackage(part Part) object {
	result := object{
		"SPDXID": spdxID(part), "name": part.Name, "versionInfo": part.Version,
		"downloadLocation": "NOASSERTION", "filesAnalyzed": false,
		"licenseConcluded": "NOASSERTION", "licenseDeclared": part.License, "copyrightText": "NOASSERTION",
		"externalRefs": []object{{
			"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": part.Purl(),
		}},
	}
	if part.Checksum != "" {
		result["checksums"] = []object{{"algorithm": "SHA256", "checksumValue": part.Checksum}}
	}
	return result
}

// spdxID has letters, numbers, dots and hyphens alone.
func spdxID(part Part) string {
	return "SPDXRef-" + strings.NewReplacer("_", "-", "+", "-", "@", "-", " ", "-").Replace(part.Name+"-"+part.Version)
}

// Auditable is the content of a program's section .dep-v0
// (https://github.com/rust-secure-code/cargo-auditable/blob/master/PARSING.md).
func Auditable(parts []Part) ([]byte, error) {
	packages := []object{}
	for at, part := range parts {
		entry := object{"name": part.Name, "version": part.Version, "source": "crates.io"}
		if at == 0 {
			entry["source"], entry["root"] = "local", true
		}
		if part.Build {
			entry["kind"] = "build"
		}
		if len(part.Needs) > 0 {
			entry["dependencies"] = part.Needs
		}
		packages = append(packages, entry)
	}
	text, err := json.Marshal(object{"packages": packages})
	if err != nil {
		return nil, err
	}
	var content bytes.Buffer
	compressed := zlib.NewWriter(&content)
	_, err = compressed.Write(text)
	err = errors.Join(err, compressed.Close())
	return content.Bytes(), err
}

func indent(value any) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(value)
	return text.Bytes(), err
}
