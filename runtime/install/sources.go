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
	"path/filepath"
	goruntime "runtime"
	"strings"
	"time"
)

// source is a place that has a build; get puts an archive of a version into dir and gives its path.
type source struct {
	name  string
	build *build
	get   func(ctx context.Context, version, dir string) (string, error)
}

var sources = []source{
	{"PyPI wheel onnxruntime", newest, wheel("onnxruntime")},
	{"official release archive", before, release},
	{"npm package onnxruntime-node", before, npm},
}

var cudaSources = []source{{"PyPI wheel onnxruntime-gpu", withCUDA, wheel("onnxruntime-gpu")}}

// release downloads the archive of the project's GitHub release.
func release(ctx context.Context, version, dir string) (string, error) {
	name := map[string]string{"linux/amd64": "linux-x64", "linux/arm64": "linux-aarch64",
		"darwin/arm64":  "osx-arm64",
		"windows/amd64": "win-x64", "windows/arm64": "win-arm64"}[platform()]
	ext := ".tgz"
	if goruntime.GOOS == "windows" {
		ext = ".zip"
	}
	url := fmt.Sprintf("https://github.com/microsoft/onnxruntime/releases/download/v%s/onnxruntime-%s-%s%s",
		version, name, version, ext)
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
func npm(ctx context.Context, version, dir string) (string, error) {
	return tool(ctx, dir, "*.tgz", "npm", "pack", "--silent", "--ignore-scripts", "onnxruntime-node@"+version)
}

// wheels are the tags of the wheels that have a platform's library.
var wheels = map[string]string{
	"linux/amd64": "manylinux_2_28_x86_64", "linux/arm64": "manylinux_2_28_aarch64",
	"darwin/arm64": "macosx_14_0_arm64", "windows/amd64": "win_amd64", "windows/arm64": "win_arm64"}

// wheel downloads a wheel for this platform and Python 3.12, whichever Python pip runs in; nothing of it is
// installed.
func wheel(pkg string) func(ctx context.Context, version, dir string) (string, error) {
	return func(ctx context.Context, version, dir string) (string, error) {
		var last error
		for _, python := range []string{"python3", "python"} {
			file, err := tool(ctx, dir, "*.whl", python, "-m", "pip", "download", "--quiet", "--no-deps",
				"--only-binary=:all:", "--platform", wheels[platform()], "--python-version", "3.12",
				"--dest", ".", pkg+"=="+version)
			if err == nil {
				return file, nil
			}
			last = err
		}
		return "", last
	}
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

// extract hands the library in an archive, and the providers beside it, to use. Nothing else is unpacked, and
// no path from the archive is used.
func extract(archive string, use func(name string, r io.Reader) error) error {
	if strings.HasSuffix(archive, ".whl") || strings.HasSuffix(archive, ".zip") {
		return unzip(archive, use)
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
			return nil
		}
		if err != nil {
			return err
		}
		if name := installed(h.Name); name != "" && h.Typeflag == tar.TypeReg {
			if err := use(name, t); err != nil {
				return err
			}
		}
	}
}

func unzip(archive string, use func(name string, r io.Reader) error) error {
	z, err := zip.OpenReader(archive)
	if err != nil {
		return err
	}
	defer z.Close()
	for _, f := range z.File {
		name := installed(f.Name)
		if name == "" || !f.Mode().IsRegular() {
			continue
		}
		r, err := f.Open()
		if err != nil {
			return err
		}
		err = use(name, r)
		r.Close()
		if err != nil {
			return err
		}
	}
	return nil
}
