//go:build unix

package onnxio

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestWriteFilePermissions(t *testing.T) {
	old := syscall.Umask(0o027)
	defer syscall.Umask(old)
	path := filepath.Join(t.TempDir(), "f")
	write := func(w io.Writer) error { _, err := io.WriteString(w, "x"); return err }
	mode := func(want os.FileMode) {
		t.Helper()
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("mode %v, %v, want %v", info.Mode(), err, want)
		}
	}
	if err := WriteFile(path, write); err != nil {
		t.Fatal(err)
	}
	mode(0o640)
	for _, m := range []os.FileMode{0o600, 0o666, 0o755} {
		if err := os.Chmod(path, m); err != nil {
			t.Fatal(err)
		}
		if err := WriteFile(path, write); err != nil {
			t.Fatal(err)
		}
		mode(m)
	}
}

// TestWriteFileLinks: neither a symbolic link nor a pipe is written to.
func TestWriteFileLinks(t *testing.T) {
	dir := t.TempDir()
	target, link, pipe := filepath.Join(dir, "target"), filepath.Join(dir, "link"), filepath.Join(dir, "pipe")
	if err := os.WriteFile(target, []byte("kept"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(pipe, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, pipe} {
		if err := WriteFile(path, func(io.Writer) error { return nil }); err == nil ||
			!strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if b, _ := os.ReadFile(target); string(b) != "kept" {
		t.Errorf("the target holds %q", b)
	}
	if _, err := Load(pipe); err == nil { // and reading does not wait
		t.Error("a pipe loads")
	}
	b := model(tensorBytes(Float, []int64{1}, external("location", "pipe")))
	if err := os.WriteFile(filepath.Join(dir, "m.onnx"), b, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(filepath.Join(dir, "m.onnx")); err == nil || !strings.Contains(err.Error(), "regular") {
		t.Errorf("external data in a pipe: %v", err)
	}
}
