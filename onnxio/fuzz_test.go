package onnxio

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// FuzzDecode: whatever the bytes, Decode gives a typed error or a model that Encode writes and Decode reads
// back as the same model; and the same bytes give the same verdict.
func FuzzDecode(f *testing.F) {
	for _, name := range []string{"external.onnx", "valid.onnx"} {
		f.Add(readFixture(f, name))
	}
	for _, c := range brokenWire() {
		f.Add(c.b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeBytes(b)
		again, err2 := decodeBytes(b)
		if (err == nil) != (err2 == nil) || err != nil && err.Error() != err2.Error() {
			t.Fatalf("two verdicts: %v, %v", err, err2)
		}
		if err != nil {
			if !isTyped(err) {
				t.Fatalf("%T %v", err, err)
			}
			return
		}
		if !same(m, again) {
			t.Fatal("two models from the same bytes")
		}
		for _, x := range m.tensors() {
			if err := x.Check(); err != nil {
				t.Fatalf("a decoded tensor: %v", err)
			}
		}
		c, err := Encode(m)
		if err != nil {
			if isTyped(err) {
				return // deeper than what is written, for instance
			}
			t.Fatalf("%T %v", err, err)
		}
		n, err := Decode(bytes.NewReader(c), int64(len(c)), Limits{Overhead: 1 << 30})
		if err != nil || !same(m, n) {
			t.Fatalf("decode(encode(m)) is another model: %v", err)
		}
	})
}

func (m *Model) tensors() (out []*Tensor) {
	eachTensor(m, func(t *Tensor) error { out = append(out, t); return nil })
	return out
}

// FuzzDecodeTensor is FuzzDecode for single tensors.
func FuzzDecodeTensor(f *testing.F) {
	files, err := filepath.Glob(fixtures + "tensors/*.pb")
	if err != nil || len(files) == 0 {
		f.Fatal("no tensors", err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add(tensorBytes(Float, []int64{3}, external("location", "x", "offset", "0", "length", "12")))
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := DecodeTensor(b)
		if err != nil {
			if !isTyped(err) {
				t.Fatalf("%T %v", err, err)
			}
			return
		}
		if err := x.Check(); err != nil {
			t.Fatal(err)
		}
		c, err := EncodeTensor(x)
		if err != nil {
			t.Fatal(err)
		}
		if y, err := DecodeTensor(c); err != nil || !same(x, y) {
			t.Fatalf("another tensor: %v", err)
		}
	})
}
