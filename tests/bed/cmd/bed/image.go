package main

import (
	"context"
	"encoding/json"
	"flag"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"pullpass/bed/internal/images"
)

func init() {
	register(verb{
		name: "image",
		args: "--program FILE --name REFERENCE --output FILE",
		help: "pullpass' image as a tar of an OCI layout, without a container engine",
		run:  runImage,
	})
}

func runImage(_ context.Context, args []string) error {
	flags := flag.NewFlagSet("bed image", flag.ContinueOnError)
	program := flags.String("program", "", "the statically linked `FILE` to run")
	reference := flags.String("name", "pullpass:dev", "the image's `REFERENCE`, which `ctr images import` gives it")
	version := flags.String("version", "", "the `VERSION` in the image's label")
	licenses := flags.String("licenses", ".", "the `FOLDER` with LICENSE, NOTICE and THIRD-PARTY-LICENSES")
	output := flags.String("output", "pullpass.tar", "the `FILE` to write")
	if err := parse(flags, args); err != nil {
		return err
	}
	image, err := images.Pullpass(*program, *version, *licenses)
	if err != nil {
		return err
	}
	if err := images.WriteLayout(*output, image, *reference); err != nil {
		return err
	}
	digest, err := image.Digest()
	if err != nil {
		return err
	}
	size, err := imageSize(image)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"image": *reference, "digest": digest.String(), "bytes": size, "file": *output,
	})
}

// imageSize is what a registry transfers: the layers, compressed.
func imageSize(image v1.Image) (int64, error) {
	layers, err := image.Layers()
	if err != nil {
		return 0, err
	}
	var total int64
	for _, layer := range layers {
		size, err := layer.Size()
		if err != nil {
			return 0, err
		}
		total += size
	}
	return total, nil
}
