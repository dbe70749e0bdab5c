package kernels

// Expression is a function of one element that is composed of the routines of this package: one Go expression
// gives an operator its kernel, forward and backward, at every level.
//
//	kernels.Expression(func(x Term) Term { return x.Times(x.Of(FuncSoftplus).Of(FuncTanh)) }) // Mish
//
// It runs tile by tile, each intermediate value in the first-level cache: a routine of its own, as those
// in _gen are, keeps them in registers and is a few times as fast where the parts are cheap. The gradient
// is the chain rule over the same parts, each of which must have one. Bits are the same at every level,
// as those of the parts are.
func Expression(f func(x Term) Term) Map {
	e := &expression{steps: []part{{}}}
	e.result = f(Term{e, 0}).at
	if len(e.steps) > maxParts {
		panic("kernels: an expression of too many parts")
	}
	return Map{Function: funcExpression, expression: e}
}

// maxParts bounds the parts of an expression: their values lie on the stack, 1 KiB each.
const maxParts = 12

// Term is x, or a part of an expression of it.
type Term struct {
	e  *expression
	at int
}

// Of is a function of a term.
func (a Term) Of(f Function, parameters ...float32) Term { return a.OfMap(NewMap(f, parameters...)) }

// OfMap is a function with its parameters of a term, as Elu gives one.
func (a Term) OfMap(m Map) Term { return a.add(part{kind: partMap, m: m, a: a.at}) }

// Plus, Minus, Times and Over combine two terms.
func (a Term) Plus(b Term) Term  { return a.pair(OpAdd, b) }
func (a Term) Minus(b Term) Term { return a.pair(OpSub, b) }
func (a Term) Times(b Term) Term { return a.pair(OpMul, b) }
func (a Term) Over(b Term) Term  { return a.pair(OpDiv, b) }

// Scaled is a*c, Shifted a+c.
func (a Term) Scaled(c float32) Term {
	return a.add(part{kind: partScalar, operation: OpMul, c: c, a: a.at})
}
func (a Term) Shifted(c float32) Term {
	return a.add(part{kind: partScalar, operation: OpAdd, c: c, a: a.at})
}

func (a Term) pair(o Operation, b Term) Term {
	return a.add(part{kind: partPair, operation: o, a: a.at, b: b.at})
}

func (a Term) add(p part) Term {
	a.e.steps = append(a.e.steps, p)
	return Term{a.e, len(a.e.steps) - 1}
}

// expression is its parts in order; the first is x.
type expression struct {
	steps  []part
	result int
}

// part is a function of part a, or an operation on it and part b or the number c.
type part struct {
	kind      partKind
	m         Map
	operation Operation
	a, b      int
	c         float32
}

type partKind int

const (
	partX partKind = iota
	partMap
	partPair
	partScalar
)

// expressionTile is how many floats of each part there are at a time: whole groups, so that
// no routine handles a rest.
const expressionTile = 256

type partTiles [maxParts][expressionTile]float32

// differentiable reports whether all parts are.
func (e *expression) differentiable() bool {
	for _, p := range e.steps {
		if p.kind == partMap && !p.m.Differentiable() {
			return false
		}
	}
	return true
}

// forward computes y = f(x); y may be x.
func (e *expression) forward(y, x []float32) {
	var v partTiles
	for len(y) > 0 {
		n := min(len(y), expressionTile)
		e.values(&v, x[:n])
		copy(y[:n], v[e.result][:n])
		y, x = y[n:], x[n:]
	}
}

// values computes all parts of a tile.
func (e *expression) values(v *partTiles, x []float32) {
	n := (len(x) + Block - 1) / Block * Block
	clear(v[0][len(x):n])
	copy(v[0][:], x)
	for i, p := range e.steps {
		y, a := v[i][:n], v[p.a][:n]
		switch p.kind {
		case partMap:
			p.m.Forward(y, a)
		case partPair:
			p.operation.Pair(y, a, v[p.b][:n])
		case partScalar:
			p.operation.Scalar(y, a, p.c)
		}
	}
}

// backward computes dx = dy*f'(x), part by part from the last; dx may be dy or x.
func (e *expression) backward(dx, dy, x []float32) {
	var v, d partTiles
	for len(dx) > 0 {
		size := min(len(dx), expressionTile)
		n := (size + Block - 1) / Block * Block
		e.values(&v, x[:size])
		for i := range e.steps {
			clear(d[i][:n])
		}
		copy(d[e.result][:], dy[:size])
		for i := len(e.steps) - 1; i > 0; i-- {
			e.back(i, n, &v, &d)
		}
		copy(dx[:size], d[0][:size])
		dx, dy, x = dx[size:], dy[size:], x[size:]
	}
}

// back adds to the gradients of what part i is made of.
func (e *expression) back(i, n int, v, d *partTiles) {
	var buf [expressionTile]float32
	p, t, dy := e.steps[i], buf[:n], d[i][:n]
	a, da := v[p.a][:n], d[p.a][:n]
	plus := func(to []float32) { OpAdd.Pair(to, to, t) }
	switch {
	case p.kind == partMap:
		if p.m.OfOutput() {
			a = v[i][:n]
		}
		p.m.Backward(t, dy, a)
		plus(da)
	case p.kind == partScalar && p.operation == OpMul:
		OpMul.Scalar(t, dy, p.c)
		plus(da)
	case p.kind == partScalar:
		OpAdd.Pair(da, da, dy)
	case p.operation == OpAdd, p.operation == OpSub:
		OpAdd.Pair(da, da, dy)
		p.operation.Pair(d[p.b][:n], d[p.b][:n], dy)
	case p.operation == OpMul:
		OpMul.Pair(t, dy, v[p.b][:n])
		plus(da)
		OpMul.Pair(t, dy, v[p.a][:n])
		plus(d[p.b][:n])
	default: // a/b: dy/b, and less dy/b times the quotient
		OpDiv.Pair(t, dy, v[p.b][:n])
		plus(da)
		OpMul.Pair(t, t, v[i][:n])
		OpSub.Pair(d[p.b][:n], d[p.b][:n], t)
	}
}
