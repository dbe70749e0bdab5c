package engine

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// bright is a network that computes on those images of a batch whose mean is above 0, then on those whose
// maps have a number above a limit: its shapes follow from data, twice.
type bright struct {
	m           *onnxio.Model
	first, last *net // the layers in front of each choice
}

const brightLimit = 1.5

func newBright(size int64) *bright {
	layers := func(seed uint64, in, out int64) *net {
		b := newNet(seed, "N", in, size, size)
		b.conv(in, out, 3, 1, 1)
		b.node("Relu", []string{b.last})
		return b
	}
	n := &bright{first: layers(1, 3, 16), last: layers(2, 16, 8)}
	n.first.output()
	n.last.output()

	b := newNet(3, "N", int64(3), size, size)
	zero := b.init("zero", float(0))
	limit := b.init("limit", float(brightLimit))
	b.node("ReduceMean", []string{"input"}, onnxio.IntsAttr("axes", 1, 2, 3), scalar)
	b.choose("input", zero)
	b.append(n.first)
	maps := b.last
	b.node("ReduceMax", []string{maps}, onnxio.IntsAttr("axes", 1, 2, 3), scalar)
	index := b.choose(maps, limit)
	b.append(n.last)
	n.m = b.output()
	n.m.Graph.Outputs = append(n.m.Graph.Outputs, declared(index+" int64"))
	return n
}

// choose gathers the rows of x for which the last value is above limit; it gives their indices.
func (b *net) choose(x, limit string) string {
	b.node("Greater", []string{b.last, limit})
	b.node("NonZero", []string{b.last})
	index := b.node("Squeeze", []string{b.last, b.init("axis"+b.last, integers(0))})
	b.node("Gather", []string{x, index}, axis0)
	return index
}

// append puts the layers of another network behind the last value.
func (b *net) append(o *net) {
	prefix := fmt.Sprintf("%d/", len(b.m.Graph.Nodes))
	rename := func(s string) string {
		if s == "input" {
			return b.last
		}
		return prefix + s
	}
	for _, t := range o.m.Graph.Initializers {
		same := *t
		same.Name = prefix + t.Name
		b.m.Graph.Initializers = append(b.m.Graph.Initializers, &same)
	}
	for _, n := range o.m.Graph.Nodes {
		own := *n
		own.Inputs, own.Outputs = slices.Clone(n.Inputs), slices.Clone(n.Outputs)
		for i, s := range own.Inputs {
			own.Inputs[i] = rename(s)
		}
		for i, s := range own.Outputs {
			own.Outputs[i] = prefix + s
		}
		b.m.Graph.Nodes = append(b.m.Graph.Nodes, &own)
	}
	b.last = prefix + o.last
}

// want computes by reference kernels alone, with the choices made here.
func (n *bright) want(t *testing.T, x *onnxio.Tensor) (y *onnxio.Tensor, index []int64) {
	t.Helper()
	mean := func(row []float32) float64 {
		sum := 0.0
		for _, v := range row {
			sum += float64(v)
		}
		return sum / float64(len(row))
	}
	chosen, _ := chosenRows(x, func(row []float32) bool { return mean(row) > 0 })
	maps := reference(t, n.first, chosen)
	chosen, index = chosenRows(maps, func(row []float32) bool { return slices.Max(row) > brightLimit })
	return reference(t, n.last, chosen), index
}

func chosenRows(x *onnxio.Tensor, choose func(row []float32) bool) (*onnxio.Tensor, []int64) {
	data, index := []float32{}, []int64{}
	size := int(x.Dims[1] * x.Dims[2] * x.Dims[3])
	for i := range x.Dims[0] {
		if row := x.Float32s()[int(i)*size:][:size]; choose(row) {
			data, index = append(data, row...), append(index, i)
		}
	}
	return onnxio.Floats(data, int64(len(index)), x.Dims[1], x.Dims[2], x.Dims[3]), index
}

func reference(t *testing.T, b *net, x *onnxio.Tensor) *onnxio.Tensor {
	t.Helper()
	p, err := Compile(b.m, Options{Reference: true, Shapes: map[string][]int64{"input": x.Dims}})
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.Run(t.Context(), map[string]*onnxio.Tensor{"input": x})
	if err != nil {
		t.Fatal(err)
	}
	return out[b.last]
}

// batch is images of which those with a set bit have a mean above 0.
func batch(r *rand.Rand, above []bool, size int64) *onnxio.Tensor {
	x := onnxio.NewTensor(onnxio.Float, int64(len(above)), 3, size, size)
	row := len(x.Float32s()) / max(1, len(above))
	for i := range x.Float32s() {
		v := float32(r.NormFloat64())/2 - 0.25
		if above[i/row] {
			v += 0.5 + 0.5*float32(i/row%2)
		}
		x.Float32s()[i] = v
	}
	return x
}

func TestIslandsBetweenPlans(t *testing.T) {
	const size = 32 // maps are heavy from two images on
	n := newBright(size)
	p, err := NewProgram(n.m, Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(4, 4))
	var l Lane
	seen := map[int]bool{}
	for _, above := range [][]bool{{true}, {false}, {}, {true, true, false, true}, {false, true},
		{true, true, true, true, true, false}, {true, true, true, true}, {true, false, true, true}} {
		x := batch(r, above, size)
		before := x.Clone()
		y, index := n.want(t, x)
		seen[len(index)] = true
		for range 2 {
			out := compute(t, p, &l, x)
			near(t, fmt.Sprint(above), out[0].(*onnxio.Tensor), y, 1e-4)
			wants(t, fmt.Sprint(above), out[1], index, int64(len(index)))
			clear(out[0].(*onnxio.Tensor).Raw) // it is the caller's
		}
		if !slices.Equal(before.Raw, x.Raw) {
			t.Errorf("%v: the input has changed", above)
		}
	}
	if len(seen) < 3 {
		t.Errorf("the data give %d numbers of rows only", len(seen))
	}
}

// Plans for shapes that come again are those of the first time.
func TestIslandsKeepTheirPlans(t *testing.T) {
	n := newBright(16)
	p, err := NewProgram(n.m, Options{})
	if err != nil {
		t.Fatal(err)
	}
	x := batch(rand.New(rand.NewPCG(5, 5)), []bool{true, true, false, true}, 16)
	var l Lane
	first := compute(t, p, &l, x)
	segments := l.Segments()
	for range 5 {
		out := compute(t, p, &l, x)
		if !slices.Equal(out[0].(*onnxio.Tensor).Raw, first[0].(*onnxio.Tensor).Raw) {
			t.Error("the bits differ from run to run")
		}
	}
	if l.Segments() != segments {
		t.Errorf("%d plans after one run, %d after six of the same shapes", segments, l.Segments())
	}
}

// Lanes of one program run at the same time, with the same bits.
func TestLanesAtTheSameTime(t *testing.T) {
	n, loop := newBright(16), programOf(t, sumsAbove(), Options{})
	p, err := NewProgram(n.m, Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(6, 6))
	var images []*onnxio.Tensor
	var want [][]onnxio.Value
	for _, above := range [][]bool{{true, true}, {true, false, true}, {false, true, true, true}} {
		images = append(images, batch(r, above, 16))
		want = append(want, compute(t, p, new(Lane), images[len(images)-1]))
	}
	var wg sync.WaitGroup
	for k := range 4 {
		wg.Go(func() {
			var l Lane
			for i := range 6 {
				at := (i + k) % len(images)
				out, err := p.Run(t.Context(), &l, []onnxio.Value{images[at]})
				if err != nil {
					t.Error(err)
					return
				}
				if !slices.Equal(out[0].(*onnxio.Tensor).Raw, want[at][0].(*onnxio.Tensor).Raw) {
					t.Errorf("lane %d: the bits differ", k)
				}
				x := onnxio.Floats([]float32{1, 2}[:1+at%2])
				if _, err := loop.Run(t.Context(), &l, []onnxio.Value{x, integer(3),
					integer(0)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// A shape made of data that is larger than the budget, or than any memory, is an error that names the node.
func TestBudgetOfAnIsland(t *testing.T) {
	g := graphOf("n int64[]", "y float", constantNode("axes", integers(0)), apply("shape = Unsqueeze n axes"),
		apply("zeros = ConstantOfShape shape"), apply("y = Neg zeros"))
	p := programOf(t, g, Options{MaxBytes: 1 << 16})
	var l Lane
	wants(t, "y of 3", compute(t, p, &l, integer(3))[0], make([]float32, 3), 3)
	for _, n := range []int64{1 << 20, 1 << 40} {
		_, err := p.Run(t.Context(), &l, []onnxio.Value{integer(n)})
		if limit := (*onnxio.LimitError)(nil); !errors.As(err, &limit) {
			t.Errorf("%d: %v", n, err)
		}
	}
	for _, n := range []int64{-1, math.MinInt64, math.MaxInt64} {
		if _, err := p.Run(t.Context(), &l, []onnxio.Value{integer(n)}); err == nil {
			t.Errorf("a dimension of %d passes", n)
		}
	}
}

// What a Run gives is the caller's, even where a view would do: of an input, of a constant, or given twice.
func TestOutputsAreTheCallers(t *testing.T) {
	g := graphOf("x float[N]; shape int64[2]", "r float; x float; k float; s float; s float",
		apply("r = Reshape x shape"), apply("s = Squeeze r axes"))
	g.Initializers = []*onnxio.Tensor{floats(5), integers(0)}
	g.Initializers[0].Name, g.Initializers[1].Name = "k", "axes"
	p := programOf(t, g, Options{})
	x := floats(1, 2, 3, 4)
	var l Lane
	for range 2 {
		out := compute(t, p, &l, x, integers(1, 4))
		wants(t, "r", out[0], []float32{1, 2, 3, 4}, 1, 4)
		wants(t, "k", out[2], []float32{5}, 1)
		wants(t, "s", out[3], []float32{1, 2, 3, 4}, 4)
		for i, v := range out {
			clear(v.(*onnxio.Tensor).Raw)
			for j, w := range out {
				if j > i && j < 3 && onnxio.Data[float32](w.(*onnxio.Tensor))[0] == 0 {
					t.Errorf("outputs %d and %d share memory", i, j)
				}
			}
		}
		wants(t, "the input", x, []float32{1, 2, 3, 4}, 4)
	}
}
