// Package install brings ONNX Runtime's library to a machine: from the PyPI wheels onnxruntime and
// onnxruntime-gpu, from the official release archive, or from the copies inside the npm package
// onnxruntime-node. Versions and SHA-256 sums are pinned; the library lies under the user's cache folder.
package install

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Options of Install.
type Options struct {
	CUDA bool   // the build with the CUDA and TensorRT execution providers
	From string // a local archive (.tgz, .whl, .zip) instead of the sources
	Log  func(format string, args ...any)
}

// Install fetches the library unless it is installed, and gives its path. Of the CPU's build it wants the
// newest pinned version, and takes an older one where that is all there is.
func Install(ctx context.Context, opt Options) (string, error) {
	if opt.Log == nil {
		opt.Log = func(string, ...any) {}
	}
	list := sources
	if opt.CUDA {
		list = cudaSources
	}
	if opt.From != "" {
		return installFrom(ctx, list, opt)
	}
	root, err := root()
	if err != nil {
		return "", err
	}
	var failures []error
	for _, s := range list {
		if len(s.build.sums[platform()]) == 0 {
			continue
		}
		if s.build.whole(root) {
			opt.Log("ONNX Runtime %s is installed already", s.build.name)
			return s.build.library(root), nil
		}
		opt.Log("trying the %s %s", s.name, s.build.version)
		path, err := fetch(ctx, s, root)
		if err == nil {
			return path, nil
		}
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		err = fmt.Errorf("%s %s: %w", s.name, s.build.version, err)
		opt.Log("%v", err)
		failures = append(failures, err)
	}
	if len(failures) == 0 {
		return "", unpinned(opt.CUDA)
	}
	return "", fmt.Errorf("ONNX Runtime could not be installed:\n%w", errors.Join(failures...))
}

func unpinned(cuda bool) error {
	what := "ONNX Runtime"
	if cuda {
		what += " with CUDA"
	}
	return fmt.Errorf("no pinned %s for %s: set CNNKIT_ORT_LIB to a library of version 1.24 or newer", what,
		platform())
}

// installFrom takes whichever of the builds an archive has.
func installFrom(ctx context.Context, list []source, opt Options) (string, error) {
	root, err := root()
	if err != nil {
		return "", err
	}
	var builds []*build
	for _, s := range list {
		if len(s.build.sums[platform()]) == 0 {
			continue
		}
		if s.build.whole(root) {
			opt.Log("ONNX Runtime %s is installed already", s.build.name)
			return s.build.library(root), nil
		}
		builds = append(builds, s.build)
	}
	if len(builds) == 0 {
		return "", unpinned(opt.CUDA)
	}
	opt.Log("trying the archive %s", opt.From)
	path, err := unpack(ctx, opt.From, root, builds...)
	if err != nil {
		return "", fmt.Errorf("archive %s: %w", opt.From, err)
	}
	return path, nil
}

// fetch gets one source's archive and installs the library from it.
func fetch(ctx context.Context, s source, root string) (string, error) {
	dir, err := os.MkdirTemp("", "cnnkit-install-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	archive, err := s.get(ctx, s.build.version, dir)
	if err != nil {
		return "", err
	}
	return unpack(ctx, archive, root, s.build)
}

// unpack installs the one of the builds whose files an archive has: all of them, or nothing.
func unpack(ctx context.Context, archive, root string, builds ...*build) (string, error) {
	if err := os.MkdirAll(root, 0o755); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(root, ".part-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	sums := map[string]string{}
	err = extract(archive, func(name string, r io.Reader) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		var err error
		sums[name], err = save(filepath.Join(dir, name), r)
		return err
	})
	if err != nil {
		return "", err
	}
	if sums[fileName()] == "" {
		return "", fmt.Errorf("%s has no library for %s", filepath.Base(archive), platform())
	}
	for _, b := range builds {
		if b.pinned(sums) {
			return b.library(root), b.place(dir, root)
		}
	}
	return "", refusal(sums, builds[0])
}

// refusal says which of a build's files an archive does not have.
func refusal(sums map[string]string, b *build) error {
	known := b.sums[platform()]
	for _, name := range slices.Sorted(maps.Keys(known)) {
		switch sum := sums[name]; {
		case sum == "":
			return fmt.Errorf("no %s is in it, which belongs to ONNX Runtime %s", name, b.name)
		case !slices.Contains(known[name], sum):
			return fmt.Errorf("the SHA-256 of %s is %s, which is not a pinned one", name, sum)
		}
	}
	return nil
}

// save writes a file and gives its sum.
func save(path string, r io.Reader) (string, error) {
	h := sha256.New()
	err := onnxio.WriteFile(path, func(w io.Writer) error {
		n, err := io.Copy(io.MultiWriter(w, h), io.LimitReader(r, maxLibrary+1))
		if err == nil && n > maxLibrary {
			err = &onnxio.LimitError{What: "bytes of " + filepath.Base(path), Got: n, Limit: maxLibrary}
		}
		return err
	})
	return hex.EncodeToString(h.Sum(nil)), err
}

// maxLibrary bounds the size of each file that is unpacked.
const maxLibrary = 512 << 20

// Where is the installed library, the build with CUDA before the CPU's; an error says that there is none.
func Where() (string, error) {
	root, err := root()
	if err != nil {
		return "", err
	}
	for _, s := range append(cudaSources[:len(cudaSources):len(cudaSources)], sources...) {
		path := s.build.library(root)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("no library under %s", root)
}

// Remove deletes what is installed, of every version; it is no error when nothing is.
func Remove() error {
	root, err := root()
	if err != nil {
		return err
	}
	return os.RemoveAll(root)
}

// root is the folder of all versions.
func root() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(cache, "cnnkit", "onnxruntime"), nil
}
