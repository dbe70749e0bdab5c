package onnxio

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

// TestLoadExternal reads a model whose initializers Python put into another file.
func TestLoadExternal(t *testing.T) {
	m, err := Load(fixtures + "external.onnx")
	if err != nil {
		t.Fatal(err)
	}
	w, b := m.Graph.Initializer("w"), m.Graph.Initializer("b")
	if got := w.Float32s(); !reflect.DeepEqual(got, []float32{0, 1, 2, 3, 4, 5}) {
		t.Errorf("w = %v", got)
	}
	if got := Data[int64](b); !reflect.DeepEqual(got, []int64{0, 1, 2, 3, 4}) {
		t.Errorf("b = %v", got)
	}
	if w.External != nil || b.External != nil {
		t.Error("External is still set")
	}
	if m := decodeFixture(t, "external.onnx"); len(m.Graph.Initializer("w").External) != 3 ||
		m.Graph.Initializer("w").Raw != nil {
		t.Error("Decode must keep the reference and read nothing")
	}
}

// folder makes a folder with a data file of 64 bytes, a file outside of it, and what else could be named.
func folder(t *testing.T) string {
	t.Helper()
	outer := t.TempDir()
	dir := filepath.Join(outer, "model")
	for _, d := range []string{dir, filepath.Join(dir, "sub")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, n := range map[string]int{"data": 64, "sub/data": 64, "../secret": 64, "linked": 64,
		"bools": 4} {
		b := bytes.Repeat([]byte{1}, n)
		if name == "bools" {
			b[2] = 7
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if runtime.GOOS != "windows" {
		for name, target := range map[string]string{"link": "data", "out": "../secret", "up": "..",
			"subdir": "sub"} {
			if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Link(filepath.Join(dir, "linked"), filepath.Join(dir, "linked2")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestExternalReferences holds references to other files: which are followed, and why the others are not.
func TestExternalReferences(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("symbolic links need privileges here: run on Unix")
	}
	dir := folder(t)
	sum := sha1.Sum(bytes.Repeat([]byte{1}, 64))
	for _, c := range []struct {
		name string
		dims []int64
		kv   []string
		want string // "" is success
	}{
		{"whole file", []int64{16}, []string{"location", "data"}, ""},
		{"part", []int64{4}, []string{"location", "data", "offset", "16", "length", "16"}, ""},
		{"in a folder", []int64{4}, []string{"location", "sub/data", "offset", "48"}, ""},
		{"checksum", []int64{16}, []string{"location", "data", "checksum", hex.EncodeToString(sum[:])}, ""},
		{"no elements", []int64{0}, []string{"location", "data", "offset", "64", "length", "0"}, ""},
		{"wrong checksum", []int64{16}, []string{"location", "data", "checksum", "00"}, "SHA-1"},
		{"no location", []int64{4}, []string{"offset", "0"}, "missing"},
		{"empty location", []int64{4}, []string{"location", ""}, "missing"},
		{"absolute", []int64{4}, []string{"location", filepath.Join(dir, "data")}, "leads out"},
		{"parent", []int64{16}, []string{"location", "../secret"}, "leads out"},
		{"parent inside", []int64{16}, []string{"location", "sub/../../secret"}, "leads out"},
		{"folder itself", []int64{16}, []string{"location", "."}, "leads out"},
		{"folder", []int64{16}, []string{"location", "sub"}, "not a regular file"},
		{"NUL", []int64{16}, []string{"location", "data\x00"}, "NUL"},
		{"backslash", []int64{16}, []string{"location", `..\secret`}, "backslash"},
		{"drive", []int64{16}, []string{"location", "C:secret"}, "colon"},
		{"too long", []int64{16}, []string{"location", strings.Repeat("a/", 3000)}, "longer"},
		{"missing file", []int64{16}, []string{"location", "nowhere"}, "no such file"},
		{"symbolic link", []int64{16}, []string{"location", "link"}, "not a regular file"},
		{"link outside", []int64{16}, []string{"location", "out"}, "not a regular file"},
		{"folder by link", []int64{16}, []string{"location", "subdir/data"}, "not a folder"},
		{"outside by link", []int64{16}, []string{"location", "up/secret"}, "not a folder"},
		{"hard link", []int64{16}, []string{"location", "linked"}, "hard links"},
		{"unknown key", []int64{16}, []string{"location", "data", "basepath", "/etc"}, `key "basepath"`},
		{"key twice", []int64{16}, []string{"location", "data", "location", "data"}, "twice"},
		{"negative offset", []int64{4}, []string{"location", "data", "offset", "-4"}, "not a number"},
		{"signed offset", []int64{4}, []string{"location", "data", "offset", "+4"}, "not a number"},
		{"hexadecimal", []int64{4}, []string{"location", "data", "offset", "0x4"}, "not a number"},
		{"huge offset", []int64{4}, []string{"location", "data", "offset", "99999999999999999999"},
			"too large"},
		{"offset overflows", []int64{4}, []string{"location", "data", "offset", "9223372036854775807"},
			"overflows"},
		{"offset beyond", []int64{4}, []string{"location", "data", "offset", "65", "length", "16"},
			"which has 64"},
		{"end beyond", []int64{4}, []string{"location", "data", "offset", "52", "length", "16"},
			"which has 64"},
		{"length of another shape", []int64{4}, []string{"location", "data", "length", "12"}, "length is 12"},
		{"no length, file longer", []int64{4}, []string{"location", "data"}, "has 64 bytes"},
		{"huge shape", []int64{1 << 40}, []string{"location", "data"}, "which has 64"},
		{"shape overflows", []int64{1 << 40, 1 << 40}, []string{"location", "data"}, "overflows"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(dir, "m.onnx")
			if err := os.WriteFile(path, model(tensorBytes(Float, c.dims, external(c.kv...))),
				0o644); err != nil {
				t.Fatal(err)
			}
			m, err := Load(path)
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if x := m.Graph.Initializers[0]; x.Check() != nil || x.External != nil {
					t.Errorf("%+v", x)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v, want %q and the path", err, c.want)
			}
			// The same on save: a reference that Load would not follow is not written.
			bad := &Model{Graph: &Graph{Initializers: []*Tensor{{Type: Float, Dims: c.dims}}}}
			for i := 0; i < len(c.kv); i += 2 {
				bad.Graph.Initializers[0].External = append(bad.Graph.Initializers[0].External,
					Property{Key: c.kv[i], Value: c.kv[i+1]})
			}
			if err := Save(path, bad); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Save: got %v, want %q", err, c.want)
			}
		})
	}
	t.Run("bools", func(t *testing.T) {
		path := filepath.Join(dir, "m.onnx")
		if err := os.WriteFile(path, model(tensorBytes(Bool, []int64{4}, external("location", "bools"))),
			0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "is 7") {
			t.Error(err)
		}
	})
}

// TestExternalBomb names the same bytes from many tensors.
func TestExternalBomb(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "data"), make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	one := bytesField(5, tensorBytes(Float, []int64{1 << 18}, external("location", "data"))...)
	path := filepath.Join(dir, "m.onnx")
	if err := os.WriteFile(path, bytesField(7, bytes.Repeat(one, 1000)...), 0o644); err != nil {
		t.Fatal(err)
	}
	var l *LimitError
	got := allocated(func() {
		if _, err := Load(path); !errors.As(err, &l) {
			t.Errorf("got %v", err)
		}
	})
	if got > 140<<20 {
		t.Errorf("%d bytes allocated before the limit", got)
	}
	if _, err := LoadLimits(path, Limits{ExternalBytes: 100}); !errors.As(err, &l) || l.Limit != 100 {
		t.Errorf("got %v", err)
	}
}

func TestSaveExternal(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "m.onnx")
	m := decodeFixture(t, "raw.onnx")
	m.Graph.Initializers = append(m.Graph.Initializers, m.Graph.Initializers[0]) // one tensor, listed twice
	if err := SaveExternal(path, m, 16); err != nil {
		t.Fatal(err)
	}
	got, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if !same(m, got) {
		t.Error("what was saved is another model")
	}
	names := entries(t, dir)
	if len(names) != 2 || !strings.HasSuffix(names[1], ".data") {
		t.Fatalf("files %v", names)
	}
	onDisk, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	outside := 0
	refs, err := decodeBytes(onDisk)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range refs.Graph.Initializers {
		if r, err := x.reference(); len(x.External) > 0 {
			outside++
			if err != nil || r.offset%pageSize != 0 {
				t.Errorf("%s: offset %d, %v", x.Name, r.offset, err)
			}
		}
	}
	if outside < 8 {
		t.Errorf("%d tensors in the data file", outside)
	}
	if err := SaveExternal(path, m, 16); err != nil {
		t.Fatal(err)
	}
	if again, _ := os.ReadFile(path); !bytes.Equal(again, onDisk) || len(entries(t, dir)) != 2 {
		t.Error("the second save gives other files")
	}
}

// TestNilParts: a model with holes is an error on every way out.
func TestNilParts(t *testing.T) {
	for name, spoil := range map[string]func(m *Model){
		"node":        func(m *Model) { m.Graph.Nodes[0] = nil },
		"attribute":   func(m *Model) { m.Graph.Nodes[0].Attrs[0] = nil },
		"initializer": func(m *Model) { m.Graph.Initializers[0] = nil },
		"input":       func(m *Model) { m.Graph.Inputs[0] = nil },
		"function":    func(m *Model) { m.Functions[0] = nil },
		"subgraphs":   func(m *Model) { m.Graph.Nodes[1].Attrs[0].Graphs = []*Graph{nil} },
		"cycle":       func(m *Model) { m.Graph.Nodes[1].Attrs[0].G = m.Graph },
	} {
		t.Run(name, func(t *testing.T) {
			m := decodeFixture(t, "valid.onnx")
			spoil(m)
			path := filepath.Join(t.TempDir(), "m.onnx")
			_, err := Encode(m)
			for _, err := range []error{err, Save(path, m), SaveExternal(path, m, 1)} {
				if !isTyped(err) {
					t.Errorf("%T %v", err, err)
				}
			}
			if left := entries(t, filepath.Dir(path)); len(left) > 0 {
				t.Errorf("files %v", left)
			}
		})
	}
}

func entries(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// TestSaveAboveLimit writes a model whose tensors would not fit into a message of 2 GiB. The elements are
// zero pages that the system never has to provide, and the disk is spared by a writer that only counts.
func TestSaveAboveLimit(t *testing.T) {
	big := &Tensor{Name: "big", Type: Uint8, Dims: []int64{maxMessage}, Raw: make([]byte, maxMessage)}
	m := &Model{IRVersion: 8, Graph: &Graph{Name: "g", Initializers: []*Tensor{big}}}
	var l *LimitError
	if _, err := Encode(m); !errors.As(err, &l) {
		t.Errorf("Encode: %v", err)
	}
	e := &encoder{external: map[*Tensor][]Property{big: {{Key: "location", Value: "x"}}}}
	if err := e.model(m); err != nil || e.size > 1000 {
		t.Errorf("%d bytes, %v", e.size, err)
	}
	if os.Getenv("CNNKIT_LARGE") == "" {
		return // writes and reads 2 GiB
	}
	path := filepath.Join(t.TempDir(), "big.onnx")
	if err := Save(path, m); err != nil {
		t.Fatal(err)
	}
	got, err := Load(path)
	if err != nil || len(got.Graph.Initializers[0].Raw) != maxMessage {
		t.Errorf("Load: %v", err)
	}
}

func TestSaveLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.onnx")
	m := decodeFixture(t, "fields.onnx")
	if err := Save(path, m); err != nil {
		t.Fatal(err)
	}
	got, err := Load(path)
	if err != nil || !same(m, got) {
		t.Errorf("another model, %v", err)
	}
	b, _ := os.ReadFile(path)
	if e, err := Encode(m); err != nil || !bytes.Equal(b, e) {
		t.Errorf("Save and Encode differ, %v", err)
	}
	for name, path := range map[string]string{"missing": path + "x", "folder": filepath.Dir(path),
		"device": os.DevNull} {
		if _, err := Load(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Save(path, nil); err == nil {
		t.Error("Save(nil) succeeds")
	}
}

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	hello := func(w io.Writer) error { _, err := io.WriteString(w, "hello"); return err }
	content := func(want string) {
		t.Helper()
		if b, err := os.ReadFile(path); err != nil || string(b) != want {
			t.Errorf("content %q, %v, want %q", b, err, want)
		}
		if names := entries(t, dir); len(names) != 1 {
			t.Errorf("files left over: %v", names)
		}
	}
	if err := WriteFile(path, hello); err != nil {
		t.Fatal(err)
	}
	content("hello")
	failure := errors.New("failure")
	if err := WriteFile(path, func(w io.Writer) error {
		io.WriteString(w, "half")
		return failure
	}); !errors.Is(err, failure) {
		t.Errorf("error %v", err)
	}
	content("hello")
	func() {
		defer func() { recover() }()
		WriteFile(path, func(io.Writer) error { panic("writer") })
	}()
	content("hello")
	for _, bad := range []string{"", ".", dir, dir + "/", filepath.Join(dir, "no", "such", "folder"),
		os.DevNull} {
		if err := WriteFile(bad, hello); err == nil {
			t.Errorf("WriteFile(%q) succeeds", bad)
		}
	}
	t.Chdir(dir)
	if err := WriteFile("f", func(w io.Writer) error {
		_, err := io.WriteString(w, "relative")
		return err
	}); err != nil {
		t.Error(err)
	}
	content("relative")
}
