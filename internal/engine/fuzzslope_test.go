package engine_test

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/cnnkit/cnnkit/internal/conform/draw"
	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/onnxio"
)

// slope holds the gradient of the first step against central differences of the loss, along the gradient and
// along a direction that moves every parameter, those without a gradient too.
//
// The differences are those of the same model in float64, on reference kernels: in float32 their rounding
// hides a tenth of a gradient, and steps wide enough to drown it out reach the next kink of a maximum or a
// Clip. In float64 a step of 1e-6 is off by some 1e-9. Where two steps disagree with each other, a kink lies
// between them, and they say nothing; where two agree and the gradient does not, it is wrong. The gradient,
// of float32, may be off by 0.5% of its length: where a network amplifies, as LRN of a small bias before a
// softmax does, rounding is amplified with the rest.
func slope(c *draw.Training, n *trainedSteps) error {
	i := slices.IndexFunc(c.Runs, func(in map[string]*onnxio.Tensor) bool { return !empty(in) })
	if i < 0 {
		return nil
	}
	at, refused, err := trainDrawn(c, c.Runs[i:i+1], engine.TrainOptions{}, 1)
	if refused != nil || err != nil || len(at) == 0 || !at[0].finite() {
		return err
	}
	gradient := directionOf(c, func(name string) []float64 { return wide(at[0]["gradient "+name]) })
	length := math.Sqrt(gradient.dot(gradient))
	w, loss := newWide(c, c.Runs[i]), float64(at[0]["loss"].Float32s()[0])
	if base, ok := w.loss(nil, 0); !ok || math.Abs(base-loss) > 1e-3*(1+math.Abs(loss)) {
		n.Kinked++
		return nil
	}
	directions := []direction{gradient.mixed(c)}
	if length > 0 {
		directions = append(directions, gradient.unit())
	}
	for _, d := range directions {
		want := gradient.dot(d)
		rises, straight := w.rises(d, want, 0.005*length+1e-6*(1+math.Abs(loss)))
		switch {
		case !straight:
			n.Kinked++
			return nil
		case len(rises) > 0:
			return fmt.Errorf("by its gradient (of length %g) the loss should rise by %g, it rises by %g\n%s",
				length, want, rises, c.Show(c.Runs[i]))
		}
	}
	n.Slopes++
	return nil
}

// direction is a vector in the space of the parameters, by their names.
type direction map[string][]float64

// directionOf asks for the part of each parameter; nil stands for zeros.
func directionOf(c *draw.Training, part func(name string) []float64) direction {
	d := direction{}
	for _, w := range c.Model.Graph.Initializers {
		if slices.Contains(c.Params, w.Name) {
			if d[w.Name] = part(w.Name); d[w.Name] == nil {
				d[w.Name] = make([]float64, w.Size())
			}
		}
	}
	return d
}

func (d direction) dot(e direction) (sum float64) {
	for name, part := range d {
		for i, v := range part {
			sum += v * e[name][i]
		}
	}
	return sum
}

// unit has length 1.
func (d direction) unit() direction {
	length := math.Sqrt(d.dot(d))
	out := direction{}
	for name, part := range d {
		for _, v := range part {
			out[name] = append(out[name], v/length)
		}
	}
	return out
}

// mixed moves each parameter as far, along its gradient and at random, and has length 1.
func (d direction) mixed(c *draw.Training) direction {
	mixed := directionOf(c, func(name string) []float64 {
		h := fnv.New64()
		h.Write([]byte(name))
		r := rand.New(rand.NewPCG(h.Sum64(), 1))
		along := direction{name: d[name]}
		length, out := math.Sqrt(along.dot(along)), make([]float64, len(d[name]))
		for i, v := range d[name] {
			out[i] = r.NormFloat64() / math.Sqrt(float64(len(out)))
			if length > 0 {
				out[i] += v / length
			}
		}
		return out
	})
	return mixed.unit()
}

// wideModel is a model in float64 with the inputs of a run.
type wideModel struct {
	c  *draw.Training
	m  *onnxio.Model
	in map[string]*onnxio.Tensor
}

// newWide makes float64 of all float32 in a model and its inputs.
func newWide(c *draw.Training, in map[string]*onnxio.Tensor) *wideModel {
	m := weightsOf(c)
	w, g := &wideModel{c, m, map[string]*onnxio.Tensor{}}, m.Graph
	for name, t := range in {
		w.in[name] = widened(t)
	}
	var narrow []string // scales of Resize are float32, whatever it resizes
	for _, n := range g.Nodes {
		if n.OpType == "Resize" || n.OpType == "Upsample" {
			narrow = append(narrow, n.Inputs[1:]...)
		}
	}
	for i, t := range g.Initializers {
		if !slices.Contains(narrow, t.Name) {
			g.Initializers[i] = widened(t)
		}
	}
	declared := func(list []*onnxio.ValueInfo) (out []*onnxio.ValueInfo) {
		for _, v := range list {
			if v.Type.Elem == onnxio.Float {
				typ := *v.Type
				typ.Elem = onnxio.Double
				v = &onnxio.ValueInfo{Name: v.Name, Type: &typ}
			}
			out = append(out, v)
		}
		return out
	}
	g.Inputs, g.Outputs = declared(g.Inputs), declared(g.Outputs[:1]) // the loss alone
	return w
}

// widened is t in float64 where it is of float32.
func widened(t *onnxio.Tensor) *onnxio.Tensor {
	if t.Type != onnxio.Float {
		return t
	}
	out := onnxio.NewTensor(onnxio.Double, t.Dims...)
	out.Name = t.Name
	copy(onnxio.Data[float64](out), wide(t))
	return out
}

// wide are the numbers of a float32 tensor, nil of nil.
func wide(t *onnxio.Tensor) []float64 {
	if t == nil {
		return nil
	}
	out := make([]float64, 0, t.Size())
	for _, v := range t.Float32s() {
		out = append(out, float64(v))
	}
	return out
}

// loss is the loss where the parameters are moved by so much along d; ok is false where the model does not
// run in float64, or the loss is no number.
func (w *wideModel) loss(d direction, by float64) (loss float64, ok bool) {
	m := weightsOf(&draw.Training{Case: &draw.Case{Model: w.m}})
	for i, t := range m.Graph.Initializers {
		part := d[t.Name]
		if part == nil {
			continue
		}
		moved := t.Clone()
		moved.Name = t.Name
		for k, v := range part {
			onnxio.Data[float64](moved)[k] += by * v
		}
		m.Graph.Initializers[i] = moved
	}
	p := newPath(&draw.Case{Model: m}, engine.Options{Reference: true})
	out, err := p.run(w.in)
	if err != nil || len(out) == 0 || out[0].Size() != 1 || out[0].Type != onnxio.Double {
		return 0, false
	}
	loss = onnxio.Data[float64](out[0])[0]
	return loss, !math.IsNaN(loss) && !math.IsInf(loss, 0)
}

// rises compares the slopes of the loss at several steps with the wanted one. Where one is near, straight is
// true and there is none to show; where two agree with each other instead, these are the loss's own.
func (w *wideModel) rises(d direction, want, tolerance float64) (found []float64, straight bool) {
	for _, step := range []float64{1e-4, 1e-5, 1e-6, 1e-3} {
		up, okUp := w.loss(d, step)
		down, okDown := w.loss(d, -step)
		if !okUp || !okDown {
			return nil, false
		}
		rise := (up - down) / (2 * step)
		if math.Abs(rise-want) <= tolerance {
			return nil, true
		}
		for _, other := range found {
			if math.Abs(rise-other) <= tolerance/4 {
				return []float64{rise, other}, true
			}
		}
		found = append(found, rise)
	}
	return nil, false
}
