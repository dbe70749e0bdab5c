package convert

import (
	"bytes"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/internal/pickle"
	"github.com/cnnkit/cnnkit/onnxio"
)

const objects = fixtures + "objects/" // make_objects.py writes them

// Whatever lies beside a state dict, it is read, and the other thing is named.
func TestObjectsBesideTensors(t *testing.T) {
	for _, name := range []string{"namespace", "numpy-scalar", "numpy-array", "device", "set",
		"frozenset", "path",
		"defaultdict", "counter", "deque", "datetime", "loss", "omegaconf", "slice", "bytes", "complex",
		"optimizer",
		"protocol4", "namespace-legacy", "pair", "container", "subclass"} {
		t.Run(name, func(t *testing.T) {
			sd, err := Load(objects + name + ".pth")
			if err != nil {
				t.Fatal(err)
			}
			w := sd.Get("w")
			if w == nil || !slices.Equal(w.Dims, []int64{2, 2}) ||
				!slices.Equal(w.Float32s(), []float32{1, 2, 3, 4}) {
				t.Errorf("w is %v", w)
			}
			want := []string{"beside"}
			switch name {
			case "pair":
				want = []string{"0"}
			case "container":
				want = nil
			case "subclass":
				want = nil
				if p := sd.Get("p"); p == nil || !slices.Equal(p.Float32s(), []float32{1, 2, 3, 4}) {
					t.Errorf("p is %v", p)
				}
			}
			if !slices.Equal(sd.Skipped, want) {
				t.Errorf("skipped %q", sd.Skipped)
			}
		})
	}
}

// sameAs compares with a file of what is right, type and order included where the file has the order.
func sameAs(t *testing.T, sd *StateDict, file string, tolerance float64) {
	t.Helper()
	right, err := Load(objects + file)
	if err != nil {
		t.Fatal(err)
	}
	if sd.Len() != right.Len() {
		t.Errorf("%d tensors, not %d", sd.Len(), right.Len())
	}
	for _, e := range right.Entries() {
		x := sd.Get(e.Name)
		if x == nil || x.Type != e.Tensor.Type || !slices.Equal(x.Dims, e.Tensor.Dims) {
			t.Errorf("%s is %v, not %v %v", e.Name, x, e.Tensor.Type, e.Tensor.Dims)
			continue
		}
		if tolerance == 0 && !bytes.Equal(x.Raw, e.Tensor.Raw) {
			t.Errorf("%s differs: %x, not %x", e.Name, x.Raw, e.Tensor.Raw)
		}
		for i := range int(x.Size()) {
			if d := code(x, i) - code(e.Tensor, i); math.Abs(d) > tolerance {
				t.Errorf("%s[%d] is off by %g", e.Name, i, d)
			}
		}
	}
}

// A module that was saved whole gives its state dict: shared modules under each name, passing buffers not at
// all.
func TestWholeModules(t *testing.T) {
	for _, file := range []string{"module.pth", "module-inside.pth", "module-legacy.pth"} {
		t.Run(file, func(t *testing.T) {
			sd, err := Load(objects + file)
			if err != nil {
				t.Fatal(err)
			}
			sameAs(t, sd, "right-module.safetensors", 0)
			var first []string
			for _, e := range sd.Entries()[:8] {
				first = append(first, e.Name)
			}
			want := []string{"scale", "conv.weight", "norm.weight", "norm.bias", "norm.running_mean",
				"norm.running_var",
				"norm.num_batches_tracked", "shared.weight"}
			for i := range want {
				want[i] = "module.a." + want[i]
			}
			if !slices.Equal(first, want) {
				t.Errorf("order: %q", first)
			}
		})
	}
}

// Sparse tensors become dense and quantized ones float32, with PyTorch's values to the bit, and the reader
// says so.
func TestSparseAndQuantized(t *testing.T) {
	for _, kind := range []string{"sparse", "quantized"} {
		sd, err := Load(objects + kind + ".pth")
		if err != nil {
			t.Fatal(err)
		}
		sameAs(t, sd, "right-"+kind+".safetensors", 0)
		if len(sd.Notes) != sd.Len() || !strings.Contains(sd.Notes[0], kind) {
			t.Errorf("notes: %q", sd.Notes)
		}
	}
}

// Each code of each 8-bit float has PyTorch's value, read from either format.
func TestFloat8(t *testing.T) {
	right, err := Load(objects + "right-fp8.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"fp8.pth", "fp8.safetensors"} {
		sd, err := Load(objects + file)
		if err != nil {
			t.Fatal(err)
		}
		if sd.Len() != 5 {
			t.Fatalf("%d types", sd.Len())
		}
		for _, e := range sd.Entries() {
			raw, ok := converted(onnxio.NewTensor(onnxio.Float, 256), e.Tensor)
			if !ok {
				t.Fatalf("%s: %s is not converted", file, e.Name)
			}
			got := onnxio.Tensor{Type: onnxio.Float, Dims: []int64{256}, Raw: raw}
			for i, want := range right.Get(e.Name).Float32s() {
				if g := got.Float32s()[i]; g != want && !(g != g && want != want) ||
					math.Signbit(float64(g)) != math.Signbit(float64(want)) && g == g {
					t.Errorf("%s: %s code %d is %v, not %v", file, e.Name, i, g, want)
				}
			}
		}
	}
}

// valuePickle is a dict {key: value}, the value written by f.
func valuePickle(key string, f func(p *pickler)) []byte {
	p := &pickler{}
	p.op(pickle.OpProto, 2, pickle.OpEmptyDict)
	p.str(key)
	f(p)
	p.op(pickle.OpSetItem, pickle.OpStop)
	return p.b
}

// An object where a tensor must be is an error that names it, and the command in it is not run.
func TestOpaqueWhereATensorMustBe(t *testing.T) {
	call := func(p *pickler) {
		p.global("os", "system")
		p.str("echo > executed")
		p.op(pickle.OpTuple1, pickle.OpReduce)
	}
	one := statePickle(view{name: "w", storage: "FloatStorage", key: "0", numel: 1, sizes: []int64{1},
		stride: []int64{1}})
	both := slices.Concat(one[:len(one)-1], []byte("X\x08\x00\x00\x00layer.w\x00"))
	both[len(both)-1] = '2'
	both = slices.Concat(both, []byte("cos\nsystem\nX\x02\x00\x00\x00ls\x85Rs."))
	for name, b := range map[string][]byte{
		"under a dotted key": both,
		"as a parameter": valuePickle("w", func(p *pickler) {
			p.global("torch._utils", "_rebuild_parameter")
			p.op(pickle.OpMark)
			call(p)
			p.op(pickle.OpNewFalse, pickle.OpEmptyDict, pickle.OpTuple, pickle.OpReduce)
		}),
		"as a storage's type": valuePickle("w", func(p *pickler) {
			p.op(pickle.OpMark)
			p.str("storage")
			p.global("os", "system")
			p.str("0")
			p.str("cpu")
			p.int(1)
			p.op(pickle.OpTuple, pickle.OpBinPersID)
		}),
		"at the top": []byte("\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R."),
	} {
		_, err := loadBytes(torchZip(b, make([]byte, 4)), Limits{})
		if !typed(err) || !strings.Contains(err.Error(), "os.system") || !strings.Contains(err.Error(),
			"nothing was executed") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if found, _ := filepath.Glob("executed"); len(found) > 0 {
		t.Error("executed")
	}
}

// module writes an object with the state of a Module; its only submodule is written by sub.
func module(p *pickler, sub func()) {
	p.global("their", "Net")
	p.op(pickle.OpEmptyTuple, pickle.OpNewObj, pickle.OpBinPut, 0, pickle.OpEmptyDict)
	p.str("_parameters")
	p.op(pickle.OpEmptyDict, pickle.OpSetItem)
	p.str("_modules")
	p.op(pickle.OpEmptyDict)
	p.str("x")
	sub()
	p.op(pickle.OpSetItem, pickle.OpSetItem, pickle.OpBuild)
}

// Modules that hold themselves, or one another many times, end at a limit.
func TestModuleBombs(t *testing.T) {
	cyclic := valuePickle("model", func(p *pickler) { module(p, func() { p.op(pickle.OpBinGet, 0) }) })
	if _, err := loadBytes(torchZip(cyclic), Limits{}); !limited(err) {
		t.Errorf("a module that holds itself: %v", err)
	}
	wide := "\x80\x02}X\x00\x10\x00\x00" + strings.Repeat("k", 4096) + "}("
	for i := range 1 << 12 { // 16 MiB of names from a file of 40 KiB
		wide += "U\x02" + string([]byte{byte('0' + i>>6), byte('0' + i&63)}) + "}"
	}
	var err error
	if n := allocated(func() {
		_, err = loadBytes(torchZip([]byte(wide+"us.")), Limits{})
	}); !limited(err) || n > 8<<20 {
		t.Errorf("long names: %v, %d bytes", err, n)
	}
	doubling := "\x80\x02"
	for i := range 60 { // each module holds the one before twice
		doubling += "ctheir\nNet\n)\x81}X\x08\x00\x00\x00_modules}"
		if i > 0 {
			get := "h" + string([]byte{byte(i - 1)})
			doubling += "X\x01\x00\x00\x00a" + get + "sX\x01\x00\x00\x00b" + get + "s"
		}
		doubling += "sbq" + string([]byte{byte(i)})
		if i < 59 {
			doubling += "0"
		}
	}
	if _, err := loadBytes(torchZip([]byte(doubling+".")), Limits{}); !limited(err) {
		t.Errorf("doubling modules: %v", err)
	}
}

// A sparse tensor whose shape is far beyond what it stores is refused before it is allocated.
func TestSparseBomb(t *testing.T) {
	sd := func(rows int64) []byte {
		p := &pickler{}
		p.op(pickle.OpProto, 2, pickle.OpEmptyDict)
		p.str("w")
		p.global("torch._utils", "_rebuild_sparse_tensor")
		p.global("torch.serialization", "_get_layout")
		p.str("torch.sparse_coo")
		p.op(pickle.OpTuple1, pickle.OpReduce)
		p.op(pickle.OpMark)
		for _, v := range []view{
			{storage: "LongStorage", key: "0", numel: 1, sizes: []int64{1, 1}, stride: []int64{1, 1}},
			{storage: "FloatStorage", key: "1", numel: 1, sizes: []int64{1}, stride: []int64{1}},
		} {
			v.name = "x"
			one := statePickle(v)
			p.b = append(p.b, one[4+1+4+1:len(one)-2]...) // what makes the tensor alone
		}
		p.ints([]int64{rows})
		p.op(pickle.OpTuple, pickle.OpTuple2, pickle.OpReduce, pickle.OpSetItem, pickle.OpStop)
		return p.b
	}
	index, value := make([]byte, 8), make([]byte, 4)
	index[0] = 2
	if x, err := loadBytes(torchZip(sd(4), index, value), Limits{}); err != nil || x.Get("w").Size() != 4 {
		t.Fatalf("a small one: %v", err)
	}
	if _, err := loadBytes(torchZip(sd(2), index, value), Limits{}); !typed(err) || limited(err) {
		t.Errorf("an index beyond the shape: %v", err)
	}
	var err error
	if n := allocated(func() {
		_, err = loadBytes(torchZip(sd(1<<40), index, value), Limits{})
	}); !limited(err) || n > 1<<20 {
		t.Errorf("a large one: %v, %d bytes", err, n)
	}
}
