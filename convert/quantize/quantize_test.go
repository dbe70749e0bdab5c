package quantize

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/check"
)

// testNet is convolutions with batch normalization, ReLU and ReLU6, depthwise, a
// residual, a pool and two layers.
func testNet(seed uint64) *onnxio.Model {
	r := rand.New(rand.NewPCG(seed, 1))
	m := &onnxio.Model{IRVersion: 8, Opsets: []onnxio.Opset{{Version: 17}},
		Graph: &onnxio.Graph{Name: "test"}}
	g := m.Graph
	g.Inputs = []*onnxio.ValueInfo{onnxio.TensorInfo("x", onnxio.Float, onnxio.Shape("N", 3, 12, 12)...)}
	g.Outputs = []*onnxio.ValueInfo{onnxio.TensorInfo("y", onnxio.Float, onnxio.Shape("N", 5)...)}
	random := func(name string, scale float64, dims ...int64) string {
		t := onnxio.NewTensor(onnxio.Float, dims...)
		for i := range t.Float32s() {
			t.Float32s()[i] = float32(scale * r.NormFloat64())
		}
		t.Name = name
		g.Initializers = append(g.Initializers, t)
		return name
	}
	positive := func(name string, n int64) string {
		random(name, 1, n)
		for i, v := range g.Initializers[len(g.Initializers)-1].Float32s() {
			g.Initializers[len(g.Initializers)-1].Float32s()[i] = 0.5 + v*v
		}
		return name
	}
	node := func(op, name string, in []string, attrs ...*onnxio.Attribute) {
		g.Nodes = append(g.Nodes, &onnxio.Node{Name: name, OpType: op, Inputs: in, Outputs: []string{name},
			Attrs: attrs})
	}
	pads := onnxio.IntsAttr("pads", 1, 1, 1, 1)
	node("Conv", "c0", []string{"x", random("w0", 0.5, 8, 3, 1, 1)})
	node("Relu", "r0", []string{"c0"})
	node("Conv", "c1", []string{"r0", random("w1", 0.2, 8, 8, 3, 3)}, pads)
	node("BatchNormalization", "n1", []string{"c1", positive("g1", 8), random("b1", 0.3, 8),
		random("m1", 0.3, 8), positive("v1", 8)})
	node("Relu", "r1", []string{"n1"})
	node("Conv", "c2", []string{"r1", random("w2", 0.3, 8, 1, 3, 3), random("b2", 0.1, 8)}, pads,
		onnxio.IntAttr("group", 8))
	zero, six := onnxio.Scalar(onnxio.Float, float32(0)), onnxio.Scalar(onnxio.Float, float32(6))
	zero.Name, six.Name = "zero", "six"
	g.Initializers = append(g.Initializers, zero, six)
	node("Clip", "r2", []string{"c2", "zero", "six"})
	node("Conv", "c3", []string{"r2", random("w3", 0.3, 8, 8, 1, 1), random("b3", 0.1, 8)})
	node("Add", "a", []string{"c3", "r1"})
	node("MaxPool", "p", []string{"a"}, onnxio.IntsAttr("kernel_shape", 2, 2),
		onnxio.IntsAttr("strides", 2, 2))
	node("GlobalAveragePool", "q", []string{"p"})
	node("Flatten", "f", []string{"q"})
	node("Gemm", "h", []string{"f", random("w4", 0.5, 16, 8), random("b4", 0.1, 16)},
		onnxio.IntAttr("transB", 1))
	node("Relu", "r4", []string{"h"})
	node("MatMul", "y", []string{"r4", random("w5", 0.5, 16, 5)})
	return m
}

func batches(seed uint64, n int) []*onnxio.Tensor {
	r := rand.New(rand.NewPCG(seed, 2))
	var out []*onnxio.Tensor
	for range n {
		x := onnxio.NewTensor(onnxio.Float, 4, 3, 12, 12)
		for i := range x.Float32s() {
			x.Float32s()[i] = float32(r.NormFloat64())
		}
		out = append(out, x)
	}
	return out
}

func run(t *testing.T, m *onnxio.Model, x *onnxio.Tensor) []float32 {
	t.Helper()
	p, err := engine.Compile(m, engine.Options{Shapes: map[string][]int64{"x": x.Dims}})
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.Run(t.Context(), map[string]*onnxio.Tensor{"x": x})
	if err != nil {
		t.Fatal(err)
	}
	return out["y"].Float32s()
}

// off is the error relative to the size of what is wanted.
func off(got, want []float32) float64 {
	d, s := 0.0, 0.0
	for i, v := range got {
		d += float64(v-want[i]) * float64(v-want[i])
		s += float64(want[i]) * float64(want[i])
	}
	return math.Sqrt(d / s)
}

// TestStatic: every method gives a sound model that runs on integers and is near the float32 one. 256 levels
// a map and 8 layers of random weights are good for a few percent.
func TestStatic(t *testing.T) {
	m, data := testNet(1), Data{Batches: batches(1, 4)}
	want := run(t, m, data.Batches[0])
	for _, method := range Methods() {
		for _, perChannel := range []bool{false, true} {
			t.Run(method, func(t *testing.T) {
				q, _, err := Static(t.Context(), m, data, Options{Method: Method(method),
					PerChannel: perChannel, NoGate: true})
				if err != nil {
					t.Fatal(err)
				}
				if err := check.Model(q); err != nil {
					t.Fatal(err)
				}
				if e := off(run(t, q, data.Batches[0]), want); !(e < 0.08) {
					t.Errorf("the output is off by %.3f", e)
				}
				p, err := engine.Compile(q,
					engine.Options{Shapes: map[string][]int64{"x": data.Batches[0].Dims}})
				if err != nil {
					t.Fatal(err)
				}
				for _, s := range p.Steps() {
					if !engine.Int8Runs() {
						break
					}
					if s.Kernel == "reference" || s.Type == "float32" && s.Op != "DequantizeLinear" {
						t.Errorf("%s %s runs as %s in %s", s.Op, s.Name, s.Kernel, s.Type)
					}
				}
			})
		}
	}
}

// TestTrainable: what is to be trained computes what the int8 model does but for its biases, has its weights
// in float32 under their own names, and comes to bytes that compute the same.
func TestTrainable(t *testing.T) {
	m, data := testNet(1), Data{Batches: batches(1, 4)}
	for _, perChannel := range []bool{false, true} {
		opt := Options{PerChannel: perChannel, NoGate: true}
		direct, _, err := Static(t.Context(), m, data, opt)
		if err != nil {
			t.Fatal(err)
		}
		opt.Trainable = true
		q, _, err := Static(t.Context(), m, data, opt)
		if err != nil {
			t.Fatal(err)
		}
		names, err := engine.Trainable(q)
		if err != nil {
			t.Fatal(err)
		}
		weights := 0
		for _, name := range names {
			if len(q.Graph.Initializer(name).Dims) > 1 {
				weights++
			}
		}
		done, count, err := Finish(q)
		if err != nil {
			t.Fatal(err)
		}
		if weights == 0 || weights != count {
			t.Errorf("%d weights are trainable and %d become bytes", weights, count)
		}
		for _, x := range []*onnxio.Model{q, done} {
			if err := check.Model(x); err != nil {
				t.Fatal(err)
			}
		}
		got := run(t, q, data.Batches[0])
		if e := off(got, run(t, direct, data.Batches[0])); !(e < 0.03) {
			t.Errorf("per channel %v: the trainable model is off by %.3f", perChannel, e)
		}
		if e := off(run(t, done, data.Batches[0]), got); !(e < 0.01) {
			t.Errorf("per channel %v: finished, the output is off by %.3f", perChannel, e)
		}
		if a, b := kinds(done), kinds(direct); a != b {
			t.Errorf("per channel %v: finished it is\n%s\nand made at once\n%s", perChannel, a, b)
		}
		if _, again, err := Finish(done); err != nil || again != 0 {
			t.Errorf("finished twice: %d, %v", again, err)
		}
	}
}

// kinds are the operators of a model and the types of its initializers.
func kinds(m *onnxio.Model) string {
	count := map[string]int{}
	for _, n := range m.Graph.Nodes {
		count[n.OpType]++
	}
	for _, t := range m.Graph.Initializers {
		count[t.Type.String()]++
	}
	return fmt.Sprint(count)
}

// TestPrepared: folding and equalizing leave what the model computes.
func TestPrepared(t *testing.T) {
	m, x := testNet(2), batches(2, 1)[0]
	want := run(t, m, x)
	g, err := prepare(m)
	if err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(g.m.Graph.Nodes, func(n *onnxio.Node) bool {
		return n.OpType == "BatchNormalization"
	}) {
		t.Error("a batch normalization is left")
	}
	if e := off(run(t, g.m, x), want); e > 1e-5 {
		t.Errorf("folded, the output is off by %v", e)
	}
	before := g.floats(g.layers()[0], 1).Clone()
	g.equalize()
	if e := off(run(t, g.m, x), want); e > 1e-5 {
		t.Errorf("equalized, the output is off by %v", e)
	}
	if slices.Equal(before.Float32s(), g.floats(g.layers()[0], 1).Float32s()) {
		t.Error("nothing was equalized")
	}
	if m.Graph.Nodes[3].OpType != "BatchNormalization" {
		t.Error("the caller's model has changed")
	}
}

// TestBiasCorrection: the mean output of a layer with coarse weights is that of float32.
func TestBiasCorrection(t *testing.T) {
	m, data := testNet(3), Data{Batches: batches(3, 8)}
	// one large weight makes the steps of a whole tensor coarse
	for i, v := range m.Graph.Initializer("w3").Float32s() {
		m.Graph.Initializer("w3").Float32s()[i] = v / 20
	}
	m.Graph.Initializer("w3").Float32s()[5] = 3
	g, err := prepare(m)
	if err != nil {
		t.Fatal(err)
	}
	seen, err := observe(t.Context(), g, data.Batches, MinMax)
	if err != nil {
		t.Fatal(err)
	}
	n := g.producer["c3"]
	e := &emission{quantizer: &quantizer{g: g, seen: seen}}
	w := g.floats(n, 1)
	bytes, scales := e.rounded(n, w)
	bias := g.bias(n, 8).Float32s()
	e.correct(n, w, bytes, scales, bias)
	for o := range 8 {
		want, got, plain := float64(g.floats(n, 2).Float32s()[o]), float64(bias[o]), 0.0
		for i := range 8 {
			x := seen["r2"].mean(i)
			want += float64(w.Float32s()[o*8+i]) * x
			got += float64(int8(bytes.Raw[o*8+i])) * float64(scales[0]) * x
		}
		plain = got - float64(bias[o]) + float64(g.floats(n, 2).Float32s()[o])
		if math.Abs(got-want) > 1e-5 {
			t.Errorf("mean of output %d is %v, want %v (%v without correction)", o, got, want, plain)
		}
	}
}

// TestGate: what a layer costs decides. A score that falls with every layer in int8 leaves all in float32,
// and is refused when even that is not enough; a layer that is named stays out.
func TestGate(t *testing.T) {
	m, data := testNet(4), Data{Batches: batches(4, 2)}
	layersIn := func(m *onnxio.Model) float64 {
		n := 0.0
		for _, node := range m.Graph.Nodes {
			if node.OpType == "DequantizeLinear" && slices.Contains([]string{"c1/weight/DequantizeLinear",
				"c2/weight/DequantizeLinear"}, node.Name) {
				n++
			}
		}
		return n
	}
	data.Score = func(_ context.Context, m *onnxio.Model) (float64, error) { return 1 - layersIn(m)/10, nil }
	_, report, err := Static(t.Context(), m, data, Options{Exclude: []string{"c3"}})
	if err != nil && !errors.Is(err, ErrSlower) && !errors.Is(err, ErrWorse) {
		t.Fatal(err)
	}
	if report == nil || len(report.Layers) != 6 {
		t.Fatalf("%+v", report)
	}
	for _, l := range report.Layers {
		if l.Name == "c1" || l.Name == "c2" {
			if l.Type != "float32" {
				t.Errorf("%s costs a tenth and runs in %s", l.Name, l.Type)
			}
		}
		if l.Name == "c3" && l.Reason != "excluded" {
			t.Errorf("c3 runs in %s: %s", l.Type, l.Reason)
		}
		if l.Float32 <= 0 {
			t.Errorf("%s takes no time", l.Name)
		}
	}
	data.Score = func(_ context.Context, x *onnxio.Model) (float64, error) {
		for _, n := range x.Graph.Nodes {
			if n.OpType == "QuantizeLinear" {
				return 0, nil
			}
		}
		return 1, nil
	}
	loss := 0.1
	clock := func(float32, int8 time.Duration) func(a, b *onnxio.Model) ([2]timing, error) {
		return func(_, _ *onnxio.Model) ([2]timing, error) {
			return [2]timing{{total: float32}, {total: int8}}, nil
		}
	}
	for want, opt := range map[error]Options{
		ErrWorse:  {MaxLoss: &loss, measure: clock(2, 1)},
		ErrSlower: {MaxLoss: &loss, measure: clock(1, 2)},
	} {
		_, report, err := Static(t.Context(), m, data, opt)
		if !errors.Is(err, want) {
			t.Errorf("float32 %d ns, int8 %d ns, nothing right: %v, want %v", report.Float32, report.Int8,
				err, want)
		}
	}
}

func TestRefusals(t *testing.T) {
	good, data := testNet(5), Data{Batches: batches(5, 1)}
	old := testNet(5)
	old.Opsets[0].Version = 12
	nan := batches(5, 1)
	nan[0].Float32s()[7] = float32(math.NaN())
	for name, f := range map[string]func() error{
		"no images": func() error {
			_, _, err := Static(t.Context(), good, Data{}, Options{})
			return err
		},
		"old operators": func() error { _, _, err := Static(t.Context(), old, data, Options{}); return err },
		"unknown node": func() error {
			_, _, err := Static(t.Context(), good, data, Options{Exclude: []string{"nobody"}})
			return err
		},
		"NaN": func() error {
			_, _, err := Static(t.Context(), good, Data{Batches: nan}, Options{NoGate: true})
			return err
		},
		"method": func() error { _, err := ParseMethod("guess"); return err },
	} {
		if err := f(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
