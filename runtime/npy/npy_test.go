package npy_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime/npy"
)

const files = "../../testdata/npy"

// eighths are 0, 1/8, ..., 23/8.
func eighths() []float32 {
	out := make([]float32, 24)
	for i := range out {
		out[i] = float32(i) / 8
	}
	return out
}

func TestNumPyFiles(t *testing.T) {
	dims := []int64{2, 3, 4}
	for _, name := range []string{"f4", "big", "fortran", "v2", "v3"} {
		x, err := npy.Load(filepath.Join(files, name+".npy"))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if x.Type != onnxio.Float || !slices.Equal(x.Dims, dims) || !slices.Equal(x.Float32s(), eighths()) {
			t.Errorf("%s: %s %v %v", name, x.Type, x.Dims, x.Float32s())
		}
	}
	load := func(name string, typ onnxio.DataType, dims ...int64) *onnxio.Tensor {
		x, err := npy.Load(filepath.Join(files, name+".npy"))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if x.Type != typ || !slices.Equal(x.Dims, dims) {
			t.Fatalf("%s: %s %v", name, x.Type, x.Dims)
		}
		return x
	}
	if v := onnxio.Data[float64](load("f8", onnxio.Double, dims...)); v[23] != 23.0/8 {
		t.Errorf("f8: %v", v)
	}
	if v := onnxio.Data[uint16](load("f2", onnxio.Float16, dims...)); v[8] != 0x3c00 {
		t.Errorf("f2: 1 is %#x", v[8])
	}
	if v := onnxio.Data[int8](load("i1", onnxio.Int8, dims...)); v[0] != -12 || v[23] != 11 {
		t.Errorf("i1: %v", v)
	}
	if v := onnxio.Data[int64](load("i8", onnxio.Int64, dims...)); v[0] != -12 || v[23] != 11 {
		t.Errorf("i8: %v", v)
	}
	if v := onnxio.Data[int32](load("big_fortran", onnxio.Int32, dims...)); v[1] != 1 || v[4] != 4 ||
		v[23] != 23 {
		t.Errorf("big_fortran: %v", v)
	}
	if v := onnxio.Data[bool](load("b1", onnxio.Bool, dims...)); !v[0] || v[1] || !v[3] {
		t.Errorf("b1: %v", v)
	}
	if v := load("scalar", onnxio.Float).Float32s(); v[0] != 2.5 {
		t.Errorf("scalar: %v", v)
	}
	load("vector", onnxio.Float, 5)
	load("empty", onnxio.Float, 0, 3)
}

// What is written is byte for byte what numpy.save writes.
func TestWritesAsNumPy(t *testing.T) {
	for _, name := range []string{"f4", "f8", "f2", "i1", "i8", "u1", "b1", "scalar", "vector", "empty"} {
		path := filepath.Join(files, name+".npy")
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		x, err := npy.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		out := filepath.Join(t.TempDir(), "x.npy")
		if err := npy.Save(out, x); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: %q, NumPy writes %q", name, got[:min(128, len(got))], want[:min(128, len(want))])
		}
	}
	if err := npy.Encode(&bytes.Buffer{}, &onnxio.Tensor{Type: onnxio.String}); err == nil {
		t.Error("strings were written")
	}
}

func file(header string, body int) []byte {
	b := []byte("\x93NUMPY\x01\x00")
	b = append(b, byte(len(header)), byte(len(header)>>8))
	return append(append(b, header...), make([]byte, body)...)
}

func TestHostileFiles(t *testing.T) {
	tests := []struct {
		name string
		data []byte
		want string
	}{
		{"empty", nil, "not a NumPy file"},
		{"another format", []byte("PK\x03\x04 and so on"), "not a NumPy file"},
		{"header cut off", file("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", 0)[:20],
			"cut off"},
		{"header of 4 GB", []byte("\x93NUMPY\x02\x00\xff\xff\xff\xff"), "header"},
		{"version 9", []byte("\x93NUMPY\x09\x00\x00\x00\x00\x00"), "version 9.0"},
		{"no dictionary", file("hello", 4), "not understood"},
		{"objects", file("{'descr': '|O8', 'fortran_order': False, 'shape': (1,), }", 8), "not supported"},
		{"records", file("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", 8),
			"not understood"},
		{"too few elements", file("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 20),
			"takes 24 bytes, there are 20"},
		{"too many elements", file("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 28),
			"takes 24 bytes, there are 28"},
		{"overflow", file("{'descr': '<f8', 'fortran_order': False, 'shape': (9223372036854775807, 4), }", 0),
			"npy"},
		{"product wraps to 0",
			file("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }", 0), "npy"},
		{"a dimension beyond int64",
			file("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }", 4), "shape"},
		{"rank 65", file("{'descr': '<f4', 'fortran_order': False, 'shape': ("+strings.Repeat("1,",
			65)+"), }", 4), "shape"},
		{"negative", file("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", 4), "not understood"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x, err := npy.Decode(bytes.NewReader(tt.data), int64(len(tt.data)))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("%v, %v; %q is wanted", x, err, tt.want)
			}
			var format *onnxio.FormatError
			var limit *onnxio.LimitError
			if !errors.As(err, &format) && !errors.As(err, &limit) {
				t.Errorf("%T", err)
			}
		})
	}
}

func TestNotAFile(t *testing.T) {
	if _, err := npy.Load(t.TempDir()); err == nil {
		t.Error("a folder was read")
	}
	if _, err := npy.Load(filepath.Join(t.TempDir(), "none.npy")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// What is read is written and read again as the same tensor.
func FuzzDecode(f *testing.F) {
	paths, err := filepath.Glob(filepath.Join(files, "*.npy"))
	if err != nil || len(paths) == 0 {
		f.Fatal("no files to start from")
	}
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := npy.Decode(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		if err := x.Check(); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := npy.Encode(&out, x); err != nil {
			t.Fatal(err)
		}
		y, err := npy.Decode(bytes.NewReader(out.Bytes()), int64(out.Len()))
		if err != nil {
			t.Fatal(err)
		}
		if x.Type != y.Type || !slices.Equal(x.Dims, y.Dims) || !bytes.Equal(x.Raw, y.Raw) {
			t.Fatalf("%v %v became %v %v", x.Type, x.Dims, y.Type, y.Dims)
		}
	})
}
