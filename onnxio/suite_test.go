package onnxio

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSuiteRoundTrip reads and writes back every model and tensor of the ONNX conformance suite.
func TestSuiteRoundTrip(t *testing.T) {
	root := os.Getenv("CNNKIT_ONNX_SUITE")
	if root == "" {
		t.Skip("CNNKIT_ONNX_SUITE is not set: the folder of ONNX's conformance cases")
	}
	models, tensors := 0, 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		switch filepath.Ext(path) {
		case ".onnx":
			models++
			m, err := Decode(bytes.NewReader(b), int64(len(b)), Limits{})
			if err != nil {
				t.Errorf("%s: %v", path, err)
				return nil
			}
			checkModelRoundTrip(t, path, m)
		case ".pb":
			x, err := DecodeTensor(b)
			if err != nil {
				if !strings.Contains(path, "sequence") && !strings.Contains(path, "optional") {
					t.Errorf("%s: %v", path, err)
				}
				return nil
			}
			tensors++
			again, err := EncodeTensor(x)
			if err != nil {
				t.Errorf("%s: %v", path, err)
				return nil
			}
			y, err := DecodeTensor(again)
			if err != nil || !same(x, y) {
				t.Errorf("%s: round trip differs: %v", path, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d models, %d tensors", models, tensors)
}

// checkModelRoundTrip encodes m, decodes that, and compares models and bytes.
func checkModelRoundTrip(t *testing.T, name string, m *Model) {
	t.Helper()
	b, err := Encode(m)
	if err != nil {
		t.Errorf("%s: encode: %v", name, err)
		return
	}
	n, err := Decode(bytes.NewReader(b), int64(len(b)), Limits{})
	if err != nil {
		t.Errorf("%s: decode what was encoded: %v", name, err)
		return
	}
	if !same(m, n) {
		t.Errorf("%s: decode(encode(m)) is another model", name)
	}
	again, err := Encode(n)
	if err != nil || !bytes.Equal(b, again) {
		t.Errorf("%s: the second encoding differs: %v", name, err)
	}
}
