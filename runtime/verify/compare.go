package verify

import (
	"context"
	"fmt"
	"math"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime"
)

// Difference is how far tensors are from those they are compared to.
type Difference struct {
	MaxAbs float64 `json:"max_abs"` // largest |a-b|
	MaxRel float64 `json:"max_rel"` // MaxAbs by the largest |b|
	Scale  float64 `json:"scale"`   // largest |b|
	Odd    int     `json:"odd"`     // elements of which one is NaN or infinite and the other is not the same
}

// Allowed is the largest MaxAbs that a tolerance lets pass: relative to the largest number when that
// is above 1, else absolute.
func (d Difference) Allowed(tolerance float64) float64 { return tolerance * math.Max(1, d.Scale) }

// Within says that nothing differs by more than what tolerance allows.
func (d Difference) Within(tolerance float64) bool {
	return d.Odd == 0 && d.MaxAbs <= d.Allowed(tolerance)
}

// Add takes two tensors of one shape and type into account; another shape or type is an error.
func (d *Difference) Add(a, b *onnxio.Tensor) error {
	if a == nil || b == nil {
		return fmt.Errorf("one of the two is missing")
	}
	if a.Type != b.Type || fmt.Sprint(a.Dims) != fmt.Sprint(b.Dims) {
		return fmt.Errorf("%s %v against %s %v", a.Type, a.Dims, b.Type, b.Dims)
	}
	x, err := floats(a)
	if err != nil {
		return err
	}
	y, err := floats(b)
	if err != nil {
		return err
	}
	for i := range x {
		switch {
		case x[i] == y[i] || math.IsNaN(x[i]) && math.IsNaN(y[i]):
		case math.IsNaN(x[i]+y[i]) || math.IsInf(x[i]-y[i], 0):
			d.Odd++
			continue
		default:
			d.MaxAbs = math.Max(d.MaxAbs, math.Abs(x[i]-y[i]))
		}
		if !math.IsNaN(y[i]) && !math.IsInf(y[i], 0) {
			d.Scale = math.Max(d.Scale, math.Abs(y[i]))
		}
	}
	if d.Scale > 0 {
		d.MaxRel = d.MaxAbs / d.Scale
	}
	return nil
}

// floats are the elements as float64.
func floats(t *onnxio.Tensor) ([]float64, error) {
	switch t.Type {
	case onnxio.Float:
		return widened[float32](t), nil
	case onnxio.Double:
		return widened[float64](t), nil
	case onnxio.Int8:
		return widened[int8](t), nil
	case onnxio.Int16:
		return widened[int16](t), nil
	case onnxio.Int32:
		return widened[int32](t), nil
	case onnxio.Int64:
		return widened[int64](t), nil
	case onnxio.Uint8, onnxio.Bool:
		return widened[uint8](t), nil
	case onnxio.Uint16:
		return widened[uint16](t), nil
	case onnxio.Uint32:
		return widened[uint32](t), nil
	case onnxio.Uint64:
		return widened[uint64](t), nil
	}
	return nil, &onnxio.UnsupportedError{Op: "verify", Reason: fmt.Sprintf("tensors of %s are not compared",
		t.Type)}
}

func widened[T interface {
	float32 | float64 | int8 | int16 | int32 | int64 | uint8 | uint16 | uint32 | uint64
}](t *onnxio.Tensor) []float64 {
	out := make([]float64, t.Size())
	for i, v := range onnxio.Data[T](t) {
		out[i] = float64(v)
	}
	return out
}

// Pair is the comparison of two engines.
type Pair struct {
	A runtime.Engine `json:"a"`
	B runtime.Engine `json:"b"`
	Difference
	Labels int  `json:"labels"` // rows of [N,classes] outputs, 0 when there are none
	Agree  int  `json:"labels_agree"`
	OK     bool `json:"ok"`
}

// Engines compares sessions of one model, each with each, batch after batch.
type Engines struct {
	Tolerance float64
	Pairs     []Pair

	sessions []runtime.Session
}

// New compares the sessions.
func New(tolerance float64, sessions ...runtime.Session) *Engines {
	e := &Engines{Tolerance: tolerance, sessions: sessions}
	for i, a := range sessions {
		for _, b := range sessions[i+1:] {
			e.Pairs = append(e.Pairs, Pair{A: a.Engine(), B: b.Engine(), OK: true})
		}
	}
	return e
}

// OK says that no pair has parted.
func (e *Engines) OK() bool {
	for _, p := range e.Pairs {
		if !p.OK {
			return false
		}
	}
	return true
}

// Run gives one set of inputs to every session and compares what comes out.
func (e *Engines) Run(ctx context.Context, in map[string]*onnxio.Tensor) error {
	outs := make([]map[string]*onnxio.Tensor, len(e.sessions))
	for i, s := range e.sessions {
		var err error
		if outs[i], err = s.Run(ctx, in); err != nil {
			return fmt.Errorf("engine %s: %w", s.Engine(), err)
		}
	}
	at := 0
	for i := range outs {
		for j := i + 1; j < len(outs); j++ {
			if err := e.Pairs[at].add(e.sessions[i].Outputs(), outs[i], outs[j], e.Tolerance); err != nil {
				return err
			}
			at++
		}
	}
	return nil
}

func (p *Pair) add(outputs []*onnxio.ValueInfo, a, b map[string]*onnxio.Tensor, tolerance float64) error {
	for _, v := range outputs {
		if err := p.Difference.Add(a[v.Name], b[v.Name]); err != nil {
			return fmt.Errorf("output %q, %s against %s: %w", v.Name, p.A, p.B, err)
		}
	}
	if len(outputs) > 0 {
		n, agree := labels(a[outputs[0].Name], b[outputs[0].Name])
		p.Labels, p.Agree = p.Labels+n, p.Agree+agree
	}
	p.OK = p.Within(tolerance)
	return nil
}

// labels compares the largest output of each row.
func labels(a, b *onnxio.Tensor) (n, agree int) {
	if a.Type != onnxio.Float || len(a.Dims) != 2 || a.Dims[1] < 2 {
		return 0, 0
	}
	cols := int(a.Dims[1])
	for n = range int(a.Dims[0]) {
		if argmax(a.Float32s()[n*cols:(n+1)*cols]) == argmax(b.Float32s()[n*cols:(n+1)*cols]) {
			agree++
		}
	}
	return int(a.Dims[0]), agree
}

func argmax(row []float32) int {
	best := 0
	for i, v := range row {
		if v > row[best] {
			best = i
		}
	}
	return best
}
