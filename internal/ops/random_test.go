package ops

import (
	"math"
	"slices"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// draw runs a random operator of one output, infers it first, and gives the numbers
// in float64 and their type.
func draw(t *testing.T, op, output string, seed uint64, in *onnxio.Tensor, attrs ...*onnxio.Attribute) (
	numbers []float64, typ onnxio.DataType) {
	t.Helper()
	n := &onnxio.Node{OpType: op, Outputs: []string{output}, Attrs: attrs}
	c := &Eval{Seed: seed}
	inf := &Infer{Out: []*Value{{}}}
	if in != nil {
		n.Inputs, c.In, inf.In = []string{"x"}, []*onnxio.Tensor{in}, []*Value{constValue(in)}
	}
	bound, err := Bind(n, 22)
	if err != nil {
		t.Fatal(err)
	}
	c.Node, inf.Node = bound, bound
	if err := bound.Def.Infer(inf); err != nil {
		t.Fatal(err)
	}
	if err := bound.Def.Eval(c); err != nil {
		t.Fatal(err)
	}
	if y := c.Out[0]; y.Type != inf.Out[0].Type || !agreeAll(knownDims(y.Dims), inf.Out[0].Shape) {
		t.Fatalf("made %v %s, inferred %v %s", y.Type, dimsText(y.Dims), inf.Out[0].Type,
			shapeText(inf.Out[0].Shape))
	}
	wide, err := asFloat64(c, c.Out[0])
	if err != nil {
		t.Fatal(err)
	}
	return onnxio.Data[float64](wide), c.Out[0].Type
}

func meanAndDeviation(x []float64) (mean, deviation float64) {
	for _, v := range x {
		mean += v / float64(len(x))
	}
	for _, v := range x {
		deviation += (v - mean) * (v - mean) / float64(len(x))
	}
	return mean, math.Sqrt(deviation)
}

// TestRandomDistributions: means and deviations of 100,000 numbers are within five standard errors of what
// they should be.
func TestRandomDistributions(t *testing.T) {
	const count = 100000
	shape, x := ints("shape", 100, 1000), onnxio.NewTensor(onnxio.Float, 100, 1000)
	p := onnxio.NewTensor(onnxio.Float, 100, 1000)
	for i := range p.Float32s() {
		p.Float32s()[i] = 0.3
	}
	mean, scale := onnxio.FloatAttr("mean", 2), onnxio.FloatAttr("scale", 3)
	low, high := onnxio.FloatAttr("low", -1), onnxio.FloatAttr("high", 3)
	for _, c := range []struct {
		op              string
		in              *onnxio.Tensor
		attrs           []*onnxio.Attribute
		mean, deviation float64
	}{
		{"RandomNormal", nil, attrsOf(shape), 0, 1},
		{"RandomNormal", nil, attrsOf(shape, mean, scale, onnxio.IntAttr("dtype", int64(onnxio.Double))),
			2, 3},
		{"RandomNormalLike", x, attrsOf(mean, scale), 2, 3},
		{"RandomUniform", nil, attrsOf(shape), 0.5, math.Sqrt(1.0 / 12)},
		{"RandomUniformLike", x, attrsOf(low, high, onnxio.IntAttr("dtype", int64(onnxio.Float16))), 1,
			4 * math.Sqrt(1.0/12)},
		{"Bernoulli", p, nil, 0.3, math.Sqrt(0.3 * 0.7)},
		{"Bernoulli", p, attrsOf(onnxio.IntAttr("dtype", int64(onnxio.Bool))), 0.3, math.Sqrt(0.3 * 0.7)},
	} {
		v, _ := draw(t, c.op, "y", 7, c.in, c.attrs...)
		m, d := meanAndDeviation(v)
		if limit := 5 * c.deviation / math.Sqrt(count); math.Abs(m-c.mean) > limit ||
			math.Abs(d-c.deviation) > limit {
			t.Errorf("%s %v: mean %v, deviation %v, want %v and %v", c.op, c.attrs, m, d, c.mean, c.deviation)
		}
	}
}

// TestMultinomialDistribution: classes come as often as their log-probabilities say.
func TestMultinomialDistribution(t *testing.T) {
	want := []float64{0.1, 0, 0.6, 0.3}
	in := onnxio.NewTensor(onnxio.Float, 2, 4)
	for i, p := range want {
		in.Float32s()[i] = float32(math.Log(p) + 5) // unnormalized
		in.Float32s()[4+i] = float32(math.Log(p) - 7)
	}
	const count = 20000
	v, typ := draw(t, "Multinomial", "y", 3, in, onnxio.IntAttr("sample_size", count),
		onnxio.IntAttr("dtype", int64(onnxio.Int64)))
	if typ != onnxio.Int64 {
		t.Errorf("made %v", typ)
	}
	for row := range 2 {
		got := make([]float64, 4)
		for _, k := range v[row*count:][:count] {
			got[int(k)]++
		}
		for k, p := range want {
			if math.Abs(got[k]/count-p) > 5*math.Sqrt(p*(1-p)/count) {
				t.Errorf("row %d, class %d: %v of %v", row, k, got[k]/count, p)
			}
		}
	}
}

// TestRandomSeeds: a seed gives the same numbers in every run and node; without one the run's seed and the
// output's name decide.
func TestRandomSeeds(t *testing.T) {
	shape, seed := ints("shape", 50), onnxio.FloatAttr("seed", 4)
	numbers := func(output string, run uint64, attrs ...*onnxio.Attribute) []float64 {
		v, _ := draw(t, "RandomNormal", output, run, nil, append(attrs, shape)...)
		return v
	}
	if !slices.Equal(numbers("y", 1, seed), numbers("z", 2, seed)) {
		t.Error("one seed, two sequences")
	}
	if slices.Equal(numbers("y", 1, seed), numbers("y", 1, onnxio.FloatAttr("seed", 5))) {
		t.Error("two seeds, one sequence")
	}
	once := numbers("y", 1)
	if !slices.Equal(once, numbers("y", 1)) || slices.Equal(once, numbers("y", 2)) ||
		slices.Equal(once, numbers("z", 1)) {
		t.Error("without a seed, the run's seed and the output's name should decide")
	}
	for _, op := range []string{"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
		"Bernoulli", "Multinomial"} {
		if d := Lookup("", op); d == nil || !d.Random {
			t.Errorf("%s is not said to draw", op)
		}
	}
}
