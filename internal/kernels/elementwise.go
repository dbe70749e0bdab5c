package kernels

import "fmt"

// Broadcast says how the second operand of a Stage goes with a map [N,C,H,W].
type Broadcast int

// The classes of broadcast.
const (
	Same            Broadcast = iota // a blocked map of the same shape
	PerChannel                       // [C] or [1,C,1,1], plain
	PerImageChannel                  // [N,C] or [N,C,1,1], plain
	PerPixel                         // [N,C,1,1], blocked
	PerImage                         // [N] or [N,1,1,1], plain
	Single                           // one number
)

// Stage is one step of an elementwise pass: a Map, or an Operation with a second operand.
type Stage struct {
	Map       Map
	Binary    bool // Operation instead of Map
	Operation Operation
	Broadcast Broadcast
	Operand   int     // which of the operands is the second
	Value     float32 // of Single without an operand: Operand is negative then
}

// MapStage is a stage of one operand.
func MapStage(m Map) Stage { return Stage{Map: m} }

// PairStage is a stage whose second operand is the given one.
func PairStage(o Operation, b Broadcast, operand int) Stage {
	return Stage{Binary: true, Operation: o, Broadcast: b, Operand: operand}
}

// NumberStage is a stage with a constant.
func NumberStage(o Operation, v float32) Stage {
	return Stage{Binary: true, Operation: o, Broadcast: Single, Operand: -1, Value: v}
}

// Elementwise is a planned pass of stages over a blocked map: y is the last stage's, each stage works on what
// the one before gave, a strip at a time, so that a strip stays in the first-level cache.
type Elementwise struct {
	y, x     Layout
	operands []Layout // of Same and PerPixel
	stages   []Stage
	units    int  // rows of a chunk
	zero     bool // empty lanes come out as zeros
}

// strip is the number of floats that a stage leaves for the next.
const strip = 4096

// NewElementwise plans the stages from x to y. Layouts of operands are looked at for Same and PerPixel alone.
// Halos may differ; lanes may not.
func NewElementwise(y, x Layout, stages []Stage, operands ...Layout) (*Elementwise, error) {
	e := &Elementwise{y: y, x: x, operands: operands, stages: stages, units: y.H, zero: true}
	if !y.sameShape(x) || y.Lanes != x.Lanes || len(stages) == 0 {
		return nil, fmt.Errorf("kernels: elementwise from %+v to %+v in %d stages", x, y, len(stages))
	}
	for _, s := range stages {
		if err := e.check(s); err != nil {
			return nil, err
		}
		e.zero = e.zero && s.keepsZero()
	}
	for e.units > 1 && e.units*y.W*y.Lanes > flatFloats/len(stages) {
		e.units = (e.units + 1) / 2
	}
	return e, nil
}

func (e *Elementwise) check(s Stage) error {
	if !s.Binary {
		return nil
	}
	if e.y.Lanes < narrowBlock && s.Broadcast != Same && s.Broadcast != PerImage && s.Broadcast != Single {
		return fmt.Errorf("kernels: numbers per channel for maps of %d lanes", e.y.Lanes)
	}
	if s.Broadcast != Same && s.Broadcast != PerPixel {
		return nil
	}
	if s.Operand >= len(e.operands) {
		return fmt.Errorf("kernels: elementwise without a layout of operand %d", s.Operand)
	}
	l, want := e.operands[s.Operand], e.y
	if s.Broadcast == PerPixel {
		want.H, want.W = 1, 1
	}
	if !l.sameShape(want) || l.Lanes != e.y.Lanes {
		return fmt.Errorf("kernels: elementwise of %+v with %+v", e.y, l)
	}
	return nil
}

// keepsZero reports whether lanes that are zero stay zero, those of the second operand
// being zero, or one for Div.
func (s Stage) keepsZero() bool {
	switch {
	case !s.Binary:
		return s.Map.KeepsZero()
	case s.Operation == OpDivInto:
		return false
	case s.Operation == OpDiv:
		return s.Broadcast != Same
	}
	return true
}

func (e *Elementwise) parts() int { return (e.y.H + e.units - 1) / e.units }

// Chunks is the number of chunks of Run: some rows of one channel block of an image each.
func (e *Elementwise) Chunks() int { return e.y.N * e.y.Blocks() * e.parts() }

// Run computes a part of y, halo included. y may be x or an operand of Same if the layouts are the same.
func (e *Elementwise) Run(chunk int, y, x []float32, operands ...[]float32) {
	part, plane := chunk%e.parts(), chunk/e.parts()
	n, b := plane/e.y.Blocks(), plane%e.y.Blocks()
	lo, hi := part*e.units, min(e.y.H, (part+1)*e.units)
	rows, width := hi-lo, e.y.W*e.y.Lanes
	if e.flat() {
		rows, width = 1, rows*width
	}
	for h := lo; h < lo+rows; h++ {
		to, from := y[e.y.at(n, b, h, 0):][:width], x[e.x.at(n, b, h, 0):][:width]
		for at := 0; at < width; at += strip {
			part := to[at:min(at+strip, width)]
			src := from[at:][:len(part)]
			for i := range e.stages {
				e.stage(&e.stages[i], n, b, h, at, part, src, operands)
				src = part
			}
			if !e.zero && e.y.real(b) < e.y.Lanes {
				clearLanes(part, e.y.real(b), e.y.Lanes)
			}
		}
	}
	e.y.clearHalo(y, n, b, lo, hi)
}

// flat reports whether rows follow one another without a gap in every map.
func (e *Elementwise) flat() bool {
	if e.y.Halo != 0 || e.x.Halo != 0 {
		return false
	}
	for _, s := range e.stages {
		if s.Binary && s.Broadcast == Same && e.operands[s.Operand].Halo != 0 {
			return false
		}
	}
	return true
}

// stage runs one stage over a strip that begins at float at of row h.
func (e *Elementwise) stage(s *Stage, n, b, h, at int, to, from []float32, operands [][]float32) {
	if !s.Binary {
		s.Map.Forward(to, from)
		return
	}
	if s.Broadcast == Same {
		l := &e.operands[s.Operand]
		s.Operation.Pair(to, from, operands[s.Operand][l.at(n, b, h, 0)+at:])
		return
	}
	var lanes [Block]float32
	e.lanes(s, n, b, &lanes, operands)
	s.Operation.Lanes(to, from, &lanes)
}

// lanes fills the second operand of a stage for block b of image n: zero in empty lanes, one for Div.
func (e *Elementwise) lanes(s *Stage, n, b int, lanes *[Block]float32, operands [][]float32) {
	if s.Operation == OpDiv {
		*lanes = spread(1)
	}
	c := e.y.real(b)
	to := lanes[:c]
	switch {
	case s.Operand < 0:
		fill(to, s.Value)
	case s.Broadcast == Single:
		fill(to, operands[s.Operand][0])
	case s.Broadcast == PerImage:
		fill(to, operands[s.Operand][n])
	case s.Broadcast == PerChannel:
		copy(to, operands[s.Operand][b*e.y.Lanes:])
	case s.Broadcast == PerImageChannel:
		copy(to, operands[s.Operand][n*e.y.C+b*e.y.Lanes:])
	case s.Broadcast == PerPixel:
		copy(to, operands[s.Operand][e.operands[s.Operand].at(n, b, 0, 0):])
	}
	switch e.y.Lanes {
	case Block:
	case narrowBlock:
		copy(lanes[narrowBlock:], lanes[:narrowBlock])
	default: // one number for all lanes: C lanes do not go into 16
		*lanes = spread(lanes[0])
	}
}

// clearLanes zeroes lanes from first on of pixels.
func clearLanes(x []float32, first, lanes int) {
	for i := 0; i < len(x); i += lanes {
		clear(x[i+first : i+lanes])
	}
}

// Backward computes a part of dx = dy*f'(v) for maps of one shape, v the input or the output as m.OfOutput
// says; dx has the layout of y, dy that of x, and v that of operand 0.
func (e *Elementwise) Backward(chunk int, m Map, dx, dy, v []float32) {
	part, plane := chunk%e.parts(), chunk/e.parts()
	n, b := plane/e.y.Blocks(), plane%e.y.Blocks()
	lo, hi := part*e.units, min(e.y.H, (part+1)*e.units)
	l, width := &e.operands[0], e.y.W*e.y.Lanes
	for h := lo; h < hi; h++ {
		m.Backward(dx[e.y.at(n, b, h, 0):][:width], dy[e.x.at(n, b, h, 0):], v[l.at(n, b, h, 0):])
	}
	e.y.clearHalo(dx, n, b, lo, hi)
}
