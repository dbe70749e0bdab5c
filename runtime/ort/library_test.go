package ort

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"
)

// elfFor is the start of a shared library for a machine.
func elfFor(machine uint16) []byte {
	h := make([]byte, 64)
	copy(h, "\x7fELF\x02\x01\x01")
	binary.LittleEndian.PutUint16(h[16:], 3) // ET_DYN
	binary.LittleEndian.PutUint16(h[18:], machine)
	binary.LittleEndian.PutUint32(h[20:], 1)
	binary.LittleEndian.PutUint16(h[52:], 64)
	binary.LittleEndian.PutUint16(h[58:], 64)
	return h
}

func TestLibraryErrors(t *testing.T) {
	other := uint16(183) // aarch64
	if goruntime.GOARCH == "arm64" {
		other = 62 // x86-64
	}
	dir := t.TempDir()
	tests := []struct {
		name    string
		content []byte
		want    string
	}{
		{"none", nil, "no such file"},
		{"text", []byte("this is not a library"), "not a shared library"},
		{"empty", []byte{}, "not a shared library"},
		{"cut", elfFor(62)[:20], "not a shared library"},
		{"another machine", elfFor(other), "another architecture"},
		{"an unknown machine", elfFor(999), "another architecture"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(dir, tt.name)
			if tt.content != nil {
				if err := os.WriteFile(path, tt.content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			t.Setenv("CNNKIT_ORT_LIB", path)
			_, err := Library()
			var missing *MissingError
			if !errors.As(err, &missing) {
				t.Fatalf("%v", err)
			}
			if missing.Component != "ONNX Runtime" || !strings.Contains(missing.Do,
				"cnnkit runtime install") || !strings.Contains(err.Error(), tt.name) {
				t.Errorf("%v; %s", err, missing.Do)
			}
			if goruntime.GOOS != "windows" && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%q does not say %q", err, tt.want)
			}
		})
	}
}

func TestLibraryNotInstalled(t *testing.T) {
	t.Setenv("CNNKIT_ORT_LIB", "")
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	t.Setenv("LocalAppData", t.TempDir())
	_, err := Library()
	var missing *MissingError
	if !errors.As(err, &missing) || !strings.Contains(err.Error(), "no library under") {
		t.Errorf("%v", err)
	}
}
