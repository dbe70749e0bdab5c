package convert

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

func seeds(f *testing.F, names ...string) {
	for _, s := range names {
		b, err := os.ReadFile(fixtures + s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
}

// survive reads hostile bytes: a typed error, the same each time, or a state dict that
// comes back from both writers.
func survive(t *testing.T, b []byte) {
	lim := Limits{MaxBytes: 64 << 20}
	sd, err := loadBytes(b, lim)
	if _, again := loadBytes(b, lim); (again == nil) != (err == nil) || err != nil &&
		err.Error() != again.Error() {
		t.Fatalf("%v, then %v", err, again)
	}
	if err != nil {
		if !typed(err) {
			t.Fatalf("untyped error %v", err)
		}
		return
	}
	var pt, st bytes.Buffer
	if err := WritePT(&pt, sd); err != nil {
		if !typed(err) {
			t.Fatalf("read but not written: %v", err)
		}
	} else {
		compare(t, sd, pt.Bytes())
	}
	if err := WriteSafetensors(&st, sd); err == nil { // it lacks some types, and a key may be __metadata__
		compare(t, sd, st.Bytes())
	}
}

// compare reads what was written.
func compare(t *testing.T, sd *StateDict, b []byte) {
	got, err := loadBytes(b, Limits{})
	if err != nil {
		t.Fatalf("written but not read: %v", err)
	}
	if got.Len() != sd.Len() {
		t.Fatalf("%d entries come back as %d", sd.Len(), got.Len())
	}
	for _, e := range sd.Entries() {
		x := got.Get(e.Name)
		if x == nil || x.Type != e.Tensor.Type || !slices.Equal(x.Dims, e.Tensor.Dims) ||
			!bytes.Equal(x.Raw, e.Tensor.Raw) {
			t.Fatalf("%q differs", e.Name)
		}
	}
}

func FuzzPT(f *testing.F) {
	seeds(f, "all-zip-new.pth", "all-zip-old.pth")
	f.Fuzz(survive)
}

func FuzzLegacy(f *testing.F) {
	seeds(f, "all-legacy-new.pth", "all-legacy-old.pth")
	f.Fuzz(survive)
}

// FuzzPickle puts the bytes where no CRC guards them: data.pkl and one storage are wrapped after mutation.
func FuzzPickle(f *testing.F) {
	f.Add(statePickle(
		view{name: "a", storage: "FloatStorage", key: "0", numel: 4, sizes: []int64{2, 2},
			stride: []int64{1, 2}},
		view{name: "b", storage: "FloatStorage", key: "0", numel: 4, offset: 1, sizes: []int64{3},
			stride: []int64{1}}))
	f.Add(statePickle(view{name: "a", storage: "UntypedStorage", key: "0", numel: 16, viewOffset: 3,
		viewCount: 9,
		sizes:     []int64{2}, stride: []int64{1}, dtype: "float16"}))
	f.Fuzz(func(t *testing.T, p []byte) { survive(t, torchZip(p, make([]byte, 16))) })
}

func FuzzSafetensors(f *testing.F) {
	sd, err := Load(fixtures + "all-zip-new.pth")
	if err != nil {
		f.Fatal(err)
	}
	var w bytes.Buffer
	if err := WriteSafetensors(&w, sd); err != nil {
		f.Fatal(err)
	}
	f.Add(w.Bytes())
	f.Fuzz(survive)
}

// FuzzObjects is FuzzPickle for what holds objects: modules, sparse and quantized tensors, protocol 4. Every
// storage is there and holds small numbers, so that the tensors are read, too.
func FuzzObjects(f *testing.F) {
	for _, name := range []string{"module", "sparse", "quantized", "protocol4", "omegaconf", "subclass"} {
		b, err := os.ReadFile(objects + name + ".pth")
		if err != nil {
			f.Fatal(err)
		}
		a, err := openZip(bytes.NewReader(b), int64(len(b)), DefaultLimits())
		if err != nil {
			f.Fatal(err)
		}
		p, err := a.read(a.entries[name+"/data.pkl"])
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		c := newCheckpoint(int64(len(p)), DefaultLimits(), "")
		c.read = func(s *pyStorage) ([]byte, error) {
			n, err := onnxio.CheckedBytes(s.typ, []int64{s.numel})
			if err != nil || n > 1<<16 {
				return nil, &onnxio.LimitError{What: "bytes of a storage", Got: n, Limit: 1 << 16}
			}
			b := make([]byte, n)
			for i := 0; i < len(b); i += 8 {
				b[i] = byte(i / 8 % 3)
			}
			return b, nil
		}
		vm := newPickle(bytes.NewReader(p), 0, int64(len(p)), c.lim)
		vm.Persistent = c.persistent
		top, err := vm.Load()
		var sd *StateDict
		if err == nil {
			sd, err = c.stateDict(top)
		}
		if err != nil {
			if !typed(err) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		if err := sd.check(); err != nil {
			t.Fatalf("read but not sound: %v", err)
		}
	})
}

// FuzzIndex reads an index; what it accepts names files beside it only.
func FuzzIndex(f *testing.F) {
	seeds(f, "objects/model.safetensors.index.json", "objects/pytorch_model.bin.index.json")
	f.Fuzz(func(t *testing.T, b []byte) {
		shards, err := parseIndex(b, DefaultLimits())
		if err != nil && !typed(err) {
			t.Fatalf("untyped error %v", err)
		}
		for _, s := range shards {
			if filepath.Base(s.file) != s.file || !filepath.IsLocal(s.file) {
				t.Fatalf("shard %q", s.file)
			}
		}
	})
}

// FuzzKeyMap parses a map and renames keys with it, the same way each time.
func FuzzKeyMap(f *testing.F) {
	for _, s := range []string{"a.* -> b.*", `{"a": "b"}`, `x\.(\d+) = y.$1`, "a,b", "a b"} {
		f.Add([]byte(s), "a.b.weight")
	}
	f.Fuzz(func(t *testing.T, text []byte, key string) {
		m, err := ParseKeyMap(text)
		if err != nil {
			if !typed(err) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		to, rule := m.Rename(key)
		if again, _ := m.Rename(key); again != to || rule == "" && to != key {
			t.Fatalf("%q becomes %q, then %q", key, to, again)
		}
	})
}
