// Package release makes what a release consists of, besides programs and
// images: archives, charts, lists of parts, checksums. The same input gives
// the same bytes: nothing tells of who made it, where and when.
package release

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// File is a file of an archive.
type File struct {
	// Name in the archive, with slashes.
	Name    string
	Content []byte
	// Program says that it can be run.
	Program bool
}

// ReadFolder has the files of a folder and of those below it, named below
// prefix, by their names.
func ReadFolder(folder, prefix string) ([]File, error) {
	var files []File
	err := filepath.WalkDir(folder, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		below, err := filepath.Rel(folder, name)
		if err != nil {
			return err
		}
		files = append(files, File{Name: path.Join(prefix, filepath.ToSlash(below)), Content: content})
		return nil
	})
	return files, err
}

// Pack is a .tar.gz with these files, by their names, which all have this
// time and belong to root.
func Pack(files []File, modified time.Time) ([]byte, error) {
	sorted := slices.Clone(files)
	slices.SortFunc(sorted, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	var content bytes.Buffer
	// Its header has neither name nor time.
	compressed, err := gzip.NewWriterLevel(&content, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	archive := tar.NewWriter(compressed)
	for _, file := range sorted {
		header := &tar.Header{
			Typeflag: tar.TypeReg, Name: file.Name, Size: int64(len(file.Content)), Mode: 0o644, ModTime: modified,
			Format: tar.FormatPAX,
		}
		if file.Program {
			header.Mode = 0o755
		}
		if err := archive.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := archive.Write(file.Content); err != nil {
			return nil, err
		}
	}
	err = errors.Join(archive.Close(), compressed.Close())
	return content.Bytes(), err
}

// Checksums are the lines of `sha256sum` for all files of a folder but the
// one that holds them.
func Checksums(folder, except string) (string, error) {
	files, err := ReadFolder(folder, "")
	if err != nil {
		return "", err
	}
	var lines strings.Builder
	for _, file := range files {
		if file.Name != except {
			fmt.Fprintf(&lines, "%x  %s\n", sha256.Sum256(file.Content), file.Name)
		}
	}
	return lines.String(), nil
}
