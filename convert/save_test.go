package convert

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio"
)

// Nothing is written through a symbolic link, and a save that fails leaves what was there.
func TestSaveIsWhole(t *testing.T) {
	var sd StateDict
	sd.Set("a", onnxio.Floats([]float32{1}))
	dir := t.TempDir()
	target, link := filepath.Join(dir, "target.pt"), filepath.Join(dir, "link.pt")
	if err := os.WriteFile(target, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, link); err != nil {
		t.Skipf("run where symbolic links can be made: %v", err)
	}
	if err := Save(link, &sd); err == nil {
		t.Error("written through a symbolic link")
	}
	sd.Set("bad\xff", onnxio.Floats([]float32{1}))
	for _, name := range []string{"target.pt", "x.safetensors", "x.npz"} {
		if err := Save(filepath.Join(dir, name), &sd); err == nil {
			t.Errorf("%s: a key that is not UTF-8 was written", name)
		}
	}
	if b, _ := os.ReadFile(target); string(b) != "old" {
		t.Errorf("the file holds %.20q", b)
	}
	if list, _ := os.ReadDir(dir); len(list) != 2 {
		t.Errorf("left behind: %v", list)
	}
}

// Reading and saving again gives the same bytes; reading twice gives the same verdict.
func TestSameBytesAgain(t *testing.T) {
	sd, err := Load(fixtures + "all-zip-new.pth")
	if err != nil {
		t.Fatal(err)
	}
	var pt, st bytes.Buffer
	if err := WritePT(&pt, sd); err != nil {
		t.Fatal(err)
	}
	if err := WriteSafetensors(&st, sd); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"pt": pt.Bytes(), "safetensors": st.Bytes()} {
		again, err := loadBytes(b, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		var w bytes.Buffer
		if name == "pt" {
			err = WritePT(&w, again)
		} else {
			err = WriteSafetensors(&w, again)
		}
		if err != nil || !bytes.Equal(w.Bytes(), b) {
			t.Errorf("%s: other bytes the second time (%v)", name, err)
		}
		for n := 0; n < len(b); n += 97 {
			_, e1 := loadBytes(b[:n], Limits{})
			_, e2 := loadBytes(b[:n], Limits{})
			if e1 == nil || e2 == nil || e1.Error() != e2.Error() {
				t.Errorf("%s cut at %d: %v, then %v", name, n, e1, e2)
			}
		}
	}
}

// Memory stays near the file's size: what is read is kept once, and views share it.
func TestMemoryIsBoundedByTheFile(t *testing.T) {
	var sd StateDict
	for i := range 8 {
		sd.Set(strings.Repeat("x", i+1), onnxio.NewTensor(onnxio.Float, 1<<18))
	}
	var pt, st bytes.Buffer
	if err := WritePT(&pt, &sd); err != nil {
		t.Fatal(err)
	}
	if err := WriteSafetensors(&st, &sd); err != nil {
		t.Fatal(err)
	}
	v := view{name: "a", storage: "FloatStorage", key: "0", numel: 1 << 21, sizes: []int64{1 << 10, 1 << 11},
		stride: []int64{1, 1 << 10}}
	legacy := legacyFile(legacyHead+legacyProto+legacySystem, statePickle(v), legacyKeys, 1<<21,
		make([]byte, 8<<20))
	for name, b := range map[string][]byte{"pt": pt.Bytes(), "safetensors": st.Bytes(), "legacy": legacy} {
		var err error
		n := allocated(func() { _, err = loadBytes(b, Limits{}) })
		if err != nil || n > 2*int64(len(b))+1<<20 {
			t.Errorf("%s: %d bytes for a file of %d, %v", name, n, len(b), err)
		}
	}
}

// Apply gives the model new tensors: a state dict taken from it before keeps its values.
func TestApplyLeavesOldTensors(t *testing.T) {
	m, err := builders.Build("lenet5", builders.Config{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	other, err := builders.Build("lenet5", builders.Config{Seed: 2})
	if err != nil {
		t.Fatal(err)
	}
	before, err := FromModel(m)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]byte{}
	for _, e := range before.Entries() {
		want[e.Name] = bytes.Clone(e.Tensor.Raw)
	}
	sd, err := FromModel(other)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Apply(m, sd, ApplyOptions{Strict: true}); err != nil {
		t.Fatal(err)
	}
	for _, e := range before.Entries() {
		if !bytes.Equal(e.Tensor.Raw, want[e.Name]) {
			t.Errorf("%s changed in the state dict taken before", e.Name)
		}
		if x := m.Graph.Initializer(e.Name); !bytes.Equal(x.Raw, sd.Get(e.Name).Raw) {
			t.Errorf("%s was not applied", e.Name)
		}
	}
}

// Plain tensors are written to plain storages: PyTorch makes quantized ones of the others.
func TestStorageNames(t *testing.T) {
	want := map[onnxio.DataType]string{onnxio.Int8: "CharStorage", onnxio.Uint8: "ByteStorage",
		onnxio.Int32: "IntStorage", onnxio.Float: "FloatStorage"}
	for typ, name := range want {
		if storageNames[typ] != name {
			t.Errorf("%v is written to %s, not %s", typ, storageNames[typ], name)
		}
	}
}
