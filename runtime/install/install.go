// Package install brings ONNX Runtime's library to a machine: from the official release archive, or from the
// copies inside the npm package onnxruntime-node and the PyPI wheel onnxruntime. Versions and SHA-256 sums
// are pinned; the library lies under the user's cache folder.
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
	goruntime "runtime"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Version is the pinned version of ONNX Runtime.
const Version = "1.30.0"

// maxLibrary bounds the size of the library that is unpacked.
const maxLibrary = 512 << 20

// known are the SHA-256 sums of the library as the sources pack it, by operating system and architecture.
var known = map[string][]string{
	"linux/amd64": {
		"ffb75a925ba05e47b235bb66e3e3911714a80b328a9c9425539feb204aa32a23", // npm
		"c902c70b3003c0e99fada202f37478c515ae9bba7944c2b2abd0017bae0c82ed", // PyPI
	},
	"linux/arm64":   {"1f549d46250b005580b597f4164984aaf75b3bcb9f3aeb07c7f8a8fe60b23c76"},
	"darwin/arm64":  {"685d2be5dba1309c89d3a5324b7fd06a5c42f1a61bfea32d14c4cc28d072121d"},
	"windows/amd64": {"508c362f5673483dd3a086379c392795b2e42d10d5e6f3f90ebd7ac21c97af67"},
	"windows/arm64": {"6c3a2abf5c6aca11c48a0d338a91af309f2266f25ce2e4084e6a87bbcb0fbfd0"},
}

func platform() string { return goruntime.GOOS + "/" + goruntime.GOARCH }

// fileName is the library's name once installed.
func fileName() string {
	switch goruntime.GOOS {
	case "windows":
		return "onnxruntime.dll"
	case "darwin":
		return "libonnxruntime.dylib"
	}
	return "libonnxruntime.so"
}

// Path is where the library is installed, whether it is there or not.
func Path() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(cache, "cnnkit", "onnxruntime", Version, fileName()), nil
}

// Where is the installed library; an error says that there is none.
func Where() (string, error) {
	path, err := Path()
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("no library at %s", path)
	}
	return path, nil
}

// Remove deletes the installed library; it is no error when there is none.
func Remove() error {
	path, err := Path()
	if err != nil {
		return err
	}
	return os.RemoveAll(filepath.Dir(path))
}

// Options of Install.
type Options struct {
	From string // a local archive (.tgz, .whl, .zip) instead of the sources
	Log  func(format string, args ...any)
}

// Install fetches the library unless it is installed, and gives its path.
func Install(ctx context.Context, opt Options) (string, error) {
	if opt.Log == nil {
		opt.Log = func(string, ...any) {}
	}
	path, err := Path()
	if err != nil {
		return "", err
	}
	if sum, err := sumOf(path); err == nil && pinned(sum) {
		opt.Log("ONNX Runtime %s is installed already", Version)
		return path, nil
	}
	if len(known[platform()]) == 0 {
		return "", fmt.Errorf(
			"no pinned ONNX Runtime for %s: set CNNKIT_ORT_LIB to a library of version 1.24 or newer",
			platform())
	}
	list := sources
	if opt.From != "" {
		list = []source{{"archive " + opt.From, func(context.Context, string) (string, error) {
			return opt.From, nil
		}}}
	}
	var failures []error
	for _, s := range list {
		opt.Log("trying the %s", s.name)
		if err := fetch(ctx, s, path); err != nil {
			if ctx.Err() != nil {
				return "", ctx.Err()
			}
			err = fmt.Errorf("%s: %w", s.name, err)
			opt.Log("%v", err)
			failures = append(failures, err)
			continue
		}
		return path, nil
	}
	return "", fmt.Errorf("ONNX Runtime %s could not be installed:\n%w", Version, errors.Join(failures...))
}

// fetch gets one source's archive and installs the library from it.
func fetch(ctx context.Context, s source, path string) error {
	dir, err := os.MkdirTemp("", "cnnkit-install-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	archive, err := s.get(ctx, dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return extract(archive, func(r io.Reader) error {
		h := sha256.New()
		return onnxio.WriteFile(path, func(w io.Writer) error {
			n, err := io.Copy(io.MultiWriter(w, h), io.LimitReader(r, maxLibrary+1))
			if err != nil {
				return err
			}
			if n > maxLibrary {
				return &onnxio.LimitError{What: "bytes of the library", Got: n, Limit: maxLibrary}
			}
			if sum := hex.EncodeToString(h.Sum(nil)); !pinned(sum) {
				return fmt.Errorf("the library's SHA-256 is %s, which is not the pinned one", sum)
			}
			return nil
		})
	})
}

func pinned(sum string) bool {
	for _, k := range known[platform()] {
		if k == sum {
			return true
		}
	}
	return false
}

func sumOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
