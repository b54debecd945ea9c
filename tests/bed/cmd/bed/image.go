package main

import (
	"context"
	"encoding/json"
	"flag"
	"os"
	"strconv"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"pullpass/bed/internal/images"
)

func init() {
	register(verb{
		name: "image",
		args: "--program FILE… --name REFERENCE --output FILE",
		help: "pullpass' image as a tar of an OCI layout, without a container engine",
		run:  runImage,
	})
}

func runImage(_ context.Context, args []string) error {
	flags := flag.NewFlagSet("bed image", flag.ContinueOnError)
	var programs list
	flags.Var(&programs, "program", "the statically linked `FILE` to run; once for each architecture")
	index := flags.Bool("index", false, "an image for several architectures, even where there is one program")
	reference := flags.String("name", "pullpass:dev", "the image's `REFERENCE`, which `ctr images import` gives it")
	sources := sourceFlags(flags)
	output := flags.String("output", "pullpass.tar", "the `FILE` to write")
	if err := parse(flags, args); err != nil {
		return err
	}
	var all []v1.Image
	var total int64
	for _, program := range programs {
		image, err := images.Pullpass(program, *sources)
		if err != nil {
			return err
		}
		size, err := imageSize(image)
		if err != nil {
			return err
		}
		total += size
		all = append(all, image)
	}
	if len(all) == 0 || (len(all) > 1 && !*index) {
		return exitError{2, "one --program, or several with --index"}
	}
	digest, err := writeImage(*output, *reference, all, *index)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"image": *reference, "digest": digest.String(), "bytes": total, "file": *output,
	})
}

// writeImage is the one image, or the index of all.
func writeImage(output, reference string, all []v1.Image, asIndex bool) (v1.Hash, error) {
	if !asIndex {
		if err := images.WriteLayout(output, all[0], reference); err != nil {
			return v1.Hash{}, err
		}
		return all[0].Digest()
	}
	index, err := images.Index(all)
	if err != nil {
		return v1.Hash{}, err
	}
	if err := images.WriteLayoutOfIndex(output, index, reference); err != nil {
		return v1.Hash{}, err
	}
	return index.Digest()
}

// sourceFlags are those of all that is made of the repository.
func sourceFlags(flags *flag.FlagSet) *images.Sources {
	sources := &images.Sources{}
	flags.StringVar(&sources.Version, "version", "", "the `VERSION`")
	flags.StringVar(&sources.Commit, "commit", "", "the `COMMIT` of the sources")
	flags.StringVar(&sources.Folder, "sources", ".", "the repository's `FOLDER`")
	flags.Func("time", "when the commit was made, in `SECONDS` since 1970", func(text string) error {
		seconds, err := strconv.ParseInt(text, 10, 64)
		sources.Time = time.Unix(seconds, 0).UTC()
		return err
	})
	return sources
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
