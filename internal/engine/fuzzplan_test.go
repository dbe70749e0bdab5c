package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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

// drawnBytes bounds what a run may hold: some shapes are drawn numbers, as the length of a HannWindow is.
const drawnBytes = 1 << 24

// FuzzPlan draws a graph and compares the fast path with the reference kernels, over several shapes through
// one program.
//
// An input is the list of choices that package draw turns into a model; a failure prints the model.
func FuzzPlan(f *testing.F) { fuzzDrawings(f, comparePaths) }

// fuzzDrawings fuzzes the choices that package draw takes.
func fuzzDrawings(f *testing.F, compare func(choices []byte) error) {
	for seed := range uint64(40) {
		f.Add(draw.Choices(seed))
	}
	f.Fuzz(func(t *testing.T, choices []byte) {
		if len(choices) > 1<<10 {
			return
		}
		if err := compare(choices); err != nil {
			t.Error(err)
		}
	})
}

// eachDrawing compares so many drawings, fewer with -short, and shortens those that fail.
// CNNKIT_DRAW=FROM:COUNT asks for others. It gives their number.
func eachDrawing(t *testing.T, count, short uint64, compare func(choices []byte) error) int {
	from := uint64(0)
	if a, b, ok := strings.Cut(os.Getenv("CNNKIT_DRAW"), ":"); ok {
		from, _ = strconv.ParseUint(a, 10, 64)
		count, _ = strconv.ParseUint(b, 10, 64)
	} else if testing.Short() {
		count = short
	}
	failed := 0
	for seed := from; seed < from+count && failed < 12; seed++ {
		choices := draw.Choices(seed)
		if compare(choices) == nil {
			continue
		}
		failed++
		choices = draw.Shorten(choices, func(less []byte) bool { return compare(less) != nil })
		t.Errorf("drawing %d: %v", seed, compare(choices))
	}
	return int(count)
}

// TestDrawnPlans is a share of FuzzPlan for every run of the tests.
func TestDrawnPlans(t *testing.T) {
	count := eachDrawing(t, 400, 100, comparePaths)
	t.Logf("%d runs compared, %d refused by both", comparisons.Load(), refusals.Load())
	if comparisons.Load() < int64(count) {
		t.Error("most runs are refused: the drawings test nothing")
	}
}

// TestIslandOmitsInputs: an op with a fast kernel whose shape turns up at run time, and an input that is
// omitted.
func TestIslandOmitsInputs(t *testing.T) {
	high := onnxio.Scalar(onnxio.Float, float32(6))
	high.Name = "high"
	m := &onnxio.Model{IRVersion: 8, Opsets: []onnxio.Opset{{Version: 13}}, Graph: &onnxio.Graph{Name: "g",
		Inputs: []*onnxio.ValueInfo{onnxio.TensorInfo("x", onnxio.Float, onnxio.Shape(3)...),
			onnxio.TensorInfo("c", onnxio.Bool, onnxio.Shape(3)...)},
		Outputs:      []*onnxio.ValueInfo{{Name: "y", Type: &onnxio.Type{Elem: onnxio.Float}}},
		Initializers: []*onnxio.Tensor{high},
		Nodes: []*onnxio.Node{{OpType: "Compress", Inputs: []string{"x", "c"}, Outputs: []string{"k"},
			Attrs: []*onnxio.Attribute{onnxio.IntAttr("axis", 0)}},
			{OpType: "Clip", Inputs: []string{"k", "", "high"}, Outputs: []string{"y"}}}}}
	p := newPath(&draw.Case{Model: m}, engine.Options{})
	out, err := p.run(map[string]*onnxio.Tensor{"x": onnxio.Floats([]float32{-1, 7, 9}),
		"c": onnxio.FromSlice(onnxio.Bool, []bool{true, false, true})})
	if err != nil {
		t.Fatal(err)
	}
	if y := out[0].Float32s(); len(y) != 2 || y[0] != -1 || y[1] != 6 {
		t.Errorf("%v", y)
	}
}

// TestNarrowMaps: flipped weights have parts for the residues of the stride that a map has, so maps of fewer
// columns than the stride do not share them with wider ones.
func TestNarrowMaps(t *testing.T) {
	for _, group := range []int64{1, 2} {
		w := onnxio.NewTensor(onnxio.Float, 8, 4/group, 2, 5)
		w.Name = "w"
		for i := range w.Float32s() {
			w.Float32s()[i] = float32(i%7) - 3
		}
		m := &onnxio.Model{IRVersion: 8, Opsets: []onnxio.Opset{{Version: 13}},
			Graph: &onnxio.Graph{Name: "g",
				Inputs: []*onnxio.ValueInfo{onnxio.TensorInfo("x", onnxio.Float,
					onnxio.Shape("N", 8, "H", "W")...)},
				Outputs:      []*onnxio.ValueInfo{{Name: "y", Type: &onnxio.Type{Elem: onnxio.Float}}},
				Initializers: []*onnxio.Tensor{w},
				Nodes: []*onnxio.Node{{OpType: "ConvTranspose", Inputs: []string{"x", "w"},
					Outputs: []string{"y"}, Attrs: []*onnxio.Attribute{
						onnxio.IntAttr("group", group), onnxio.IntsAttr("strides", 2, 2),
						onnxio.IntsAttr("pads", 1, 2, 0, 2)}}}}}
		c := &draw.Case{Model: m}
		fast, reference := newPath(c, engine.Options{}), newPath(c, engine.Options{Reference: true})
		for _, size := range [][]int64{{4, 1}, {4, 3}, {1, 1}, {1, 4}, {5, 1}, {4, 4}} {
			x := onnxio.NewTensor(onnxio.Float, 2, 8, size[0], size[1])
			for i := range x.Float32s() {
				x.Float32s()[i] = float32(i%5) - 2
			}
			in := map[string]*onnxio.Tensor{"x": x}
			got, err := fast.run(in)
			want, refused := reference.run(in)
			if err != nil || refused != nil {
				t.Fatalf("%v: %v, %v", size, err, refused)
			}
			if err := draw.Near(got[0], want[0]); err != nil {
				t.Errorf("%d groups, %v: %v", group, size, err)
			}
		}
	}
}

// comparisons and refusals count the runs that both paths made and refused.
var comparisons, refusals atomic.Int64

// comparePaths says where the fast path and the reference part, or that either faults.
func comparePaths(choices []byte) error {
	c := draw.New(choices, maxDrawn, true)
	if len(c.Model.Graph.Outputs) == 0 {
		return nil
	}
	pool := parallel.New(1 + len(choices)%2)
	defer pool.Close()
	fast := newPath(c, engine.Options{Pool: pool})
	portions := newPath(c, engine.Options{Pool: pool}.InPortions(1))
	reference := newPath(c, engine.Options{Pool: pool, Reference: true})
	for i, in := range c.Runs {
		got, err := fast.run(in)
		apart, parted := portions.run(in)
		want, refused := reference.run(in)
		var fault *engine.FaultError
		switch {
		case errors.As(err, &fault), errors.As(parted, &fault), errors.As(refused, &fault):
			return fmt.Errorf("run %d: panic: %v\n%s\n%s", i, fault.Value, fault.Stack, c.Show(in))
		case (err == nil) != (refused == nil), (err == nil) != (parted == nil):
			return fmt.Errorf("run %d: the fast path says %v, in portions %v, the reference %v\n%s", i, err,
				parted, refused, c.Show(in))
		case err != nil:
			refusals.Add(1)
			continue
		}
		comparisons.Add(1)
		for k, out := range c.Model.Graph.Outputs {
			if err := draw.Near(got[k], want[k]); err != nil {
				return fmt.Errorf("run %d: output %s: %w\n%s", i, out.Name, err, c.Show(in))
			}
			if !bytes.Equal(got[k].Raw, apart[k].Raw) {
				return fmt.Errorf("run %d: output %s: portions give other bits\n%s", i, out.Name, c.Show(in))
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
	opt.MaxBytes = drawnBytes
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
