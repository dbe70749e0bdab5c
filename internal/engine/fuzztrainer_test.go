package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/internal/conform/draw"
	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/internal/parallel"
	"github.com/cnnkit/cnnkit/onnxio"
)

// maxTrained is the number of nodes of a drawn graph before its loss.
const maxTrained = 10

// FuzzTrainer draws a model with a loss and trains it a few steps by the fast paths and by the reference kernels: losses,
// gradients, weights and running statistics stay together, and are the same bits for 1, 2 and 3 threads. The gradient is
// held against differences of the loss.
func FuzzTrainer(f *testing.F) {
	fuzzDrawings(f, func(choices []byte) error { _, err := compareTraining(choices); return err })
}

// TestDrawnTrainers is a share of FuzzTrainer for every run of the tests.
func TestDrawnTrainers(t *testing.T) {
	trained := trainedSteps{}
	count := eachDrawing(t, 250, 60, func(choices []byte) error {
		n, err := compareTraining(choices)
		trained.add(n)
		return err
	})
	t.Logf("%+v", trained)
	if trained.Steps < count || trained.Slopes < count/4 {
		t.Error("most drawings are refused: they test nothing")
	}
}

// trainedSteps counts what compareTraining did.
type trainedSteps struct {
	Steps, Refused int
	Shaky          int // differences that rounding explains
	Slopes         int // gradients that differences of the loss confirm
	Flat           int // those of which the differences say nothing
}

func (n *trainedSteps) add(m trainedSteps) {
	n.Steps += m.Steps
	n.Refused += m.Refused
	n.Shaky += m.Shaky
	n.Slopes += m.Slopes
	n.Flat += m.Flat
}

// state is what a step leaves: the loss, gradients, weights and running statistics, by names.
type state map[string]*onnxio.Tensor

// compareTraining says where trainers of one model part.
func compareTraining(choices []byte) (n trainedSteps, err error) {
	c := draw.NewTraining(choices, maxTrained)
	c.Runs = c.Runs[:3]
	if len(c.Model.Graph.Nodes) == 0 || len(c.Params) == 0 {
		return n, nil
	}
	want, refused, err := trainDrawn(c, c.Runs, engine.TrainOptions{Reference: true}, 1)
	if err != nil {
		return n, err
	}
	var first []state
	for threads := range 3 {
		got, err, fault := trainDrawn(c, c.Runs, engine.TrainOptions{}, 1+threads)
		switch {
		case fault != nil:
			return n, fault
		case (err == nil) != (refused == nil) || len(got) != len(want):
			return n, fmt.Errorf("%d threads: step %d: the fast paths say %v, the reference %v\n%s", threads+1, len(got), err, refused, c.Show(c.Runs[0]))
		case threads == 0:
			first = got
		default:
			if err := sameBits(first, got); err != nil {
				return n, fmt.Errorf("%d threads instead of 1: %w\n%s", threads+1, err, c.Show(c.Runs[0]))
			}
		}
	}
	if refused != nil {
		n.Refused++
	}
	shaky, err := near(c, first, want)
	if err != nil {
		return n, err
	}
	if n.Steps = len(want); shaky {
		n.Shaky++
	}
	return n, slope(c, &n)
}

// trainDrawn trains one step for each batch that has elements, until the reference would refuse one or a number of the
// state is none; refused is why. A panic is err.
func trainDrawn(c *draw.Training, runs []map[string]*onnxio.Tensor, opt engine.TrainOptions, threads int) (out []state, refused, err error) {
	defer func() {
		var fault *engine.FaultError
		if errors.As(refused, &fault) {
			err = fmt.Errorf("panic: %v\n%s\n%s", fault.Value, fault.Stack, c.Show(c.Runs[0]))
		}
	}()
	defer caught(&refused)
	opt.Pool = parallel.New(threads)
	defer opt.Pool.Close()
	opt.Loss, opt.Params = c.Loss, c.Params
	if opt.Update == nil {
		opt.Update = descent{0.02, 0.5}
	}
	tr, err := engine.NewTrainer(c.Model, opt)
	if err != nil {
		return nil, err, nil
	}
	for _, in := range runs {
		if empty(in) {
			continue
		}
		if err := tr.Step(context.Background(), in); err != nil {
			return out, err, nil
		}
		s := stateOf(c, tr)
		out = append(out, s)
		if !s.finite() {
			break // from here on there is nothing to compare
		}
	}
	return out, nil, nil
}

// descent is SGD with momentum.
type descent struct{ rate, momentum float32 }

func (descent) Slots() int  { return 1 }
func (descent) Begin(int64) {}
func (u descent) Apply(p, g []float32, slots [][]float32) {
	for i := range p {
		slots[0][i] = u.momentum*slots[0][i] + g[i]
		p[i] -= u.rate * slots[0][i]
	}
}

func empty(in map[string]*onnxio.Tensor) bool {
	for _, t := range in {
		if t.Size() == 0 {
			return true
		}
	}
	return false
}

func stateOf(c *draw.Training, tr *engine.Trainer) state {
	s := state{"loss": tr.Output(c.Loss).Clone()}
	m := weightsOf(c)
	if err := tr.Export(m); err != nil {
		panic(err)
	}
	for _, w := range m.Graph.Initializers {
		if slices.Contains(c.Params, w.Name) || slices.Contains(tr.Running(), w.Name) {
			s["weight "+w.Name] = w
		}
	}
	for _, name := range c.Params {
		if g, err := tr.Gradient(name); err == nil {
			s["gradient "+name] = g
		}
	}
	return s
}

// weightsOf is the model with a list of initializers of its own.
func weightsOf(c *draw.Training) *onnxio.Model {
	m, g := *c.Model, *c.Model.Graph
	m.Graph = &g
	g.Initializers = slices.Clone(g.Initializers)
	return &m
}

// finite reports whether all numbers are.
func (s state) finite() bool {
	for _, t := range s {
		if !(largest(t) <= math.MaxFloat32) {
			return false
		}
	}
	return true
}

// largest is the largest absolute value; NaN is larger.
func largest(t *onnxio.Tensor) float64 {
	most := 0.0
	for _, v := range t.Float32s() {
		most = math.Max(most, math.Abs(float64(v)))
	}
	return most
}

func sameBits(a, b []state) error {
	for i, s := range a {
		for name, t := range s {
			if b[i][name] == nil || !bytes.Equal(t.Raw, b[i][name].Raw) {
				return fmt.Errorf("step %d: %s has other bits", i, name)
			}
		}
	}
	return nil
}

// near compares the states after each step. Where they part, trainings from weights that are moved by a few units in the
// last place say whether rounding explains it, as behind a maximum of equal numbers; that is shaky.
func near(c *draw.Training, got, want []state) (shaky bool, err error) {
	for i, s := range want {
		if !s.finite() {
			return shaky, nil
		}
		scale := 0.0
		for name, t := range s {
			if strings.HasPrefix(name, "gradient") {
				scale = max(scale, largest(t))
			}
		}
		for name, t := range s {
			if got[i][name] == nil && strings.HasPrefix(name, "gradient") {
				continue // a large one, used up by its update
			}
			tolerance := max(1e-3*max(largest(t), 1e-2*scale), 1e-6*(1+largest(s["loss"])))
			if apart(got[i][name], t) <= tolerance {
				continue
			}
			if !shakes(c, want, i, name, apart(got[i][name], t)) {
				return shaky, fmt.Errorf("step %d: %s: %w; it is up to %g, all gradients %g\n%s", i, name, farthest(got[i][name], t), largest(t), scale, c.Show(c.Runs[0]))
			}
			return true, nil
		}
	}
	return shaky, nil
}

// apart is the largest difference.
func apart(a, b *onnxio.Tensor) float64 {
	if a == nil || len(a.Raw) != len(b.Raw) {
		return math.Inf(1)
	}
	most := 0.0
	for i, v := range b.Float32s() {
		most = math.Max(most, math.Abs(float64(a.Float32s()[i])-float64(v)))
	}
	return most
}

func farthest(a, b *onnxio.Tensor) error {
	if a == nil || len(a.Raw) != len(b.Raw) {
		return errors.New("one trainer has it, the other does not")
	}
	at, most := 0, -1.0
	for i, v := range b.Float32s() {
		if d := math.Abs(float64(a.Float32s()[i]) - float64(v)); d > most || math.IsNaN(d) {
			at, most = i, d
		}
	}
	return fmt.Errorf("[%d] is %g, want %g (of %v)", at, a.Float32s()[at], b.Float32s()[at], b.Dims)
}

// shakes reports whether a reference training whose inputs are moved a little moves that far as well.
func shakes(c *draw.Training, want []state, step int, name string, distance float64) bool {
	for try := range 4 {
		moved := *c
		moved.Case = &draw.Case{Model: weightsOf(c)}
		for i, w := range moved.Model.Graph.Initializers {
			if slices.Contains(c.Params, w.Name) {
				moved.Model.Graph.Initializers[i] = jitter(w, uint32(try))
			}
		}
		for _, in := range c.Runs {
			other := map[string]*onnxio.Tensor{}
			for k, t := range in {
				if other[k] = t; t.Type == onnxio.Float {
					other[k] = jitter(t, uint32(try))
				}
			}
			moved.Runs = append(moved.Runs, other)
		}
		got, _, _ := trainDrawn(&moved, moved.Runs, engine.TrainOptions{Reference: true}, 1)
		if len(got) <= step || got[step][name] == nil || !(apart(got[step][name], want[step][name]) < distance/8) {
			return true
		}
	}
	return false
}

// jitter moves each number by up to 1e-5 of itself.
func jitter(t *onnxio.Tensor, seed uint32) *onnxio.Tensor {
	out := t.Clone()
	out.Name = t.Name
	r := 2*seed + 12345
	for i, v := range out.Float32s() {
		r = r*1664525 + 1013904223
		out.Float32s()[i] = v * (1 + 1e-5*(float32(r>>16)/32768-1))
	}
	return out
}

// slope holds the gradient of the first step against the loss on both sides: along the gradient, the loss rises by the
// gradient's length. Kinks and rounding spoil some widths; two that are straight and disagree are a fault.
func slope(c *draw.Training, n *trainedSteps) error {
	i := slices.IndexFunc(c.Runs, func(in map[string]*onnxio.Tensor) bool { return !empty(in) })
	if i < 0 {
		return nil
	}
	runs := c.Runs[i : i+1]
	still := engine.TrainOptions{Update: descent{}} // learns nothing
	at, refused, err := trainDrawn(c, runs, still, 1)
	if refused != nil || err != nil || len(at) == 0 || !at[0].finite() {
		return err
	}
	length := 0.0
	for name, g := range at[0] {
		if strings.HasPrefix(name, "gradient") {
			for _, v := range g.Float32s() {
				length += float64(v) * float64(v)
			}
		}
	}
	length = math.Sqrt(length)
	loss := float64(at[0]["loss"].Float32s()[0])
	var found []float64
	for _, width := range []float64{1e-2, 3e-2, 3e-3, 1e-1} {
		noise := 3e-6 * (1 + math.Abs(loss)) / width
		if !(length > 20*noise) {
			break
		}
		up, okUp := lossAt(c, runs, at[0], width/length)
		down, okDown := lossAt(c, runs, at[0], -width/length)
		if !okUp || !okDown {
			break
		}
		if rise := (up - down) / (2 * width); math.Abs(rise-length) <= 0.1*length+noise {
			n.Slopes++
			return nil
		} else if bend := (up - 2*loss + down) / width; math.Abs(bend) <= 0.02*length+noise {
			found = append(found, rise)
		}
	}
	if len(found) < 2 {
		n.Flat++
		return nil
	}
	return fmt.Errorf("the gradient has length %g, along it the loss rises by %g\n%s", length, found, c.Show(runs[0]))
}

// lossAt is the loss where the weights are moved along their gradients.
func lossAt(c *draw.Training, runs []map[string]*onnxio.Tensor, at state, by float64) (loss float64, ok bool) {
	moved := *c
	moved.Case = &draw.Case{Model: weightsOf(c), Runs: runs}
	for i, w := range moved.Model.Graph.Initializers {
		g := at["gradient "+w.Name]
		if g == nil {
			continue
		}
		w = w.Clone()
		w.Name = c.Model.Graph.Initializers[i].Name
		for k, v := range g.Float32s() {
			w.Float32s()[k] += float32(by * float64(v))
		}
		moved.Model.Graph.Initializers[i] = w
	}
	got, _, _ := trainDrawn(&moved, runs, engine.TrainOptions{Update: descent{}, Reference: true}, 1)
	if len(got) == 0 {
		return 0, false
	}
	return float64(got[0]["loss"].Float32s()[0]), got[0].finite()
}
