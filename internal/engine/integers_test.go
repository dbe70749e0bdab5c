package engine

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// quantizedCases are networks of ONNX Runtime's quantizer with its answers: testdata/quantized/qdq.py.
type quantizedCases struct {
	X                []float32
	Plain, Optimized map[string][]float32
}

func loadQuantized(t *testing.T) quantizedCases {
	t.Helper()
	b, err := os.ReadFile("../../testdata/quantized/qdq.json")
	if err != nil {
		t.Fatal(err)
	}
	var c quantizedCases
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// stepOf is the distance between neighboring outputs: the scale of the last DequantizeLinear.
func stepOf(t *testing.T, m *onnxio.Model) float64 {
	t.Helper()
	for _, n := range m.Graph.Nodes {
		if n.OpType == "DequantizeLinear" && n.Outputs[0] == m.Graph.Outputs[0].Name {
			for _, init := range m.Graph.Initializers {
				if init.Name == n.Inputs[1] {
					return float64(init.Float32s()[0])
				}
			}
		}
	}
	t.Fatal("the output is not dequantized")
	return 0
}

// TestQuantizedPlans compares the integer path with the reference kernels and with ONNX Runtime. What is
// QLinearConv and its kind in the file is the same to the bit. Between DequantizeLinear and QuantizeLinear
// the reference sums in float32: a sum next to a tie may round to the other side, and is off by a step then,
// which the layers behind it pass on.
func TestQuantizedPlans(t *testing.T) {
	cases := loadQuantized(t)
	for name, want := range cases.Plain {
		t.Run(name, func(t *testing.T) {
			m, err := onnxio.Load("../../testdata/quantized/" + name + ".onnx")
			if err != nil {
				t.Fatal(err)
			}
			in := map[string]*onnxio.Tensor{"x": onnxio.Floats(cases.X, 2, 3, 19, 21)}
			run := func(opt Options) ([]float32, []StepInfo) {
				p, err := Compile(m, opt)
				if err != nil {
					t.Fatal(err)
				}
				var y []float32
				for range 2 { // the second run finds the arena used
					out, err := p.Run(t.Context(), in)
					if err != nil {
						t.Fatal(err)
					}
					y = out["y"].Float32s()
				}
				return y, p.Steps()
			}
			fast, steps := run(Options{})
			reference, _ := run(Options{Reference: true})
			step := stepOf(t, m)
			allowed := 1.0
			if name == "linear-uint8-weights" {
				allowed = 0
			}
			for _, other := range []struct {
				name    string
				y       []float32
				allowed float64
			}{{"the reference", reference, allowed}, {"ONNX Runtime", want, 1},
				{"ONNX Runtime's optimizer", cases.Optimized[name], 1}} {
				for i, y := range other.y {
					if off := math.Abs(float64(fast[i]-y)) / step; off > other.allowed+1e-3 {
						t.Errorf("[%d] is %v, that of %s %v: %.2f steps", i, fast[i], other.name, y, off)
					}
				}
			}
			if !Int8Runs() {
				return
			}
			for _, s := range steps {
				if s.Kernel == "reference" || s.Type == "float32" && s.Kernel != "dequantize" &&
					s.Kernel != "from lines" {
					t.Errorf("%s %s runs as %s in %s", s.Op, s.Name, s.Kernel, s.Type)
				}
			}
			if !slices.ContainsFunc(steps, func(s StepInfo) bool {
				return s.Kernel == "conv "+Int8Level()+" int8"
			}) {
				t.Error("no convolution of bytes")
			}
		})
	}
}

// levelsNet draws a network of QLinearConv, QLinearAdd, pools and the like on bytes.
type levelsNet struct {
	*net
	typ     onnxio.DataType
	c, h, w int64
	stay    map[string]bool // Pads that no convolution takes in
}

func (b *levelsNet) byteInit(name string, t onnxio.DataType, dims ...int64) string {
	x := onnxio.NewTensor(t, dims...)
	for i := range x.Raw {
		x.Raw[i] = uint8(b.r.UintN(256))
	}
	return b.init(name, x)
}

// scaled are the names of a scale and a zero point, of n numbers or of one where n is 0.
func (b *levelsNet) scaled(around float64, t onnxio.DataType, n int64) []string {
	b.n++
	dims := []int64{n}
	if n == 0 {
		dims = nil
	}
	s := onnxio.NewTensor(onnxio.Float, dims...)
	for i := range s.Float32s() {
		s.Float32s()[i] = float32(around * (0.5 + b.r.Float64()))
	}
	return []string{b.init(fmt.Sprintf("s%d", b.n), s), b.byteInit(fmt.Sprintf("z%d", b.n), t, dims...)}
}

func (b *levelsNet) op(domain, opType string, in []string, attrs ...*onnxio.Attribute) {
	b.node(opType, in, attrs...)
	b.m.Graph.Nodes[len(b.m.Graph.Nodes)-1].Domain = domain
}

// conv adds a QLinearConv with what may differ: groups, weights of either type, a bias,
// padding, strides, dilations.
func (b *levelsNet) conv(x []string) []string {
	k, s, d := 1+b.r.Int64N(4), 1+b.r.Int64N(2), 1+b.r.Int64N(2)
	if (k-1)*d+1 > min(b.h, b.w) {
		k, d = 1, 1
	}
	groups, out := int64(1), 1+b.r.Int64N(80)
	switch b.r.IntN(4) {
	case 0:
		groups, out = b.c, b.c
	case 1:
		if b.c%2 == 0 {
			groups, out = 2, 2*(1+out/2)
		}
	}
	wt := []onnxio.DataType{onnxio.Uint8, onnxio.Int8}[b.r.IntN(2)]
	b.n++
	w := b.byteInit(fmt.Sprintf("w%d", b.n), wt, out, b.c/groups, k, k)
	ws := b.scaled(0.02, wt, []int64{0, out}[b.r.IntN(2)])
	if b.r.IntN(2) == 0 {
		t := b.m.Graph.Initializers[len(b.m.Graph.Initializers)-1]
		clear(t.Raw)
	}
	y := b.scaled(0.5, b.typ, 0)
	in := append(append(append(slices.Clone(x), w), ws...), y...)
	if b.r.IntN(2) == 0 {
		bias := onnxio.NewTensor(onnxio.Int32, out)
		for i := range onnxio.Data[int32](bias) {
			onnxio.Data[int32](bias)[i] = int32(b.r.IntN(20000) - 10000)
		}
		in = append(in, b.init(fmt.Sprintf("b%d", b.n), bias))
	}
	p := [4]int64{}
	for i := range p {
		p[i] = b.r.Int64N((k-1)*d + 1)
	}
	attrs := []*onnxio.Attribute{onnxio.IntsAttr("strides", s, s), onnxio.IntsAttr("dilations", d, d),
		onnxio.IntAttr("group", groups)}
	if b.r.IntN(4) == 0 && d == 1 {
		attrs = append(attrs, onnxio.StringAttr("auto_pad", "SAME_LOWER"))
		b.stay[x[0]] = true
		b.h, b.w = (b.h+s-1)/s, (b.w+s-1)/s
	} else {
		attrs = append(attrs, onnxio.IntsAttr("pads", p[:]...))
		b.h, b.w = (b.h+p[0]+p[2]-(k-1)*d-1)/s+1, (b.w+p[1]+p[3]-(k-1)*d-1)/s+1
	}
	b.op("", "QLinearConv", in, attrs...)
	b.c = out
	return append([]string{b.last}, y...)
}

// pad adds a Pad of a map, most often of its zero point.
func (b *levelsNet) pad(x []string) []string {
	p := onnxio.NewTensor(onnxio.Int64, 8)
	for _, i := range []int{2, 3, 6, 7} {
		onnxio.Data[int64](p)[i] = b.r.Int64N(3)
	}
	b.h += onnxio.Data[int64](p)[2] + onnxio.Data[int64](p)[6]
	b.w += onnxio.Data[int64](p)[3] + onnxio.Data[int64](p)[7]
	b.n++
	with, other := x[2], b.r.IntN(4) == 0
	if other {
		with = b.byteInit(fmt.Sprintf("fill%d", b.n), b.typ)
	}
	b.op("", "Pad", []string{x[0], b.init(fmt.Sprintf("pads%d", b.n), p), with})
	b.stay[b.last] = other
	return append([]string{b.last}, x[1:]...)
}

// more adds an operator behind a map: of those that keep its quantization or give another.
func (b *levelsNet) more(x []string) []string {
	y := b.scaled(0.5, b.typ, 0)
	switch b.r.IntN(8) {
	case 0:
		b.op("", "MaxPool", x[:1], onnxio.IntsAttr("kernel_shape", 2, 2), onnxio.IntsAttr("pads", 1, 1, 0, 0))
		return append([]string{b.last}, x[1:]...)
	case 1:
		b.op(microsoft, "QLinearAveragePool", append(slices.Clone(x), y...),
			onnxio.IntsAttr("kernel_shape", 3, 3),
			onnxio.IntsAttr("pads", 1, 1, 1, 1), onnxio.IntAttr("count_include_pad", b.r.Int64N(2)))
	case 2:
		b.op(microsoft, "QLinearLeakyRelu", append(slices.Clone(x), y...), onnxio.FloatAttr("alpha", 0.3))
	case 3:
		b.op(microsoft, "QLinearSigmoid", append(slices.Clone(x), y...))
	case 4:
		b.op(microsoft, "QLinearConcat", append(append(slices.Clone(y), x...), x...),
			onnxio.IntAttr("axis", 1))
		b.c *= 2
	case 5:
		b.op(microsoft, "QLinearMul", append(append(slices.Clone(x), x...), y...))
	case 6:
		low, high := b.byteInit(fmt.Sprintf("low%d", b.n), b.typ), b.byteInit(fmt.Sprintf("high%d", b.n),
			b.typ)
		inits := b.m.Graph.Initializers
		inits[len(inits)-2].Raw[0], inits[len(inits)-1].Raw[0] = 20, 100
		b.op("", "Clip", []string{x[0], low, high})
		return append([]string{b.last}, x[1:]...)
	default:
		b.op(microsoft, "QLinearAdd", append(append(slices.Clone(x), x...), y...))
	}
	return append([]string{b.last}, y...)
}

// TestPadsOfLevels: a Pad between DequantizeLinear and QuantizeLinear of the same scale becomes a part of the
// convolution, as exporters of TensorFlow's SAME write it; of another scale, or of a number that is not 0, it
// stays.
func TestPadsOfLevels(t *testing.T) {
	for name, c := range map[string]struct {
		scale, fill float32
		pads        int // that are left
	}{"same": {0.02, 0, 0}, "another scale": {0.03, 0, 1}, "another number": {0.02, 0.1, 1}} {
		t.Run(name, func(t *testing.T) {
			b := &levelsNet{net: newNet(5, 1, 20, 9, 9), typ: onnxio.Uint8}
			number := func(name string, v float32) string {
				s := onnxio.NewTensor(onnxio.Float)
				s.Float32s()[0] = v
				return b.init(name, s)
			}
			levels := func(name string, scale float32) []string {
				return []string{number("s"+name, scale), b.byteInit("z"+name, onnxio.Uint8)}
			}
			q := levels("x", 0.02)
			padded := append([]string{number("sp", c.scale)}, q[1])
			quantized := func(x string, q []string) string {
				return b.node("DequantizeLinear", append([]string{b.node("QuantizeLinear",
					append([]string{x}, q...))}, q...))
			}
			p := onnxio.NewTensor(onnxio.Int64, 8)
			copy(onnxio.Data[int64](p), []int64{0, 0, 0, 1, 0, 0, 1, 1})
			b.node("Pad", []string{quantized("input", q), b.init("pads", p), number("fill", c.fill)})
			x := quantized(b.last, padded)
			w := b.node("DequantizeLinear", []string{b.byteInit("w", onnxio.Int8, 33, 20, 3, 3),
				number("ws", 0.01)})
			quantized(b.node("Conv", []string{x, w}, onnxio.IntsAttr("pads", 1, 0, 0, 0)), levels("y", 0.5))
			given := b.random(1, 1, 20, 9, 9)
			got, steps := b.run(t, Options{}, given)
			want, _ := b.run(t, Options{Reference: true}, given)
			pads := 0
			for _, s := range steps {
				if s.Op == "Pad" {
					pads++
				}
			}
			if Int8Runs() && pads != c.pads {
				t.Errorf("%d pads are left, want %d", pads, c.pads)
			}
			for i, v := range got.Float32s() { // a neighbor where sums in float32 round to the other side
				if w := want.Float32s()[i]; math.Abs(float64(v-w)) > 0.5 {
					t.Fatalf("[%d] is %v, want %v", i, v, w)
				}
			}
		})
	}
}

// TestLevelsEqualReference draws networks of operators on bytes: the fast plan gives the bytes
// of the reference kernels.
func TestLevelsEqualReference(t *testing.T) {
	for seed := range uint64(60) {
		b := &levelsNet{net: newNet(seed, 2, 1+int64(seed%7)*9, 5+int64(seed%5), 6), typ: onnxio.Uint8,
			stay: map[string]bool{}}
		d := b.m.Graph.Inputs[0].Type.Shape
		b.c, b.h, b.w = d[1].Value, d[2].Value, d[3].Value
		if seed%3 == 0 {
			b.typ = onnxio.Int8
		}
		dims := []int64{2, b.c, b.h, b.w}
		b.m.Opsets = append(b.m.Opsets, onnxio.Opset{Domain: microsoft, Version: 1})
		q := b.scaled(0.02, b.typ, 0)
		b.node("QuantizeLinear", append([]string{"input"}, q...))
		x := append([]string{b.last}, q...)
		for range 5 {
			if b.r.IntN(4) == 0 {
				x = b.pad(x)
			}
			if x = b.conv(x); b.r.IntN(3) > 0 {
				x = b.more(x)
			}
			if b.r.IntN(2) == 0 && min(b.h, b.w) > 0 {
				x = b.more(x)
			}
		}
		b.node("DequantizeLinear", x)
		m := b.output()
		in := map[string]*onnxio.Tensor{"input": b.random(1, dims...)}
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			var got [2]*onnxio.Tensor
			for i, opt := range []Options{{}, {Reference: true}} {
				p, err := Compile(m, opt)
				if err != nil {
					t.Fatal(err)
				}
				for range 2 {
					out, err := p.Run(t.Context(), in)
					if err != nil {
						t.Fatal(err)
					}
					got[i] = out[b.last]
				}
				for _, s := range p.Steps() {
					if i == 0 && s.Kernel == "reference" && !(s.Op == "Pad" && b.stay[s.Name+"/out"]) {
						t.Errorf("%s %s runs on its reference kernel", s.Op, s.Name)
					}
				}
			}
			for i, v := range got[0].Float32s() {
				if v != got[1].Float32s()[i] {
					t.Fatalf("[%d] is %v, want %v", i, v, got[1].Float32s()[i])
				}
			}
		})
	}
}
