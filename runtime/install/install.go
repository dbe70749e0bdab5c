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
	"os"
	"path/filepath"

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
	root, err := root()
	if err != nil {
		return "", err
	}
	var failures []error
	for _, s := range opt.sources() {
		if len(s.build.sums[platform()]) == 0 {
			continue
		}
		if s.build.whole(root) {
			opt.Log("ONNX Runtime %s is installed already", s.build.name)
			return s.build.library(root), nil
		}
		opt.Log("trying the %s %s", s.name, s.build.version)
		err := fetch(ctx, s, root)
		if err == nil {
			return s.build.library(root), nil
		}
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		err = fmt.Errorf("%s %s: %w", s.name, s.build.version, err)
		opt.Log("%v", err)
		failures = append(failures, err)
	}
	if len(failures) == 0 {
		return "", opt.unpinned()
	}
	return "", fmt.Errorf("ONNX Runtime could not be installed:\n%w", errors.Join(failures...))
}

// sources are the places to try; an archive may have any of the builds.
func (opt Options) sources() []source {
	list := sources
	if opt.CUDA {
		list = cudaSources
	}
	if opt.From == "" {
		return list
	}
	var out []source
	for _, s := range list {
		if len(out) == 0 || out[len(out)-1].build != s.build {
			out = append(out, source{"archive " + opt.From + " for version", s.build,
				func(context.Context, string, string) (string, error) { return opt.From, nil }})
		}
	}
	return out
}

func (opt Options) unpinned() error {
	what := "ONNX Runtime"
	if opt.CUDA {
		what += " with CUDA"
	}
	return fmt.Errorf("no pinned %s for %s: set CNNKIT_ORT_LIB to a library of version 1.24 or newer", what,
		platform())
}

// fetch gets one source's archive and installs its build: all files of it, or nothing.
func fetch(ctx context.Context, s source, root string) error {
	dir, err := os.MkdirTemp("", "cnnkit-install-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	archive, err := s.get(ctx, s.build.version, dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	part, err := os.MkdirTemp(root, ".part-") // beside its place, so that files can be moved there
	if err != nil {
		return err
	}
	defer os.RemoveAll(part)
	sums := map[string]string{}
	err = extract(archive, func(name string, r io.Reader) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		var err error
		sums[name], err = save(filepath.Join(part, name), r)
		return err
	})
	if err != nil {
		return err
	}
	if sums[fileName()] == "" {
		return fmt.Errorf("%s has no library for %s", filepath.Base(archive), platform())
	}
	if err := s.build.refuses(sums); err != nil {
		return err
	}
	return s.build.place(part, root)
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
