//go:build cgo && (linux || darwin || windows)

package ort

import (
	"context"
	"fmt"
	"math"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cnnkit/cnnkit/onnxio"
)

func needORT(t testing.TB) {
	t.Helper()
	if err := Available(); err != nil {
		t.Skipf("without ONNX Runtime: %v", err)
	}
}

// graph is a model of the given nodes.
func graph(in, out []*onnxio.ValueInfo, nodes ...*onnxio.Node) *onnxio.Model {
	return &onnxio.Model{IRVersion: 8, Opsets: []onnxio.Opset{{Version: 17}},
		Graph: &onnxio.Graph{Name: "g", Nodes: nodes, Inputs: in, Outputs: out}}
}

func node(op string, in []string, out string, attrs ...*onnxio.Attribute) *onnxio.Node {
	return &onnxio.Node{OpType: op, Name: "make " + out, Inputs: in, Outputs: []string{out}, Attrs: attrs}
}

func opened(t testing.TB, m *onnxio.Model) *Backend {
	t.Helper()
	needORT(t)
	b, err := Open(m, Options{CUDA: -1, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func ran(t testing.TB, b *Backend, in map[string]*onnxio.Tensor) map[string]*onnxio.Tensor {
	t.Helper()
	out, err := b.Run(context.Background(), in)
	if err != nil {
		t.Fatal(err)
	}
	for name, y := range out {
		if err := y.Check(); err != nil || y.Name != name {
			t.Fatalf("output %q is called %q; %v", name, y.Name, err)
		}
	}
	return out
}

func same(a, b *onnxio.Tensor) bool {
	return a.Type == b.Type && slices.Equal(a.Dims, b.Dims) && slices.Equal(a.Raw, b.Raw)
}

// handed are the element types that go in and out; every one of ONNX that is not packed,
// complex or made of strings.
var handed = []onnxio.DataType{onnxio.Float, onnxio.Double, onnxio.Bool, onnxio.Float16, onnxio.BFloat16,
	onnxio.Int8, onnxio.Int16,
	onnxio.Int32, onnxio.Int64, onnxio.Uint8, onnxio.Uint16, onnxio.Uint32, onnxio.Uint64}

// pattern fills a tensor with bytes that differ from one to the next and are no NaN in any type.
func pattern(elem onnxio.DataType, dims []int64) *onnxio.Tensor {
	x := onnxio.NewTensor(elem, dims...)
	for i := range x.Raw {
		if x.Raw[i] = byte(37*i + 11); elem == onnxio.Bool {
			x.Raw[i] = byte(i+1) % 2
		}
		if elem.Bits() > 8 && (i+1)%(elem.Bits()/8) == 0 {
			x.Raw[i] &= 0x3f // the exponent is not all ones
		}
	}
	return x
}

// Every type goes in and comes out bit for bit, whether ONNX Runtime writes the output where it is wanted
// (its shape is declared, or follows from the input) or allocates it (nothing is known of the shape).
func TestElementTypes(t *testing.T) {
	shapes := []struct {
		declared []onnxio.Dim
		dims     []int64
	}{
		{nil, []int64{}},
		{onnxio.Shape(1), []int64{1}},
		{onnxio.Shape(2, 3), []int64{2, 3}},
		{onnxio.Shape("N", 3), []int64{5, 3}},
		{onnxio.Shape("N", 3), []int64{0, 3}},
		{onnxio.Shape(0), []int64{0}},
		{onnxio.Shape("N", -1), []int64{2, 4}},
		{onnxio.Shape("N", -1), []int64{0, 4}},
	}
	for _, elem := range handed {
		for _, s := range shapes {
			t.Run(fmt.Sprint(elem, s.declared, s.dims), func(t *testing.T) {
				m := graph([]*onnxio.ValueInfo{onnxio.TensorInfo("x", elem, s.declared...)},
					[]*onnxio.ValueInfo{{Name: "y", Type: &onnxio.Type{Elem: elem}}},
					node("Identity", []string{"x"}, "y"))
				x := pattern(elem, s.dims)
				y := ran(t, opened(t, m), map[string]*onnxio.Tensor{"x": x})["y"]
				if !same(x, y) {
					t.Errorf("%v %v %v comes back as %v %v %v", x.Type, x.Dims, x.Raw, y.Type, y.Dims, y.Raw)
				}
				if len(x.Raw) > 0 && &x.Raw[0] == &y.Raw[0] {
					t.Error("the output is the input's memory")
				}
			})
		}
	}
}

// No rank is declared and none follows, since the target of Reshape is an input: even scalars must come back.
func TestOutputsOfUnknownRank(t *testing.T) {
	for _, elem := range handed {
		m := graph([]*onnxio.ValueInfo{onnxio.TensorInfo("x", elem, onnxio.Shape("N")...),
			onnxio.TensorInfo("to", onnxio.Int64, onnxio.Shape("R")...)},
			[]*onnxio.ValueInfo{{Name: "y", Type: &onnxio.Type{Elem: elem}}},
			node("Reshape", []string{"x", "to"}, "y"))
		b := opened(t, m)
		for _, to := range [][]int64{{}, {1}, {2, 3}, {3, 1, 2}} {
			n := int64(1)
			for _, d := range to {
				n *= d
			}
			x := pattern(elem, []int64{n})
			shape := onnxio.NewTensor(onnxio.Int64, int64(len(to)))
			copy(onnxio.Data[int64](shape), to)
			y := ran(t, b, map[string]*onnxio.Tensor{"x": x, "to": shape})["y"]
			x.Dims = to
			if !same(x, y) {
				t.Errorf("%v %v comes back as %v %v %v", x.Type, x.Dims, y.Type, y.Dims, y.Raw)
			}
		}
	}
}

// Every float16 and bfloat16 that is a number goes through Cast to float32 and back, when
// nothing is known of the shape.
func TestEveryHalf(t *testing.T) {
	for _, elem := range []onnxio.DataType{onnxio.Float16, onnxio.BFloat16} {
		m := graph([]*onnxio.ValueInfo{onnxio.TensorInfo("x", elem, onnxio.Shape(-1)...)},
			[]*onnxio.ValueInfo{{Name: "y", Type: &onnxio.Type{Elem: elem}}},
			node("Identity", []string{"x"}, "y"))
		b := opened(t, m)
		if !b.outputs[0].widened {
			t.Fatalf("%v: the test has lost its subject: %+v", elem, b.outputs[0])
		}
		x := onnxio.NewTensor(elem, 1<<16)
		for i := range onnxio.Data[uint16](x) {
			onnxio.Data[uint16](x)[i] = uint16(i)
		}
		y := ran(t, b, map[string]*onnxio.Tensor{"x": x})["y"]
		mantissa := uint16(0x3ff)
		if elem == onnxio.BFloat16 {
			mantissa = 0x7f
		}
		for i, got := range onnxio.Data[uint16](y) {
			want := uint16(i)
			nan := want&0x7fff&^mantissa == 0x7fff&^mantissa && want&mantissa != 0
			if got != want && !(nan && got&0x7fff&^mantissa == 0x7fff&^mantissa && got&mantissa != 0) {
				t.Fatalf("%v %04x comes back as %04x", elem, want, got)
			}
		}
	}
}

// Casts between the types, several outputs of several kinds at once, and a value that is
// both an output and read on.
func TestCasts(t *testing.T) {
	x := onnxio.Floats([]float32{0, 1, 2, 100}, 4)
	out := []*onnxio.ValueInfo{}
	nodes := []*onnxio.Node{}
	for _, elem := range handed {
		name := elem.String()
		out = append(out, &onnxio.ValueInfo{Name: name, Type: &onnxio.Type{Elem: elem}})
		nodes = append(nodes, node("Cast", []string{"x"}, name, onnxio.IntAttr("to", int64(elem))))
	}
	out = append(out, &onnxio.ValueInfo{Name: "sum", Type: &onnxio.Type{Elem: onnxio.Float16}},
		&onnxio.ValueInfo{Name: "kind", Type: &onnxio.Type{Elem: onnxio.Bool}})
	nodes = append(nodes, node("ReduceSum", []string{"float16"}, "sum", onnxio.IntAttr("keepdims", 0)),
		node("ReduceMax", []string{"x"}, "max", onnxio.IntAttr("keepdims", 0)),
		node("Cast", []string{"max"}, "kind", onnxio.IntAttr("to", int64(onnxio.Bool))))
	b := opened(t, graph([]*onnxio.ValueInfo{onnxio.TensorInfo("x", onnxio.Float, onnxio.Shape("N")...)},
		out, nodes...))
	got := ran(t, b, map[string]*onnxio.Tensor{"x": x})
	want := []*onnxio.Tensor{
		x, onnxio.FromSlice(onnxio.Double, []float64{0, 1, 2, 100}), onnxio.FromSlice(onnxio.Bool,
			[]bool{false, true, true, true}),
		onnxio.FromSlice(onnxio.Float16, []uint16{0, 0x3c00, 0x4000, 0x5640}),
		onnxio.FromSlice(onnxio.BFloat16, []uint16{0, 0x3f80, 0x4000, 0x42c8}),
		onnxio.FromSlice(onnxio.Int8, []int8{0, 1, 2, 100}), onnxio.FromSlice(onnxio.Int16,
			[]int16{0, 1, 2, 100}),
		onnxio.FromSlice(onnxio.Int32, []int32{0, 1, 2, 100}), onnxio.FromSlice(onnxio.Int64,
			[]int64{0, 1, 2, 100}),
		onnxio.FromSlice(onnxio.Uint8, []uint8{0, 1, 2, 100}), onnxio.FromSlice(onnxio.Uint16,
			[]uint16{0, 1, 2, 100}),
		onnxio.FromSlice(onnxio.Uint32, []uint32{0, 1, 2, 100}), onnxio.FromSlice(onnxio.Uint64,
			[]uint64{0, 1, 2, 100}),
	}
	for i, elem := range handed {
		if y := got[elem.String()]; !same(y, want[i]) {
			t.Errorf("Cast to %v gives %v %v %v", elem, y.Type, y.Dims, y.Raw)
		}
	}
	if len(got) != len(handed)+2 || !same(got["sum"], onnxio.Scalar(onnxio.Float16, uint16(0x5670))) ||
		!same(got["kind"], onnxio.Scalar(onnxio.Bool, true)) {
		t.Errorf("%d outputs; %+v %+v", len(got), got["sum"], got["kind"])
	}
}

// What a model declares may be wrong where this module cannot tell, behind an operator of another domain:
// ONNX Runtime's word counts.
func TestShapePredictedWrongly(t *testing.T) {
	x := onnxio.TensorInfo("x", onnxio.Float, onnxio.Shape("N", 2)...)
	tests := []struct {
		name string
		m    *onnxio.Model
	}{
		{"ONNX Runtime knows before the call", graph([]*onnxio.ValueInfo{x},
			[]*onnxio.ValueInfo{onnxio.TensorInfo("y", onnxio.Float, onnxio.Shape("N", 2)...)},
			node("Relu", []string{"x"}, "y"))},
		{"ONNX Runtime learns it while it runs",
			graph([]*onnxio.ValueInfo{x, onnxio.TensorInfo("to", onnxio.Int64, onnxio.Shape(2)...)},
				[]*onnxio.ValueInfo{{Name: "y", Type: &onnxio.Type{Elem: onnxio.Float}}},
				node("Relu", []string{"x"}, "r"), node("Reshape", []string{"r", "to"}, "y"))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := opened(t, tt.m)
			b.outputs[0].known, b.outputs[0].dims = true, []extent{{n: 2, input: -1}, {n: 3, input: -1}}
			in := map[string]*onnxio.Tensor{"x": onnxio.Floats([]float32{1, -1, 2, -2}, 2, 2),
				"to": onnxio.Int64s([]int64{2, 2})}
			for range 2 {
				if y := ran(t, b, in)["y"]; !same(y, onnxio.Floats([]float32{1, 0, 2, 0}, 2, 2)) {
					t.Errorf("%v %v", y.Dims, y.Float32s())
				}
			}
			if !b.unsure.Load() {
				t.Error("the test has lost its subject")
			}
		})
	}
}

func TestHalf(t *testing.T) {
	for bits, v := range map[uint16]float32{0: 0, 0x8000: float32(math.Copysign(0, -1)), 1: 0x1p-24,
		0x3ff: 0x3ffp-24, 0x400: 0x1p-14,
		0xbc00: -1, 0x7bff: 65504, 0x7c00: float32(math.Inf(1)), 0xfc00: float32(math.Inf(-1))} {
		if got := half(v); got != bits {
			t.Errorf("%g is %04x, not %04x", v, got, bits)
		}
	}
}

// ONNX Runtime ends the process when it runs a Split that omits an output, so it is given one that does not.
func TestSplitWithGap(t *testing.T) {
	in := []*onnxio.ValueInfo{onnxio.TensorInfo("x", onnxio.Float, onnxio.Shape(4, 1)...)}
	out := []*onnxio.ValueInfo{onnxio.TensorInfo("y", onnxio.Float, onnxio.Shape(2, 1)...)}
	split := node("Split", []string{"x"}, "", onnxio.IntAttr("axis", 0))
	split.Outputs = []string{"", "y"}
	m := graph(in, out, split)
	y := ran(t, opened(t, m), map[string]*onnxio.Tensor{"x": onnxio.Floats([]float32{1, 2, 3, 4}, 4, 1)})["y"]
	if !slices.Equal(y.Float32s(), []float32{3, 4}) {
		t.Errorf("%v", y.Float32s())
	}
	if split.Outputs[0] != "" {
		t.Error("the model is changed")
	}
}

// Scalars go through a binding as well, though the bindings copy them and the session has vectors for some.
func TestBoundScalars(t *testing.T) {
	for _, elem := range []onnxio.DataType{onnxio.Float, onnxio.Float16, onnxio.Int64} {
		info := func(name string) []*onnxio.ValueInfo {
			return []*onnxio.ValueInfo{onnxio.TensorInfo(name, elem, onnxio.Shape()...)}
		}
		b := opened(t, graph(info("x"), info("y"), node("Identity", []string{"x"}, "y")))
		x, y := pattern(elem, nil), onnxio.NewTensor(elem)
		k, err := b.Bind(map[string]*onnxio.Tensor{"x": x}, map[string]*onnxio.Tensor{"y": y})
		if err != nil {
			t.Fatalf("%v: %v", elem, err)
		}
		for range 2 {
			x.Raw[0]++
			if err := k.Run([]string{"x"}); err != nil {
				t.Fatalf("%v: %v", elem, err)
			}
			if !same(x, y) {
				t.Errorf("%v: %v came out of %v", elem, y.Raw, x.Raw)
			}
		}
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Strings go in and out, empty ones and none at all; what C would cut off is refused.
func TestStrings(t *testing.T) {
	info := func(name string) []*onnxio.ValueInfo {
		return []*onnxio.ValueInfo{onnxio.TensorInfo(name, onnxio.String, onnxio.Shape("N", 2)...)}
	}
	b := opened(t, graph(info("x"), info("y"), node("Identity", []string{"x"}, "y")))
	for _, texts := range [][]string{{"a", "b"}, {"", "tree frog"}, {"", ""}, {"ä", "", "last", "\xff"}} {
		x := onnxio.NewTensor(onnxio.String, int64(len(texts)/2), 2)
		for i, s := range texts {
			x.Strings[i] = []byte(s)
		}
		y := ran(t, b, map[string]*onnxio.Tensor{"x": x})["y"]
		if !slices.Equal(y.Dims, x.Dims) || !slices.EqualFunc(x.Strings, y.Strings, slices.Equal) {
			t.Errorf("%q came out of %q", y.Strings, x.Strings)
		}
	}
	x := onnxio.NewTensor(onnxio.String, 1, 2)
	x.Strings = [][]byte{[]byte("a\x00b"), nil}
	if _, err := b.Run(context.Background(), map[string]*onnxio.Tensor{"x": x}); err == nil ||
		!strings.Contains(err.Error(), "zero") {
		t.Errorf("a string with a byte of zero: %v", err)
	}
}

// Sessions that nobody closes give their memory back: of forty with 16 MB of weights each, less than half
// stays.
func TestDroppedSession(t *testing.T) {
	needORT(t)
	resident := func() int {
		var pages, in int
		f, err := os.ReadFile("/proc/self/statm")
		if err == nil {
			_, err = fmt.Sscan(string(f), &pages, &in)
		}
		if err != nil {
			t.Skipf("the system does not say how much memory is resident: %v", err)
		}
		return in * os.Getpagesize()
	}
	const size = 4 << 20
	info := func(name string) []*onnxio.ValueInfo {
		return []*onnxio.ValueInfo{onnxio.TensorInfo(name, onnxio.Float, onnxio.Shape(size)...)}
	}
	m := graph(info("x"), info("y"), node("Add", []string{"x", "w"}, "y"))
	w := onnxio.NewTensor(onnxio.Float, size)
	w.Name = "w"
	m.Graph.Initializers = []*onnxio.Tensor{w}
	before := 0
	for i := range 42 {
		if _, err := Open(m, Options{CUDA: -1, Threads: 1}); err != nil {
			t.Fatal(err)
		}
		debug.FreeOSMemory()              // with a collection of garbage
		time.Sleep(20 * time.Millisecond) // cleanups run in a goroutine of their own
		if i == 1 {
			before = resident()
		}
	}
	if more := resident() - before; more > 40*size*4/2 {
		t.Errorf("%d MB stay", more>>20)
	}
}

// Sequences and maps come back by RunValues, and Run says so.
func TestValues(t *testing.T) {
	x := onnxio.TensorInfo("x", onnxio.Float, onnxio.Shape("N", 3)...)
	float := &onnxio.Type{Elem: onnxio.Float}
	parts := &onnxio.ValueInfo{Name: "parts", Type: &onnxio.Type{Kind: onnxio.SequenceType, Of: float}}
	scores := &onnxio.ValueInfo{Name: "scores", Type: &onnxio.Type{Kind: onnxio.SequenceType,
		Of: &onnxio.Type{Kind: onnxio.MapType, Key: onnxio.String, Of: float}}}
	zip := node("ZipMap", []string{"x"}, "scores", &onnxio.Attribute{Name: "classlabels_strings", Type: onnxio.AttrStrings,
		Strings: [][]byte{[]byte("cat"), []byte("dog"), []byte("owl")}})
	zip.Domain = "ai.onnx.ml"
	m := graph([]*onnxio.ValueInfo{x}, []*onnxio.ValueInfo{parts, scores},
		node("SplitToSequence", []string{"x"}, "parts", onnxio.IntAttr("axis", 1), onnxio.IntAttr("keepdims", 0)), zip)
	m.Opsets = append(m.Opsets, onnxio.Opset{Domain: "ai.onnx.ml", Version: 1})
	b := opened(t, m)
	in := map[string]*onnxio.Tensor{"x": onnxio.Floats([]float32{1, 2, 3, 4, 5, 6}, 2, 3)}
	if _, err := b.Run(t.Context(), in); err == nil || !strings.Contains(err.Error(), "RunValues") {
		t.Errorf("Run says %v", err)
	}
	out, err := b.RunValues(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	list := out["parts"].(*onnxio.Sequence).Items
	for i, item := range list {
		if got := item.(*onnxio.Tensor); !slices.Equal(got.Float32s(), []float32{float32(i + 1), float32(i + 4)}) {
			t.Errorf("part %d is %v %v", i, got.Dims, got.Float32s())
		}
	}
	maps := out["scores"].(*onnxio.Sequence).Items
	if len(list) != 3 || len(maps) != 2 {
		t.Fatalf("%d parts and %d maps", len(list), len(maps))
	}
	for i, item := range maps {
		one := item.(*onnxio.Map)
		got := map[string]float32{}
		for k, key := range one.Keys.Strings {
			got[string(key)] = one.Values.(*onnxio.Tensor).Float32s()[k]
		}
		from := float32(3 * i)
		if len(got) != 3 || got["cat"] != from+1 || got["dog"] != from+2 || got["owl"] != from+3 {
			t.Errorf("image %d is %v", i, got)
		}
	}
}
