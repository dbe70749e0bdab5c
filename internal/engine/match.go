package engine

import (
	"math"

	"github.com/cnnkit/cnnkit/internal/ops"
)

// A term says how a value is computed, as a tree: an operator applied to terms, a product of terms, a number,
// a hole. The table in patterns.go is written in terms; this file matches them.
type term interface {
	// match tries the ways in which v is the term. It calls next after each, until next reports true.
	match(m *match, v *value, next func() bool) bool
}

// match is what the holes of a term stand for.
type match struct {
	out     *value // that the whole term is
	values  map[hole]*value
	numbers map[slot]float64
}

// matches finds the ways in which v is t and reports whether accept takes one.
func matches(t term, v *value, accept func(m *match) bool) bool {
	m := &match{out: v}
	return t.match(m, v, func() bool { return accept(m) })
}

// hole is any value, the same wherever its name stands.
type hole string

func (h hole) match(m *match, v *value, next func() bool) bool {
	if v == nil {
		return false
	}
	if bound := m.values[h]; bound != nil {
		return bound == v && next()
	}
	if m.values == nil { // made late: most values fail at the root
		m.values = map[hole]*value{}
	}
	m.values[h] = v
	if next() {
		return true
	}
	delete(m.values, h)
	return false
}

// weight is a hole for a float32 constant.
type weight string

func (w weight) match(m *match, v *value, next func() bool) bool {
	return v.floats() && hole(w).match(m, v, next)
}

// literal is a constant of one element. One with a fraction may differ in the digits
// that exporters do not write.
type literal float64

func (n literal) is(x float64) bool {
	if want := float64(n); want != math.Trunc(want) {
		return math.Abs(x-want) <= 2e-6*math.Abs(want)
	}
	return x == float64(n)
}

func (n literal) match(_ *match, v *value, next func() bool) bool {
	x, ok := v.number()
	return ok && n.is(x) && next()
}

// named is a term whose value a hole also stands for.
type named struct {
	hole
	term
}

func (n named) match(m *match, v *value, next func() bool) bool {
	return n.term.match(m, v, func() bool { return n.hole.match(m, v, next) })
}

// slot is any constant of one element, the same wherever its name stands.
type slot string

func (s slot) match(m *match, v *value, next func() bool) bool {
	x, ok := v.number()
	return ok && s.bind(m, x, next)
}

func (s slot) bind(m *match, x float64, next func() bool) bool {
	if bound, ok := m.numbers[s]; ok {
		return bound == x && next()
	}
	if m.numbers == nil {
		m.numbers = map[slot]float64{}
	}
	m.numbers[s] = x
	if next() {
		return true
	}
	delete(m.numbers, s)
	return false
}

// application is an operator of ai.onnx applied to terms: to its first inputs, in
// either order where it commutes.
type application struct {
	op    string
	in    []term
	holds func(o *op) bool // of its attributes and other inputs; nil: nothing
	sole  bool             // nobody else may read it
}

// applied is an operator applied to terms.
func applied(op string, in ...term) application { return application{op: op, in: in} }

// where is a with a condition on its attributes.
func (a application) where(holds func(o *op) bool) application {
	a.holds = holds
	return a
}

// alone is a read by nothing else.
func (a application) alone() application {
	a.sole = true
	return a
}

func (a application) match(m *match, v *value, next func() bool) bool {
	o := v.computedBy()
	if o == nil || !o.is("", a.op) || o.out[0] != v || len(o.in) < len(a.in) || a.sole && !v.private() {
		return false
	}
	if o.node.Def.Arithmetic != 0 && o.node.Attr("axis") != nil { // broadcast as before version 7
		return false
	}
	if a.holds != nil && !a.holds(o) {
		return false
	}
	if matchAll(m, a.in, o.in, next) {
		return true
	}
	return len(a.in) == 2 && o.node.Def.Arithmetic.Commutes() &&
		matchAll(m, a.in, []*value{o.in[1], o.in[0]}, next)
}

// matchAll matches values with terms one by one.
func matchAll(m *match, terms []term, vs []*value, next func() bool) bool {
	if len(terms) == 0 {
		return next()
	}
	return terms[0].match(m, vs[0], func() bool { return matchAll(m, terms[1:], vs[1:], next) })
}

// product is what its terms give multiplied, in any order. A number or slot among them, one at most, stands
// for all constant factors and divisors together; without one these make 1.
type product []term

func (p product) match(m *match, v *value, next func() bool) bool {
	var constant term = literal(1)
	var others []term
	for _, t := range p {
		switch t.(type) {
		case literal, slot:
			constant = t
		default:
			others = append(others, t)
		}
	}
	scaled := func(c float64, next func() bool) bool {
		if n, ok := constant.(literal); ok {
			return n.is(c) && next()
		}
		return constant.(slot).bind(m, c, next)
	}
	if len(others) == 1 && scaled(1, func() bool { return others[0].match(m, v, next) }) {
		return true
	}
	c, factors := factorsOf(v, 0)
	return len(factors) == len(others) && scaled(c, func() bool { return matchSet(m, others, factors, next) })
}

// matchSet matches values with terms in any order.
func matchSet(m *match, terms []term, vs []*value, next func() bool) bool {
	if len(terms) == 0 {
		return next()
	}
	for i, v := range vs {
		rest := append(append([]*value{}, vs[:i]...), vs[i+1:]...)
		if terms[0].match(m, v, func() bool { return matchSet(m, terms[1:], rest, next) }) {
			return true
		}
	}
	return false
}

// maxFactors is how deep products are taken apart.
const maxFactors = 8

// factorsOf is v as a constant times factors: products, and quotients by constants, that nobody
// else reads are taken apart.
func factorsOf(v *value, depth int) (c float64, factors []*value) {
	if c, ok := v.number(); ok {
		return c, nil
	}
	o := v.computedBy()
	whole := []*value{v}
	if o == nil || len(o.in) != 2 || o.node.Attr("axis") != nil || depth > 0 && !v.private() ||
		depth > maxFactors {
		return 1, whole
	}
	switch o.node.Def.Arithmetic {
	case ops.Product:
		a, fa := factorsOf(o.in[0], depth+1)
		b, fb := factorsOf(o.in[1], depth+1)
		return a * b, append(fa, fb...)
	case ops.Quotient:
		if d, ok := o.in[1].number(); ok && d != 0 {
			a, fa := factorsOf(o.in[0], depth+1)
			return a / d, fa
		}
	}
	return 1, whole
}

// either is what one of its terms is.
type either []term

func (e either) match(m *match, v *value, next func() bool) bool {
	for _, t := range e {
		if t.match(m, v, next) {
			return true
		}
	}
	return false
}

// number is the number of a constant of one element that leaves the rank of what it is combined with.
func (v *value) number() (float64, bool) {
	c, ok := v.scalar()
	return c, ok && len(v.dims) <= 1
}

// scalar is the number of a constant of one element.
func (v *value) scalar() (float64, bool) {
	if !v.floats() || v.size() != 1 {
		return 0, false
	}
	return float64(v.konst.Float32s()[0]), true
}

// computedBy is the op that gives v, nil where none does.
func (v *value) computedBy() *op {
	if v == nil || v.kind != computed {
		return nil
	}
	return v.producer
}

// private reports whether one op alone reads v.
func (v *value) private() bool { return v != nil && len(v.users) == 1 && !v.output }
