package engine

import (
	"fmt"

	"github.com/cnnkit/cnnkit/onnxio"
)

// plain copies the numbers of a buffer that has s's form into a tensor of s's shape.
func (s *stored) plain(b *buffer) *onnxio.Tensor {
	out := onnxio.NewTensor(onnxio.Float, s.dims...)
	out.Name = s.name
	if s.pack != nil {
		s.pack.conv.Unpack(out.Float32s(), b.data)
	} else {
		copy(out.Float32s(), b.data)
	}
	return out
}

// fill is the reverse of plain.
func (s *stored) fill(b *buffer, t *onnxio.Tensor) error {
	if t.Type != onnxio.Float || !equalDims(t.Dims, s.dims) {
		return fmt.Errorf("%q is %v %v; here it is float32 %v", s.name, t.Type, t.Dims, s.dims)
	}
	if s.pack != nil {
		s.pack.conv.Pack(b.data, t.Float32s())
	} else {
		copy(b.data, t.Float32s())
	}
	return nil
}

// Export puts the current parameters and running statistics into m's initializers of the same name, as new
// tensors. m is the training graph's model or the one it was made from.
func (t *Trainer) Export(m *onnxio.Model) error {
	found := 0
	for i, init := range m.Graph.Initializers {
		s := t.params[init.Name]
		if s == nil {
			continue
		}
		found++
		if !equalDims(init.Dims, s.dims) {
			return fmt.Errorf("export: %q is %v in the model and %v in training", s.name, init.Dims, s.dims)
		}
		m.Graph.Initializers[i] = s.plain(s.buf)
	}
	if found != len(t.params) {
		return fmt.Errorf("export: the model has %d of the %d parameters", found, len(t.params))
	}
	return nil
}

// Import takes parameters and running statistics from m's initializers of the same name.
func (t *Trainer) Import(m *onnxio.Model) error {
	for _, name := range sortedKeys(t.params) {
		init := m.Graph.Initializer(name)
		if init == nil {
			return fmt.Errorf("import: the model has no %q", name)
		}
		if err := t.params[name].fill(t.params[name].buf, init); err != nil {
			return fmt.Errorf("import: %w", err)
		}
	}
	return nil
}

// Running lists the running statistics, sorted.
func (t *Trainer) Running() []string {
	var out []string
	for _, name := range sortedKeys(t.params) {
		if !t.params[name].trained {
			out = append(out, name)
		}
	}
	return out
}

// Statistic is the running statistic of a name in Running: a view that the next Step overwrites.
func (t *Trainer) Statistic(name string) []float32 {
	s := t.params[name]
	return s.buf.data[:s.size()] // never packed: no convolution reads it
}

// Gradient is the gradient of a parameter in the last Step. A trainer with an optimiser does not keep
// those of large parameters.
func (t *Trainer) Gradient(name string) (*onnxio.Tensor, error) {
	s := t.params[name]
	if t.last == nil || s == nil || t.last.grads[name] == nil {
		return nil, fmt.Errorf(
			"no gradient of %q: no step has been made, it is not trained, or it was used up", name)
	}
	v := t.last.grads[name]
	if v.pack != nil {
		return s.plain(v.buf), nil
	}
	return v.tensor().Clone(), nil
}

// Slot is the optimiser's state value i of a parameter.
func (t *Trainer) Slot(name string, i int) (*onnxio.Tensor, error) {
	s, err := t.slots(name, i)
	if err != nil {
		return nil, err
	}
	return s.plain(s.slots[i]), nil
}

// SetSlot restores the optimiser's state value i of a parameter.
func (t *Trainer) SetSlot(name string, i int, state *onnxio.Tensor) error {
	s, err := t.slots(name, i)
	if err != nil {
		return err
	}
	return s.fill(s.slots[i], state)
}

func (t *Trainer) slots(name string, i int) (*stored, error) {
	s := t.params[name]
	if s == nil || !s.trained || t.opt.Update == nil || i < 0 || i >= t.opt.Update.Slots() {
		return nil, fmt.Errorf("no optimiser state %d of %q", i, name)
	}
	t.makeSlots(s)
	return s, nil
}

func (t *Trainer) makeSlots(s *stored) {
	for len(s.slots) < t.opt.Update.Slots() {
		s.slots = append(s.slots, persistent(s.size()))
	}
}

// piece is a range of one parameter that one call of Update.Apply takes.
type piece struct {
	s      *stored
	dv     *value
	rule   Update
	lo, hi int
}

// earlyUpdates says which parameters are updated in the middle of the backward pass: large ones, as
// soon as their gradient is there and nobody reads them any more. The gradient is in the cache then,
// and its memory is free again.
type earlyUpdates struct {
	at map[int][]string // after the op of this index
	// streamed are the parameters whose gradient the op of this index would compute: gradient and update are
	// made together instead, see lowerStreamed.
	streamed map[int]*stored
	names    map[string]bool
	late     []string // the others, updated together at the end
}

func (e earlyUpdates) has(name string) bool { return e.names[name] }

// earlySize is the number of floats from which on a parameter is updated early.
const earlySize = 1 << 16

func (t *Trainer) planEarly(g *graph, grads map[string]*value) earlyUpdates {
	e := earlyUpdates{at: map[int][]string{}, streamed: map[int]*stored{}, names: map[string]bool{}}
	last := map[*value]int{}
	for i, o := range g.ops {
		for _, v := range append(o.reads(), o.out...) {
			if v != nil {
				last[v] = i
			}
		}
	}
	for _, name := range t.names {
		if grads[name] == nil {
			continue
		}
		if t.opt.Update == nil || t.opt.Exchange != nil || t.params[name].size() < earlySize {
			e.late = append(e.late, name)
			continue
		}
		v := g.values[name]
		at := max(last[grads[name]], last[v])
		for _, twin := range v.twins {
			at = max(at, last[twin])
		}
		e.names[name] = true
		if o := g.ops[at]; !t.opt.Reference && streams(o, grads[name], v) {
			e.streamed[at] = v.store
			continue
		}
		e.at[at] = append(e.at[at], name)
	}
	return e
}

// lowerUpdate appends the optimiser's step for some parameters: all in one region, cut into chunks of about
// flatChunk floats, small parameters together.
func (t *Trainer) lowerUpdate(l *lowering, grads map[string]*value, names []string) {
	if t.opt.Update == nil || len(names) == 0 {
		return
	}
	var chunks [][]piece
	var bufs []*buffer
	room := 0
	for _, name := range names {
		s, dv := t.params[name], grads[name]
		t.makeSlots(s)
		bufs = append(bufs, l.of(dv))
		for lo := 0; lo < s.size(); lo += flatChunk {
			p := piece{s, dv, t.rule(name), lo, min(s.size(), lo+flatChunk)}
			if n := p.hi - p.lo; len(chunks) == 0 || n > room {
				chunks, room = append(chunks, nil), flatChunk-n
			} else {
				room -= n
			}
			chunks[len(chunks)-1] = append(chunks[len(chunks)-1], p)
		}
	}
	s := l.add("update", len(chunks), bufs, func() func(int, int) {
		views := make([][][][]float32, len(chunks)) // chunk, piece, slot
		for i, pieces := range chunks {
			for _, p := range pieces {
				var slots [][]float32
				for _, b := range p.s.slots {
					slots = append(slots, b.data[p.lo:p.hi])
				}
				views[i] = append(views[i], slots)
			}
		}
		return func(chunk, _ int) {
			for i, p := range chunks[chunk] {
				p.rule.Apply(p.s.buf.data[p.lo:p.hi], p.dv.buf.data[p.lo:p.hi], views[chunk][i])
			}
		}
	})
	s.op = &op{node: updateNode, origin: "update"}
}
