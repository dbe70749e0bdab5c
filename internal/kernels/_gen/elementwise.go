package main

import (
	"bytes"
	"fmt"
	"math"
	"strings"

	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The routines of this file walk n > 0 groups of 16 floats. h holds up to four parameters of the function.

// function is one row of the table of functions of one element: y = f(x), and dx = dy*f'(v) where it has a
// gradient, v being x or y as the doc says. The names are those of kernels.Function.
type function struct {
	name     string
	h        int // parameters
	doc      string
	f        func(g *gen, x vec, h []vec) vec
	gradDoc  string
	gradient func(g *gen, dy, v vec, h []vec) vec
}

var functions = []function{
	{"Relu", 0, "0 where x < 0, else x",
		func(g *gen, x vec, h []vec) vec { return g.atLeast(0, x) },
		"dy where y > 0, else 0",
		func(g *gen, dy, y vec, h []vec) vec { return g.choose(g.compare(greater, y, 0.0), dy, 0.0) }},
	{"Clip", 2, "h[0] where x < h[0], h[1] where x > h[1], else x",
		func(g *gen, x vec, h []vec) vec { return g.smaller(h[1], g.larger(h[0], x)) },
		"0 where x < h[0] or x > h[1], else dy",
		func(g *gen, dy, x vec, h []vec) vec {
			d := g.choose(g.compare(less, x, h[0]), 0.0, dy)
			return g.choose(g.compare(greater, x, h[1]), 0.0, d)
		}},
	{"LeakyRelu", 1, "x where x >= 0, else h[0]*x",
		func(g *gen, x vec, h []vec) vec { return g.choose(g.compare(less, x, 0.0), g.mul(x, h[0]), x) },
		"dy where x > 0, else h[0]*dy",
		func(g *gen, dy, x vec, h []vec) vec {
			return g.choose(g.compare(greater, x, 0.0), dy, g.mul(dy, h[0]))
		}},
	{"ThresholdedRelu", 1, "x where x > h[0], else 0",
		func(g *gen, x vec, h []vec) vec { return g.choose(g.compare(greater, x, h[0]), x, 0.0) },
		"dy where x > h[0], else 0",
		func(g *gen, dy, x vec, h []vec) vec { return g.choose(g.compare(greater, x, h[0]), dy, 0.0) }},
	{"Shrink", 2, "x+h[0] where x < -h[1], x-h[0] where x > h[1], else 0",
		func(g *gen, x vec, h []vec) vec {
			y := g.choose(g.compare(greater, x, h[1]), g.difference(x, h[0]), 0.0)
			return g.choose(g.compare(less, x, g.bitXor(h[1], signBit)), g.sum(x, h[0]), y)
		},
		"dy where |x| > h[1], else 0",
		func(g *gen, dy, x vec, h []vec) vec {
			return g.choose(g.compare(greater, g.magnitudeOf(x), h[1]), dy, 0.0)
		}},
	{"Sigmoid", 0, "1/(1+exp(-x))",
		func(g *gen, x vec, h []vec) vec { return g.sigmoid(x) },
		"dy*y*(1-y)",
		func(g *gen, dy, y vec, h []vec) vec {
			return g.mul(g.mul(dy, y), g.difference(g.constant(1), y))
		}},
	{"HardSigmoid", 2, "h[0]*x + h[1] between 0 and 1",
		func(g *gen, x vec, h []vec) vec { return g.atMost(1, g.atLeast(0, g.sum(g.mul(x, h[0]), h[1]))) },
		"h[0]*dy where 0 < h[0]*x + h[1] < 1, else 0",
		func(g *gen, dy, x vec, h []vec) vec {
			y := g.sum(g.mul(x, h[0]), h[1])
			d := g.choose(g.compare(greater, y, 0.0), g.mul(dy, h[0]), 0.0)
			return g.choose(g.compare(less, y, 1.0), d, 0.0)
		}},
	{"Tanh", 0, "the hyperbolic tangent of x",
		func(g *gen, x vec, h []vec) vec { return g.tanh(x) },
		"dy*(1-y*y)",
		func(g *gen, dy, y vec, h []vec) vec {
			return g.mul(dy, g.difference(g.constant(1), g.mul(y, y)))
		}},
	{"Swish", 1, "x*sigmoid(h[0]*x)",
		func(g *gen, x vec, h []vec) vec { return g.mul(x, g.sigmoid(g.mul(x, h[0]))) },
		"dy*(s + t*s*(1-s)) for t = h[0]*x and s = sigmoid(t)",
		func(g *gen, dy, x vec, h []vec) vec {
			t := g.mul(x, h[0])
			s := g.sigmoid(t)
			return g.mul(dy, g.sum(g.mul(g.mul(t, s), g.difference(g.constant(1), s)), s))
		}},
	{"HardSwish", 0, "x * (x/6 + 1/2 between 0 and 1)",
		func(g *gen, x vec, h []vec) vec {
			return g.mul(x, g.atMost(1, g.atLeast(0, g.sum(g.mul(x, 1/6.), 0.5))))
		},
		"0 where x <= -3, dy where x >= 3, else dy*(x/3 + 1/2)",
		func(g *gen, dy, x vec, h []vec) vec {
			d := g.sum(g.mul(x, 1/3.), 0.5)
			d = g.choose(g.compare(noLess, x, 3.0), 1.0, d)
			return g.mul(dy, g.choose(g.compare(noGreater, x, -3.0), 0.0, d))
		}},
	{"Gelu", 0, "x*Phi(x) with the normal distribution function",
		func(g *gen, x vec, h []vec) vec { return g.gelu(x) },
		"dy*(Phi(x) + x*exp(-x*x/2)/sqrt(2*pi))",
		func(g *gen, dy, x vec, h []vec) vec {
			d := g.exp(g.mul(g.mul(x, x), -0.5))
			d = g.mul(x, g.mul(d, 1/math.Sqrt(2*math.Pi)))
			return g.mul(dy, g.sum(g.normal(x), d))
		}},
	{"GeluTanh", 0, "x*sigmoid(2u) for u = sqrt(2/pi)*(x + 0.044715*x*x*x)",
		func(g *gen, x vec, h []vec) vec { return g.mul(x, g.sigmoid(g.twiceInner(x, g.mul(x, x)))) },
		"dy*(s + x*s*(1-s)*2u') for s = sigmoid(2u), x at most 12 either way",
		func(g *gen, dy, x vec, h []vec) vec {
			x = g.atMost(12, g.atLeast(-12, x))
			x2 := g.mul(x, x)
			s := g.sigmoid(g.twiceInner(x, x2))
			d := g.mul(g.mul(x, s), g.difference(g.constant(1), s))
			slope := g.sum(g.mul(x2, 6*math.Sqrt(2/math.Pi)*0.044715), 2*math.Sqrt(2/math.Pi))
			return g.mul(dy, g.sum(g.mul(d, slope), s))
		}},
	{"Mish", 0, "x*n/(n+2) for n = e*(e+2) and e = exp(x): x times the tanh of softplus",
		func(g *gen, x vec, h []vec) vec {
			e := g.exp(g.atMost(20, x))
			n := g.mul(e, g.sum(e, 2.0))
			return g.mul(x, g.quotient(n, g.sum(n, 2.0)))
		},
		"dy*(t + x*(1-t*t)*sigmoid(x)) for t = n/(n+2)",
		func(g *gen, dy, x vec, h []vec) vec {
			x = g.atMost(20, x)
			e := g.exp(x)
			n := g.mul(e, g.sum(e, 2.0))
			r := g.quotient(g.constant(1), g.sum(n, 2.0))
			t := g.mul(n, r)
			s := g.quotient(e, g.sum(e, 1.0))
			d := g.mul(g.sum(r, r), g.sum(t, 1.0)) // 1-t*t
			return g.mul(dy, g.sum(g.mul(g.mul(x, d), s), t))
		}},
	{"Elu", 4, "h[0]*x where x > 0, else h[1]*(exp(h[2]*x)-1)",
		func(g *gen, x vec, h []vec) vec {
			e := g.mul(g.expm1(g.atMost(0, g.mul(x, h[2]))), h[1])
			return g.choose(g.compare(greater, x, 0.0), g.mul(x, h[0]), e)
		},
		"h[0]*dy where x > 0, else h[3]*exp(h[2]*x)*dy",
		func(g *gen, dy, x vec, h []vec) vec {
			e := g.mul(g.exp(g.mul(x, h[2])), h[3])
			return g.mul(dy, g.choose(g.compare(greater, x, 0.0), h[0], e))
		}},
	{"Softplus", 0, "log(1+exp(x))",
		func(g *gen, x vec, h []vec) vec { return g.softplus(x) },
		"dy*sigmoid(x)",
		func(g *gen, dy, x vec, h []vec) vec { return g.mul(dy, g.sigmoid(x)) }},
	{"Softsign", 0, "x/(1+|x|)",
		func(g *gen, x vec, h []vec) vec { return g.quotient(x, g.sum(g.magnitudeOf(x), 1.0)) },
		"dy/((1+|x|)*(1+|x|))",
		func(g *gen, dy, x vec, h []vec) vec {
			d := g.sum(g.magnitudeOf(x), 1.0)
			return g.quotient(dy, g.mul(d, d))
		}},
	{"Erf", 0, "the error function of x", func(g *gen, x vec, h []vec) vec { return g.erf(x) }, "", nil},
	{"Exp", 0, "e to the power of x", func(g *gen, x vec, h []vec) vec { return g.exp(x) }, "", nil},
	{"Log", 0, "the natural logarithm of x", func(g *gen, x vec, h []vec) vec { return g.log(x) }, "", nil},
	{"Sqrt", 0, "the square root of x", func(g *gen, x vec, h []vec) vec {
		v := g.vec()
		g.VSQRTPS(x, v)
		return v
	}, "", nil},
	{"Reciprocal", 0, "1/x", func(g *gen, x vec, h []vec) vec { return g.quotient(g.constant(1), x) },
		"", nil},
	{"Abs", 0, "|x|", func(g *gen, x vec, h []vec) vec { return g.magnitudeOf(x) }, "", nil},
	{"Neg", 0, "-x", func(g *gen, x vec, h []vec) vec { return g.bitXor(x, signBit) }, "", nil},
	{"Square", 0, "x*x", func(g *gen, x vec, h []vec) vec { return g.mul(x, x) }, "", nil},
	{"Sign", 0, "1 where x > 0, -1 where x < 0, else x", func(g *gen, x vec, h []vec) vec {
		return g.choose(g.compare(greater, x, 0.0), 1.0, g.choose(g.compare(less, x, 0.0), -1.0, x))
	}, "", nil},
	{"Floor", 0, "x rounded down", func(g *gen, x vec, h []vec) vec { return g.rounded(1, x) }, "", nil},
	{"Ceil", 0, "x rounded up", func(g *gen, x vec, h []vec) vec { return g.rounded(2, x) }, "", nil},
	{"Round", 0, "x rounded to the nearest integer, halves to even",
		func(g *gen, x vec, h []vec) vec { return g.rounded(0, x) }, "", nil},
}

// twiceInner is 2*sqrt(2/pi)*(x + 0.044715*x*x*x).
func (g *gen) twiceInner(x, x2 vec) vec {
	return g.mul(x, g.sum(g.mul(x2, 2*math.Sqrt(2/math.Pi)*0.044715), 2*math.Sqrt(2/math.Pi)))
}

func (g *gen) rounded(mode uint8, x vec) vec {
	v := g.vec()
	if g.evex {
		g.VRNDSCALEPS(U8(mode), x, v)
	} else {
		g.VROUNDPS(U8(mode), x, v)
	}
	return v
}

// through emits body for every vector of n groups of 16 floats and moves the pointers on.
func (g *gen) through(n reg.Register, body func(), pointers ...reg.Register) {
	if g.lanes < block {
		g.SHLQ(U8(1), n)
	}
	g.Label("loop")
	body()
	for _, p := range pointers {
		g.ADDQ(U32(g.lanes*4), p)
	}
	g.DECQ(n)
	g.JNZ(LabelRef("loop"))
}

// loaded is the vector at a pointer.
func (g *gen) loaded(p reg.Register) vec {
	v := g.vec()
	g.VMOVUPS(at(p, 0), v)
	return v
}

func (g *gen) stored(v vec, p reg.Register) { g.VMOVUPS(v, at(p, 0)) }

func (g *gen) parameters(p reg.Register, n int) []vec {
	h := make([]vec, n)
	for i := range h {
		h[i] = g.scalar(p, i)
	}
	return h
}

func (g *gen) functions() {
	for _, f := range functions {
		g.text("map"+f.name, "func(y, x, h *float32, n int)", "computes y = "+f.doc+".")
		a := g.args("y", "x", "h", "n")
		h := g.parameters(a[2], f.h)
		g.through(a[3], func() { g.stored(f.f(g, g.loaded(a[1]), h), a[0]) }, a[0], a[1])
		g.ret()
		if f.gradient == nil {
			continue
		}
		g.text("grad"+f.name, "func(dx, dy, v, h *float32, n int)",
			"computes dx = "+f.gradDoc+"; v is "+f.of()+".")
		a = g.args("dx", "dy", "v", "h", "n")
		h = g.parameters(a[3], f.h)
		g.through(a[4], func() {
			g.stored(f.gradient(g, g.loaded(a[1]), g.loaded(a[2]), h), a[0])
		}, a[0], a[1], a[2])
		g.ret()
	}
}

// of names what the gradient is a function of.
func (f function) of() string {
	if f.name == "Relu" || f.name == "Sigmoid" || f.name == "Tanh" {
		return "y"
	}
	return "x"
}

// operation is one row of the table of functions of two elements; the names are those of kernels.Operation.
type operation struct {
	name, doc string
	f         func(g *gen, a, b vec) vec
}

var operations = []operation{
	{"Add", "a + b", func(g *gen, a, b vec) vec { return g.sum(a, b) }},
	{"Sub", "a - b", func(g *gen, a, b vec) vec { return g.difference(a, b) }},
	{"Mul", "a * b", func(g *gen, a, b vec) vec { return g.mul(a, b) }},
	{"Div", "a / b", func(g *gen, a, b vec) vec { return g.quotient(a, b) }},
	{"Max", "the larger of a and b; NaN wins",
		func(g *gen, a, b vec) vec { return g.bitOr(g.larger(a, b), g.larger(b, a)) }},
	{"Min", "the smaller of a and b; NaN wins",
		func(g *gen, a, b vec) vec { return g.bitOr(g.smaller(a, b), g.smaller(b, a)) }},
	{"PRelu", "a where a >= 0, else a*b", func(g *gen, a, b vec) vec {
		return g.choose(g.compare(less, a, 0.0), g.mul(a, b), a)
	}},
	{"SubFrom", "b - a", func(g *gen, a, b vec) vec { return g.difference(b, a) }},
	{"DivInto", "b / a", func(g *gen, a, b vec) vec { return g.quotient(b, a) }},
}

func (g *gen) operations() {
	for _, o := range operations {
		g.text("pair"+o.name, "func(y, a, b *float32, n int)", "computes y = "+o.doc+".")
		a := g.args("y", "a", "b", "n")
		g.through(a[3], func() { g.stored(o.f(g, g.loaded(a[1]), g.loaded(a[2])), a[0]) }, a[0], a[1], a[2])
		g.ret()
		g.text("lanes"+o.name, "func(y, a, b *float32, n int)",
			"computes y = "+o.doc+", b being 16 floats for every group of 16 of a.")
		a = g.args("y", "a", "b", "n")
		b := g.load(a[2], 1)
		g.loop(a[3], func() {
			x := g.load(a[1], 1)
			g.each(func(j, d int) { g.VMOVUPS(o.f(g, x[j], b[j]), at(a[0], d)) })
		}, a[0], a[1])
		g.ret()
	}
}

// elementwise emits the routines of the second file.
func (g *gen) elementwise() {
	g.functions()
	g.operations()
	g.rows()
	g.resample()
	g.attention()
	g.layerNormRows()
}

// rowRoutines are the routines that are called by name.
var rowRoutines = []struct{ name, signature, call string }{}

// elementwiseChoices writes the switches over functions and operations, and the choice of an instruction set.
func elementwiseChoices(b *bytes.Buffer) {
	table := func(name, kind, prefix, constant, args string, names []string) {
		for _, i := range isas {
			fmt.Fprintf(b, "// %s%s calls the routine for a %s.\nfunc %s%s(f %s, %s *float32, n int) {\nswitch f {\n",
				name, i.name, strings.ToLower(kind), name, i.name, kind, args)
			for _, n := range names {
				fmt.Fprintf(b, "case %s%s:\n%s%s%s(%s, n)\n", constant, n, prefix, n, i.name, args)
			}
			fmt.Fprintf(b, "default:\npanic(\"kernels: no routine for this %s\")\n}\n}\n\n",
				strings.ToLower(kind))
		}
		byLevel(b, name, fmt.Sprintf("f %s, %s *float32, n int", kind, args), "f, "+args+", n", name)
	}
	var all, smooth, pairs []string
	for _, f := range functions {
		if all = append(all, f.name); f.gradient != nil {
			smooth = append(smooth, f.name)
		}
	}
	for _, o := range operations {
		pairs = append(pairs, o.name)
	}
	table("mapBlocks", "Function", "map", "Func", "y, x, h", all)
	table("gradBlocks", "Function", "grad", "Func", "dx, dy, v, h", smooth)
	table("pairBlocks", "Operation", "pair", "Op", "y, a, b", pairs)
	table("lanesBlocks", "Operation", "lanes", "Op", "y, a, b", pairs)
	for _, r := range rowRoutines {
		byLevel(b, r.name+"Blocks", r.signature, r.call, r.name)
	}
}

// byLevel writes a function that calls the routine of the instruction set in use.
func byLevel(b *bytes.Buffer, name, signature, call, routine string) {
	fmt.Fprintf(b, "func %s(%s) {\nif current == levelAVX512 {\n%sAVX512(%s)\n} else {\n%sAVX2(%s)\n}\n}\n\n",
		name, signature, routine, call, routine, call)
}

// elementwiseStubs is the Go file of builds without assembly.
func elementwiseStubs() []byte {
	var b bytes.Buffer
	fmt.Fprint(&b, "// Code generated by _gen. DO NOT EDIT.\n\n//go:build !amd64 || purego\n\npackage kernels\n\n")
	fmt.Fprint(&b, "// Without assembly the level is Go's, and none of these is called.\n\n")
	for _, t := range []struct{ name, kind, args string }{
		{"mapBlocks", "Function", "y, x, h"}, {"gradBlocks", "Function", "dx, dy, v, h"},
		{"pairBlocks", "Operation", "y, a, b"}, {"lanesBlocks", "Operation", "y, a, b"},
	} {
		fmt.Fprintf(&b, "func %s(f %s, %s *float32, n int) {}\n", t.name, t.kind, t.args)
	}
	for _, r := range rowRoutines {
		fmt.Fprintf(&b, "func %sBlocks(%s) {}\n", r.name, r.signature)
	}
	return b.Bytes()
}
