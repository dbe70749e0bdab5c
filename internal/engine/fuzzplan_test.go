package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cnnkit/cnnkit/internal/conform/draw"
	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/internal/parallel"
	"github.com/cnnkit/cnnkit/onnxio"
)

// maxDrawn is the number of nodes of a drawn graph.
const maxDrawn = 14

// FuzzPlan draws a graph and compares the fast path with the reference kernels, over several shapes through one program.
//
// An input is the list of choices that package draw turns into a model; a failure prints the model.
func FuzzPlan(f *testing.F) {
	for seed := range uint64(40) {
		f.Add(drawn(seed))
	}
	f.Fuzz(func(t *testing.T, choices []byte) {
		if len(choices) > 1<<10 {
			return
		}
		if err := comparePaths(choices); err != nil {
			t.Error(err)
		}
	})
}

// TestDrawnPlans is a share of FuzzPlan for every run of the tests. CNNKIT_DRAW=FROM:COUNT asks for others.
func TestDrawnPlans(t *testing.T) {
	from, count := uint64(0), uint64(400)
	if a, b, ok := strings.Cut(os.Getenv("CNNKIT_DRAW"), ":"); ok {
		from, _ = strconv.ParseUint(a, 10, 64)
		count, _ = strconv.ParseUint(b, 10, 64)
	} else if testing.Short() {
		count = 100
	}
	failed := 0
	for seed := from; seed < from+count && failed < 12; seed++ {
		if err := comparePaths(shortened(drawn(seed))); err != nil {
			failed++
			t.Errorf("drawing %d: %v", seed, err)
		}
	}
	t.Logf("%d runs compared, %d refused by both", comparisons.Load(), refusals.Load())
	if comparisons.Load() < int64(count) {
		t.Error("most runs are refused: the drawings test nothing")
	}
}

// TestIslandOmitsInputs: an op with a fast kernel whose shape turns up at run time, and an input that is omitted.
func TestIslandOmitsInputs(t *testing.T) {
	high := onnxio.Scalar(onnxio.Float, float32(6))
	high.Name = "high"
	m := &onnxio.Model{IRVersion: 8, Opsets: []onnxio.Opset{{Version: 13}}, Graph: &onnxio.Graph{Name: "g",
		Inputs:       []*onnxio.ValueInfo{onnxio.TensorInfo("x", onnxio.Float, onnxio.Shape(3)...), onnxio.TensorInfo("c", onnxio.Bool, onnxio.Shape(3)...)},
		Outputs:      []*onnxio.ValueInfo{{Name: "y", Type: &onnxio.Type{Elem: onnxio.Float}}},
		Initializers: []*onnxio.Tensor{high},
		Nodes: []*onnxio.Node{{OpType: "Compress", Inputs: []string{"x", "c"}, Outputs: []string{"k"}, Attrs: []*onnxio.Attribute{onnxio.IntAttr("axis", 0)}},
			{OpType: "Clip", Inputs: []string{"k", "", "high"}, Outputs: []string{"y"}}}}}
	p := newPath(&draw.Case{Model: m}, engine.Options{})
	out, err := p.run(map[string]*onnxio.Tensor{"x": onnxio.Floats([]float32{-1, 7, 9}), "c": onnxio.FromSlice(onnxio.Bool, []bool{true, false, true})})
	if err != nil {
		t.Fatal(err)
	}
	if y := out[0].Float32s(); len(y) != 2 || y[0] != -1 || y[1] != 6 {
		t.Errorf("%v", y)
	}
}

// drawn are the choices of drawing number seed.
func drawn(seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 7))
	b := make([]byte, 20+r.IntN(300))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// shortened drops choices from the end as long as the paths still part, so that the model that is shown is small.
func shortened(choices []byte) []byte {
	if comparePaths(choices) == nil {
		return choices
	}
	for step := len(choices) / 2; step > 0; {
		if less := choices[:len(choices)-step]; len(less) > 0 && comparePaths(less) != nil {
			choices = less
			step = min(step, len(choices)/2)
			continue
		}
		step /= 2
	}
	return choices
}

// comparisons and refusals count the runs that both paths made and refused.
var comparisons, refusals atomic.Int64

// comparePaths says where the fast path and the reference part, or that either faults.
func comparePaths(choices []byte) error {
	c := draw.New(choices, maxDrawn, false)
	if len(c.Model.Graph.Outputs) == 0 {
		return nil
	}
	pool := parallel.New(1 + len(choices)%2)
	defer pool.Close()
	fast := newPath(c, engine.Options{Pool: pool})
	reference := newPath(c, engine.Options{Pool: pool, Reference: true})
	for i, in := range c.Runs {
		got, err := fast.run(in)
		want, refused := reference.run(in)
		var fault *engine.FaultError
		switch {
		case errors.As(err, &fault), errors.As(refused, &fault):
			return fmt.Errorf("run %d: panic: %v\n%s\n%s", i, fault.Value, fault.Stack, shown(c, in))
		case (err == nil) != (refused == nil):
			return fmt.Errorf("run %d: the fast path says %v, the reference %v\n%s", i, err, refused, shown(c, in))
		case err != nil:
			refusals.Add(1)
			continue
		}
		comparisons.Add(1)
		for k, out := range c.Model.Graph.Outputs {
			if err := near(got[k], want[k]); err != nil {
				return fmt.Errorf("run %d: output %s: %w\n%s", i, out.Name, err, shown(c, in))
			}
		}
	}
	return nil
}

// path is one way of running a model.
type path struct {
	program *engine.Program
	lane    engine.Lane
	err     error
}

func newPath(c *draw.Case, opt engine.Options) (p *path) {
	p = &path{}
	defer caught(&p.err)
	p.program, p.err = engine.NewProgram(c.Model, opt)
	return p
}

func (p *path) run(in map[string]*onnxio.Tensor) (out []*onnxio.Tensor, err error) {
	if p.err != nil {
		return nil, p.err
	}
	defer caught(&err)
	var list []onnxio.Value
	for _, name := range p.program.Inputs() {
		list = append(list, in[name])
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	values, err := p.program.Run(ctx, &p.lane, list)
	for _, v := range values {
		t, _ := v.(*onnxio.Tensor)
		out = append(out, t.Clone())
	}
	return out, err
}

// caught turns a panic into an error.
func caught(err *error) {
	if e := recover(); e != nil {
		*err = &engine.FaultError{Value: e, Stack: debug.Stack()}
	}
}

// near compares by the largest number of the output: sums are taken in another order, Winograd's method rounds more.
func near(got, want *onnxio.Tensor) error {
	if got.Type != want.Type || fmt.Sprint(got.Dims) != fmt.Sprint(want.Dims) {
		return fmt.Errorf("%v %v, want %v %v", got.Type, got.Dims, want.Type, want.Dims)
	}
	if err := got.Check(); err != nil {
		return err
	}
	a, b := numbers(got), numbers(want)
	scale := 1.0
	for _, v := range b {
		if !math.IsInf(v, 0) && !math.IsNaN(v) {
			scale = max(scale, math.Abs(v))
		}
	}
	tolerance := map[onnxio.DataType]float64{onnxio.Float: 2e-4, onnxio.Double: 1e-9, onnxio.Float16: 2e-2, onnxio.BFloat16: 1e-1}[want.Type]
	for i, w := range b {
		if g := a[i]; g != w && !(math.Abs(g-w) <= tolerance*scale && !math.IsInf(w, 0)) && !(math.IsNaN(g) && math.IsNaN(w)) {
			return fmt.Errorf("[%d] is %g, want %g (of %v %v)", i, g, w, want.Type, want.Dims)
		}
	}
	return nil
}

// numbers are a tensor's elements; of a type that has no arithmetic, its bytes.
func numbers(t *onnxio.Tensor) []float64 {
	out := []float64{}
	switch t.Type {
	case onnxio.Float:
		for _, v := range t.Float32s() {
			out = append(out, float64(v))
		}
	case onnxio.Double:
		out = append(out, onnxio.Data[float64](t)...)
	case onnxio.Float16:
		for _, v := range onnxio.Data[uint16](t) {
			out = append(out, half(v))
		}
	case onnxio.BFloat16:
		for _, v := range onnxio.Data[uint16](t) {
			out = append(out, float64(math.Float32frombits(uint32(v)<<16)))
		}
	case onnxio.Int64:
		for _, v := range onnxio.Data[int64](t) {
			out = append(out, float64(v))
		}
	default:
		for _, v := range t.Raw {
			out = append(out, float64(v))
		}
	}
	return out
}

func half(h uint16) float64 {
	exp, v := int(h>>10&31), float64(h&1023)
	switch {
	case exp == 31 && v != 0:
		return math.NaN()
	case exp == 31:
		v = math.Inf(1)
	case exp == 0:
		v = math.Ldexp(v, -24)
	default:
		v = math.Ldexp(1024+v, exp-25)
	}
	if h>>15 != 0 {
		return -v
	}
	return v
}

// shown is a model in words, with the shapes of one run.
func shown(c *draw.Case, in map[string]*onnxio.Tensor) string {
	var b strings.Builder
	m := c.Model
	fmt.Fprintf(&b, "opset %d\n", m.Opset(""))
	for _, v := range m.Graph.Inputs {
		fmt.Fprintf(&b, "input %s %v %v\n", v.Name, in[v.Name].Type, in[v.Name].Dims)
	}
	for _, t := range m.Graph.Initializers {
		fmt.Fprintf(&b, "weight %s %v %v", t.Name, t.Type, t.Dims)
		if t.Type == onnxio.Int64 {
			fmt.Fprintf(&b, " %v", onnxio.Data[int64](t))
		} else if t.Type == onnxio.Float && t.Size() <= 4 {
			fmt.Fprintf(&b, " %v", t.Float32s())
		}
		fmt.Fprintln(&b)
	}
	for _, n := range m.Graph.Nodes {
		fmt.Fprintf(&b, "%q = %s%q", n.Outputs, n.OpType, n.Inputs)
		for _, a := range n.Attrs {
			fmt.Fprintf(&b, " %s=%s", a.Name, attribute(a))
		}
		fmt.Fprintln(&b)
	}
	for _, v := range m.Graph.Outputs {
		fmt.Fprintf(&b, "output %s\n", v.Name)
	}
	return b.String()
}

func attribute(a *onnxio.Attribute) string {
	switch a.Type {
	case onnxio.AttrInt:
		return fmt.Sprint(a.I)
	case onnxio.AttrFloat:
		return fmt.Sprint(a.F)
	case onnxio.AttrInts:
		return fmt.Sprint(a.Ints)
	case onnxio.AttrFloats:
		return fmt.Sprint(a.Floats)
	}
	return string(a.S)
}
