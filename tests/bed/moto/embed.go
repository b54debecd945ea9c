// Package moto holds the AWS double's Python sources, so that bed can write
// them next to the instance that runs them. README.md describes the double.
package moto

import "embed"

// Sources are launcher.py and the package awsbed.
//
//go:embed launcher.py awsbed/*.py
var Sources embed.FS
