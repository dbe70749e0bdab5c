package convert

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

const fixtures = "../testdata/convert/"

func typed(err error) bool {
	var f *onnxio.FormatError
	var u *onnxio.UnsupportedError
	var l *onnxio.LimitError
	return errors.As(err, &f) || errors.As(err, &u) || errors.As(err, &l)
}

// TestTorchFixtures reads what torch 2.15 ("new") and 1.13.1 ("old") wrote; make_fixtures.py has the values.
func TestTorchFixtures(t *testing.T) {
	files, _ := filepath.Glob(fixtures + "all-*.pth")
	if len(files) != 4 {
		t.Fatalf("%d fixtures, want 4", len(files))
	}
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			sd, err := Load(path)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(sd.Skipped, []string{"epoch", "best_prec1"}) || sd.Len() != 17 {
				t.Fatalf("skipped %q, %d entries", sd.Skipped, sd.Len())
			}
			values := []float64{-5, 2, -2, 5, 1, -3}
			for _, d := range []string{"float32", "float64", "float16", "bfloat16"} {
				x := sd.Get("module.d." + d)
				for i, want := range values {
					if got := floatAt(x, i); got != want {
						t.Errorf("%s[%d] = %v, want %v", d, i, got, want)
					}
				}
			}
			if x := sd.Get("module.d.int64"); !slices.Equal(onnxio.Data[int64](x),
				[]int64{-5, 2, -2, 5, 1, -3}) {
				t.Error("int64 differs")
			}
			if x := sd.Get("module.d.bool"); x.Type != onnxio.Bool ||
				!slices.Equal(x.Raw, []byte{0, 1, 0, 1, 1, 0}) {
				t.Errorf("bool = %v %v", x.Type, x.Raw)
			}
			x := sd.Get("module.strided")
			if !slices.Equal(x.Dims, []int64{3, 2}) || !slices.Equal(x.Float32s(),
				[]float32{-5, 5, 2, 1, -2, -3}) {
				t.Errorf("strided = %v %v", x.Dims, x.Float32s())
			}
			if y := sd.Get("module.tied"); &y.Raw[0] != &x.Raw[0] {
				t.Error("tied weights are two")
			}
			if x := sd.Get("module.tail"); !slices.Equal(x.Float32s(), []float32{-2, 5, 1, -3}) {
				t.Errorf("tail = %v", x.Float32s())
			}
			if x := sd.Get("module.scalar"); len(x.Dims) != 0 || x.Float32s()[0] != 3 {
				t.Error("scalar differs")
			}
			roundTrip(t, sd)
		})
	}
}

func roundTrip(t *testing.T, sd *StateDict) {
	for _, ext := range []string{".pt", ".safetensors"} {
		path := filepath.Join(t.TempDir(), "x"+ext)
		var first []byte
		for range 2 {
			if err := Save(path, sd); err != nil {
				t.Fatal(err)
			}
			b, _ := os.ReadFile(path)
			if first != nil && !bytes.Equal(first, b) {
				t.Errorf("%s: two saves differ", ext)
			}
			first = b
		}
		got, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range sd.Entries() {
			x := got.Get(e.Name)
			if x == nil || x.Type != e.Tensor.Type || !slices.Equal(x.Dims, e.Tensor.Dims) ||
				!bytes.Equal(x.Raw, e.Tensor.Raw) {
				t.Errorf("%s: %s differs", ext, e.Name)
			}
		}
	}
}

// TestTruncation cuts each kind of file at every byte.
func TestTruncation(t *testing.T) {
	sd, err := Load(fixtures + "all-zip-new.pth")
	if err != nil {
		t.Fatal(err)
	}
	var pt, st bytes.Buffer
	if err := errors.Join(WritePT(&pt, sd), WriteSafetensors(&st, sd)); err != nil {
		t.Fatal(err)
	}
	legacy, err := os.ReadFile(fixtures + "all-legacy-old.pth")
	if err != nil {
		t.Fatal(err)
	}
	module, err := os.ReadFile(objects + "module-legacy.pth")
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"zip": pt.Bytes(), "safetensors": st.Bytes(), "legacy": legacy,
		"module": module} {
		for n := range b {
			if _, err := LoadReader(bytes.NewReader(b[:n]), int64(n), Limits{}); !typed(err) {
				t.Fatalf("%s cut at %d: %v", name, n, err)
			}
		}
	}
}

// TestHostilePickles runs pickles that want more than a state dict needs.
func TestHostilePickles(t *testing.T) {
	for name, p := range map[string]string{
		"reduce no tuple":  "\x80\x02cos\nsystem\nX\x02\x00\x00\x00lsR.",
		"newobj no class":  "\x80\x02N)\x81.",
		"long name":        "\x80\x02X\x01\x02\x00\x00" + strings.Repeat("a", 513) + "U\x01a\x93.",
		"inst":             "\x80\x02(ios\nsystem\n.",
		"obj":              "\x80\x02(ccollections\nOrderedDict\no.",
		"newobj":           "\x80\x02ccollections\nOrderedDict\n)\x81.",
		"build on a name":  "\x80\x02ccollections\nOrderedDict\n}b.",
		"reduce a dict":    "\x80\x02})R.",
		"huge frame":       "\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",
		"huge long":        "\x80\x02\x8b\xff\xff\xff\x7f.",
		"huge unicode":     "\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xff.",
		"pop below a mark": "\x80\x02N(0.",
		"absent memo":      "\x80\x02h\x05.",
		"protocol 6":       "\x80\x06N.",
		"persistent id":    "\x80\x02NQ.",
		"odd setitems":     "\x80\x02}(Nu.",
	} {
		t.Run(name, func(t *testing.T) {
			vm := newPickle(bytes.NewReader([]byte(p)), 0, int64(len(p)), DefaultLimits())
			if _, err := vm.Load(); !typed(err) {
				t.Fatalf("error %v", err)
			}
		})
	}
}

// TestTensorBounds keeps views inside their storage.
func TestTensorBounds(t *testing.T) {
	const big = int64(1) << 62
	for name, c := range map[string]struct {
		offset        int64
		sizes, stride []int64
		ok            bool
	}{
		"whole":            {0, []int64{2, 3}, []int64{3, 1}, true},
		"offset past":      {1, []int64{2, 3}, []int64{3, 1}, false},
		"stride past":      {0, []int64{2, 3}, []int64{4, 1}, false},
		"negative offset":  {-1, []int64{1}, []int64{1}, false},
		"negative stride":  {5, []int64{2}, []int64{-1}, false},
		"negative size":    {0, []int64{-1}, []int64{1}, false},
		"stride overflows": {0, []int64{5, 5}, []int64{big, big}, false},
		"size overflows":   {0, []int64{big, big}, []int64{0, 0}, false},
		"rank mismatch":    {0, []int64{2}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := &pyStorage{typ: onnxio.Float, numel: 6, view: 6}
			err := (&pyTensor{s, onnxio.Float, c.offset, c.sizes, c.stride}).check()
			if (err == nil) != c.ok || (err != nil && !typed(err)) {
				t.Fatalf("error %v", err)
			}
		})
	}
}

func TestHostileSafetensors(t *testing.T) {
	const f = `"dtype":"F32","shape":[1],"data_offsets":`
	for name, c := range map[string]struct {
		head string
		data int
	}{
		"gap":           {`{"a":{` + f + `[4,8]}}`, 8},
		"overlap":       {`{"a":{` + f + `[0,4]},"b":{` + f + `[0,4]}}`, 4},
		"tail":          {`{"a":{` + f + `[0,4]}}`, 5},
		"duplicate":     {`{"a":{` + f + `[0,4]},"a":{` + f + `[4,8]}}`, 8},
		"size":          {`{"a":{` + f + `[0,8]}}`, 8},
		"not UTF-8":     {"{\"\xff\":{" + f + "[0,4]}}", 4},
		"metadata":      {`{"__metadata__":{"a":1}}`, 0},
		"negative":      {`{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}`, 4},
		"overflow":      {`{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}`, 0},
		"unknown dtype": {`{"a":{"dtype":"X","shape":[1],"data_offsets":[0,4]}}`, 4},
		"text after":    {`{} x`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := append([]byte{byte(len(c.head)), 0, 0, 0, 0, 0, 0, 0}, c.head...)
			b = append(b, make([]byte, c.data)...)
			if _, err := LoadReader(bytes.NewReader(b), int64(len(b)), Limits{}); !typed(err) {
				t.Fatalf("error %v", err)
			}
		})
	}
}

// TestRealCheckpoint reads a published ResNet-20 (legacy, CUDA storages, module. prefixes).
func TestRealCheckpoint(t *testing.T) {
	dir := os.Getenv("CNNKIT_DATA")
	if dir == "" {
		t.Skip("CNNKIT_DATA is not set: the folder with checkpoints/resnet20-12fca82f.th")
	}
	sd, err := Load(filepath.Join(dir, "checkpoints", "resnet20-12fca82f.th"))
	if err != nil {
		t.Fatal(err)
	}
	x := sd.Get("module.conv1.weight")
	if x == nil || !slices.Equal(x.Dims, []int64{16, 3, 3, 3}) {
		t.Fatalf("conv1.weight: %v, skipped %q", x, sd.Skipped)
	}
	roundTrip(t, sd)
}
