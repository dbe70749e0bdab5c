package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
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

// FuzzTrainer draws a model with a loss and trains it a few steps by the fast paths and by the reference
// kernels: losses, gradients, weights and running statistics stay together, and are the same bits for 1, 2
// and 3 threads. The gradient is held against differences of the loss in float64 (slope).
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
	Kinked         int // those of which the differences say nothing
	Halves         int // drawings of which a part runs in bf16
}

func (n *trainedSteps) add(m trainedSteps) {
	n.Steps += m.Steps
	n.Refused += m.Refused
	n.Shaky += m.Shaky
	n.Slopes += m.Slopes
	n.Kinked += m.Kinked
	n.Halves += m.Halves
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
	want, refused, err := trainDrawn(c, c.Runs, engine.TrainOptions{Update: momentum, Reference: true}, 1)
	if err != nil {
		return n, err
	}
	if refused != nil {
		n.Refused++
	}
	got, err := trainThreads(c, engine.TrainOptions{Update: momentum}, len(want), refused)
	if err != nil {
		return n, err
	}
	shaky, err := near(c, got, want)
	if err != nil {
		return n, err
	}
	if n.Steps = len(want); shaky {
		n.Shaky++
	}
	half, err := trainThreads(c, engine.TrainOptions{Update: momentum}.WithTwins(), len(want), refused)
	if err != nil {
		return n, fmt.Errorf("bf16: %w", err)
	}
	if sameBits(got, half) != nil && want[0].finite() {
		n.Halves++
		if err := nearHalf(c, half[0], want[0]); err != nil {
			return n, fmt.Errorf("bf16: %w", err)
		}
	}
	return n, slope(c, &n)
}

// trainThreads trains by 1, 2 and 3 threads, which give the same bits: as many steps as the reference, which
// refuses the next for a reason or not.
func trainThreads(c *draw.Training, opt engine.TrainOptions, steps int, refused error) (first []state,
	err error) {
	for threads := 1; threads <= 3; threads++ {
		got, err, fault := trainDrawn(c, c.Runs, opt, threads)
		switch {
		case fault != nil:
			return nil, fault
		case (err == nil) != (refused == nil), len(got) != steps &&
			!opt.BF16: // in bf16 another step may overflow
			return nil, fmt.Errorf("%d threads: step %d: the fast paths say %v, the reference %v\n%s",
				threads, len(got), err, refused, c.Show(c.Runs[0]))
		case threads == 1:
			first = got
		default:
			if err := sameBits(first, got); err != nil {
				return nil, fmt.Errorf("%d threads instead of 1: %w\n%s", threads, err, c.Show(c.Runs[0]))
			}
		}
	}
	return first, nil
}

// trainDrawn trains one step for each batch that has elements, until the reference would refuse one or a
// number of the state is none; refused is why. A panic is err.
func trainDrawn(c *draw.Training, runs []map[string]*onnxio.Tensor, opt engine.TrainOptions,
	threads int) (out []state, refused, err error) {
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

var momentum = descent{0.02, 0.5}

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
	if len(a) != len(b) {
		return fmt.Errorf("%d steps, and %d", len(a), len(b))
	}
	for i, s := range a {
		for name, t := range s {
			if b[i][name] == nil || !bytes.Equal(t.Raw, b[i][name].Raw) {
				return fmt.Errorf("step %d: %s has other bits", i, name)
			}
		}
	}
	return nil
}

// near compares the states after each step. Both paths compute in float32, and round sums in another order:
// of 600 drawings none is off by 1e-5 of a tensor's largest number, a tenth of what is allowed. A gradient
// whose terms cancel is as far off as these, so that it counts for at least a hundredth of the largest
// gradient, and for a hundredth of the loss. Where the paths part by more, trainings from numbers that are
// moved by up to 1e-5 of themselves say whether rounding explains it, as behind a maximum of equal numbers;
// that is shaky, and the next step begins from other weights.
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
			tolerance := 1e-4 * max(largest(t), 1e-2*max(scale, 1+largest(s["loss"])))
			if apart(got[i][name], t) <= tolerance {
				continue
			}
			if !shakes(c, want, i, name, apart(got[i][name], t)) {
				return shaky, fmt.Errorf("step %d: %s: %w; it is up to %g, all gradients %g\n%s",
					i, name, farthest(got[i][name], t), largest(t), scale, c.Show(c.Runs[0]))
			}
			shaky = true
		}
		if shaky {
			break
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

// nearHalf compares the first step in bf16 with the reference's: its loss, gradients and running
// statistics, by their norms.
//
// Maps in bf16 have 8 bits, so that a number is off by up to 1/512 of itself. A network of ten operators
// hands on some of these roundings, and amplifies them where it normalizes small deviations: what is allowed
// are 10% of the norm of all gradients, a quarter of one's and 3% of another value, or eight times as much as
// trainings move whose inputs and weights are off by 1/256 of themselves. A wrong channel, tap or stride is
// off by as much as the numbers are large. A maximum of two numbers that the rounding makes equal hands its
// gradient to the other one: of models with maxima only the loss and the statistics are compared.
func nearHalf(c *draw.Training, got, want state) error {
	moved := []state{}
	gradients := func(s state) []float64 { return s.gradients(got) }
	all := gradients(want)
	compare := func(name string, share float64, part func(state) []float64) error {
		w := part(want)
		// terms may cancel, their roundings do not
		limit := share * (norm(w) + 1e-2*(1+largest(want["loss"])))
		d := norm(minus(part(got), w))
		for try := range uint32(4) {
			if d <= limit {
				return nil
			}
			if len(moved) <= int(try) {
				moved = append(moved, movedBy(c, 1./256, try, 1)...)
			}
			if len(moved) <= int(try) {
				return nil // so little makes the reference refuse
			}
			limit = max(limit, 8*norm(minus(part(moved[try]), w)))
		}
		if d <= limit {
			return nil
		}
		return fmt.Errorf("%s is %g away, of a norm of %g, all gradients' is %g; %g is allowed\n%s",
			name, d, norm(w), norm(all), limit, c.Show(c.Runs[0]))
	}
	maxima := slices.ContainsFunc(c.Model.Graph.Nodes, func(n *onnxio.Node) bool {
		return strings.Contains(n.OpType, "Max") || strings.Contains(n.OpType, "Min")
	})
	if err := compare("all gradients", 0.1, gradients); err != nil && !maxima {
		return err
	}
	for name := range want {
		if got[name] == nil || maxima && slices.Contains(c.Params, strings.TrimPrefix(name, "weight ")) {
			continue // used up, or behind a maximum
		}
		share, part := 0.03, func(s state) []float64 { return wide(s[name]) }
		if strings.HasPrefix(name, "gradient") {
			if share = 0.25; maxima || norm(part(want)) < 0.01*norm(all) {
				continue
			}
		}
		if err := compare(name, share, part); err != nil {
			return err
		}
	}
	return nil
}

// gradients are those that kept has as well, one after the other: large ones are used up by their update.
func (s state) gradients(kept state) (out []float64) {
	for _, name := range slices.Sorted(maps.Keys(kept)) {
		if strings.HasPrefix(name, "gradient") {
			out = append(out, wide(s[name])...)
		}
	}
	return out
}

func norm(v []float64) (sum float64) {
	for _, x := range v {
		sum += x * x
	}
	return math.Sqrt(sum)
}

// minus is a-b; where they are of different lengths, b.
func minus(a, b []float64) []float64 {
	out := slices.Clone(b)
	for i := range out {
		if len(a) == len(b) {
			out[i] = a[i] - b[i]
		}
	}
	return out
}

// shakes reports whether a reference training whose inputs are moved a little moves that far as well.
func shakes(c *draw.Training, want []state, step int, name string, distance float64) bool {
	for try := range uint32(4) {
		got := movedBy(c, 1e-5, try, len(c.Runs))
		if len(got) <= step || got[step][name] == nil ||
			!(apart(got[step][name], want[step][name]) < distance/8) {
			return true
		}
	}
	return false
}

// movedBy is a reference training of some steps whose inputs and weights are moved by so much of themselves.
func movedBy(c *draw.Training, by float32, try uint32, steps int) []state {
	moved := *c
	moved.Case = &draw.Case{Model: weightsOf(c)}
	for i, w := range moved.Model.Graph.Initializers {
		if slices.Contains(c.Params, w.Name) {
			moved.Model.Graph.Initializers[i] = jitter(w, by, try)
		}
	}
	for _, in := range c.Runs {
		other := map[string]*onnxio.Tensor{}
		for k, t := range in {
			if other[k] = t; t.Type == onnxio.Float {
				other[k] = jitter(t, by, try)
			}
		}
		moved.Runs = append(moved.Runs, other)
	}
	got, _, _ := trainDrawn(&moved, moved.Runs, engine.TrainOptions{Update: momentum, Reference: true}, 1)
	return got[:min(steps, len(got))]
}

// jitter moves each number by up to so much of itself.
func jitter(t *onnxio.Tensor, by float32, seed uint32) *onnxio.Tensor {
	out := t.Clone()
	out.Name = t.Name
	r := 2*seed + 12345
	for i, v := range out.Float32s() {
		r = r*1664525 + 1013904223
		out.Float32s()[i] = v * (1 + by*(float32(r>>16)/32768-1))
	}
	return out
}
