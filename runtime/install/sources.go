package install

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"time"
)

// source is a place that has the library; get puts an archive into dir and gives its path.
type source struct {
	name string
	get  func(ctx context.Context, dir string) (string, error)
}

var sources = []source{
	{"official release archive", release},
	{"npm package onnxruntime-node", npm},
	{"PyPI wheel onnxruntime", wheel},
}

// release downloads the archive of the project's GitHub release.
func release(ctx context.Context, dir string) (string, error) {
	name := map[string]string{"linux/amd64": "linux-x64", "linux/arm64": "linux-aarch64",
		"darwin/arm64":  "osx-arm64",
		"windows/amd64": "win-x64", "windows/arm64": "win-arm64"}[platform()]
	ext := ".tgz"
	if goruntime.GOOS == "windows" {
		ext = ".zip"
	}
	url := fmt.Sprintf("https://github.com/microsoft/onnxruntime/releases/download/v%s/onnxruntime-%s-%s%s",
		Version, name, Version, ext)
	client := &http.Client{Timeout: 10 * time.Minute}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", url, res.Status)
	}
	file := filepath.Join(dir, "release"+ext)
	f, err := os.Create(file)
	if err != nil {
		return "", err
	}
	if _, err := io.Copy(f, io.LimitReader(res.Body, maxLibrary)); err != nil {
		f.Close()
		return "", err
	}
	return file, f.Close()
}

// npm packs the package; its install script is never run.
func npm(ctx context.Context, dir string) (string, error) {
	return tool(ctx, dir, "*.tgz", "npm", "pack", "--silent", "--ignore-scripts", "onnxruntime-node@"+Version)
}

// wheel downloads the wheel; nothing of it is installed.
func wheel(ctx context.Context, dir string) (string, error) {
	var last error
	for _, python := range []string{"python3", "python"} {
		file, err := tool(ctx, dir, "*.whl", python, "-m", "pip", "download", "--quiet", "--no-deps",
			"--only-binary=:all:",
			"--dest", ".", "onnxruntime=="+Version)
		if err == nil {
			return file, nil
		}
		last = err
	}
	return "", last
}

// tool runs a command in dir and gives the one file it left that matches pattern.
func tool(ctx context.Context, dir, pattern, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		if text := strings.TrimSpace(stderr.String()); text != "" {
			lines := strings.Split(text, "\n")
			return "", fmt.Errorf("%s: %w: %s", name, err, lines[len(lines)-1])
		}
		return "", err
	}
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(files) != 1 {
		return "", fmt.Errorf("%s left %d archives", name, len(files))
	}
	return files[0], nil
}

// isLibrary reports whether an archive's entry is the library for this platform.
func isLibrary(name string) bool {
	name = path.Clean(name)
	base := path.Base(name)
	arch := map[string]string{"amd64": "x64", "arm64": "arm64"}[goruntime.GOARCH]
	if strings.Contains(name, "/napi-v") { // the npm package has every platform's
		system := map[string]string{"windows": "win32"}[goruntime.GOOS]
		if system == "" {
			system = goruntime.GOOS
		}
		if !strings.Contains(name, "/"+system+"/"+arch+"/") {
			return false
		}
	}
	switch goruntime.GOOS {
	case "windows":
		return base == "onnxruntime.dll"
	case "darwin":
		return base == "libonnxruntime."+Version+".dylib"
	}
	return base == "libonnxruntime.so."+Version || base == "libonnxruntime.so.1"
}

// extract hands the library in an archive to use. Nothing else is unpacked, and no path
// from the archive is used.
func extract(archive string, use func(io.Reader) error) error {
	if strings.HasSuffix(archive, ".whl") || strings.HasSuffix(archive, ".zip") {
		z, err := zip.OpenReader(archive)
		if err != nil {
			return err
		}
		defer z.Close()
		for _, f := range z.File {
			if f.Mode().IsRegular() && isLibrary(f.Name) {
				r, err := f.Open()
				if err != nil {
					return err
				}
				defer r.Close()
				return use(r)
			}
		}
		return fmt.Errorf("%s has no library for %s", filepath.Base(archive), platform())
	}
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	g, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	t := tar.NewReader(g)
	for {
		h, err := t.Next()
		if err == io.EOF {
			return fmt.Errorf("%s has no library for %s", filepath.Base(archive), platform())
		}
		if err != nil {
			return err
		}
		if h.Typeflag == tar.TypeReg && isLibrary(h.Name) {
			return use(t)
		}
	}
}
