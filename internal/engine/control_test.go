package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Graphs of control flow, built by hand. A value is declared as "name type[shape]"; a
// type alone is of any shape.

// declared parses "x float[N,3]", "n int64[]", "c bool", "s seq(float)", "o optional(float)".
func declared(text string) *onnxio.ValueInfo {
	name, kind, _ := strings.Cut(text, " ")
	return &onnxio.ValueInfo{Name: name, Type: typeNamed(kind)}
}

func typeNamed(kind string) *onnxio.Type {
	if of, ok := strings.CutPrefix(kind, "seq("); ok {
		return &onnxio.Type{Kind: onnxio.SequenceType, Of: typeNamed(strings.TrimSuffix(of, ")"))}
	}
	if of, ok := strings.CutPrefix(kind, "optional("); ok {
		return &onnxio.Type{Kind: onnxio.OptionalType, Of: typeNamed(strings.TrimSuffix(of, ")"))}
	}
	elem, shape, has := strings.Cut(strings.TrimSuffix(kind, "]"), "[")
	t := &onnxio.Type{HasShape: has,
		Elem: map[string]onnxio.DataType{"float": onnxio.Float, "int64": onnxio.Int64,
			"bool": onnxio.Bool}[elem]}
	for _, d := range strings.FieldsFunc(shape, func(r rune) bool { return r == ',' }) {
		var n int64
		if _, err := fmt.Sscan(d, &n); err == nil {
			t.Shape = append(t.Shape, onnxio.Dim{Value: n})
		} else {
			t.Shape = append(t.Shape, onnxio.Dim{Param: d, Value: -1})
		}
	}
	return t
}

// apply is a node from "out1 out2 = Op in1 in2"; "-" is an omitted input or output.
func apply(text string, attrs ...*onnxio.Attribute) *onnxio.Node {
	left, right, _ := strings.Cut(text, "=")
	words := strings.Fields(right)
	n := &onnxio.Node{Name: strings.TrimSpace(text), OpType: words[0], Inputs: words[1:],
		Outputs: strings.Fields(left), Attrs: attrs}
	for _, list := range [][]string{n.Inputs, n.Outputs} {
		for i, s := range list {
			if s == "-" {
				list[i] = ""
			}
		}
	}
	return n
}

// graphOf has inputs and outputs from lists of declarations parted by ";".
func graphOf(in, out string, nodes ...*onnxio.Node) *onnxio.Graph {
	g := &onnxio.Graph{Name: "g", Nodes: nodes}
	for text := range strings.SplitSeq(in, ";") {
		if text = strings.TrimSpace(text); text != "" {
			g.Inputs = append(g.Inputs, declared(text))
		}
	}
	for text := range strings.SplitSeq(out, ";") {
		g.Outputs = append(g.Outputs, declared(strings.TrimSpace(text)))
	}
	return g
}

func graphAttr(name string, g *onnxio.Graph) *onnxio.Attribute {
	return &onnxio.Attribute{Name: name, Type: onnxio.AttrGraph, G: g}
}

func branches(then, other *onnxio.Graph) []*onnxio.Attribute {
	return []*onnxio.Attribute{graphAttr("then_branch", then), graphAttr("else_branch", other)}
}

func constantNode(name string, t *onnxio.Tensor) *onnxio.Node {
	return apply(name+" = Constant", onnxio.TensorAttr("value", t))
}

func looped(body *onnxio.Graph) *onnxio.Attribute { return graphAttr("body", body) }

func float(x float32) *onnxio.Tensor        { return onnxio.Scalar(onnxio.Float, x) }
func integer(n int64) *onnxio.Tensor        { return onnxio.Scalar(onnxio.Int64, n) }
func floats(list ...float32) *onnxio.Tensor { return onnxio.Floats(list) }
func integers(list ...int64) *onnxio.Tensor { return onnxio.Int64s(list) }

var scalar, axis0 = onnxio.IntAttr("keepdims", 0), onnxio.IntAttr("axis", 0)

func modelOf(g *onnxio.Graph) *onnxio.Model {
	return &onnxio.Model{IRVersion: 8, Opsets: []onnxio.Opset{{Version: 17}}, Graph: g}
}

// programOf compiles a graph.
func programOf(t *testing.T, g *onnxio.Graph, opt Options) *Program {
	t.Helper()
	p, err := NewProgram(modelOf(g), opt)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// compute runs a program in a lane.
func compute(t *testing.T, p *Program, l *Lane, in ...onnxio.Value) []onnxio.Value {
	t.Helper()
	out, err := p.Run(t.Context(), l, in)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// wants compares a value with a float32 or int64 tensor of these numbers and this shape.
func wants[T float32 | int64](t *testing.T, what string, got onnxio.Value, want []T, dims ...int64) {
	t.Helper()
	x, ok := got.(*onnxio.Tensor)
	if !ok {
		t.Errorf("%s is a %T", what, got)
		return
	}
	if !slices.Equal(x.Dims, dims) || !slices.Equal(onnxio.Data[T](x), want) {
		t.Errorf("%s = %v %v, want %v %v", what, x.Dims, onnxio.Data[T](x), dims, want)
	}
}

func TestIf(t *testing.T) {
	scaled := func(by float32) *onnxio.Graph {
		return graphOf("", "y float", constantNode("k", float(by)), apply("y = Mul x k"))
	}
	const decl = "x float[N]"
	cases := []struct {
		name string
		cond []*onnxio.Node
	}{
		{"ConditionOfData", []*onnxio.Node{
			apply("sum = ReduceSum x", scalar), constantNode("zero", float(0)),
			apply("c = Greater sum zero")}},
		{"ConditionOfShape", []*onnxio.Node{
			apply("n = Size x"), constantNode("three", integer(3)), apply("c = Equal n three")}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			nodes := append(c.cond, apply("y = If c", branches(scaled(2), scaled(-1))...))
			p := programOf(t, graphOf(decl, "y float", nodes...), Options{})
			var l Lane
			for range 2 { // the second time by the plans of the first
				wants(t, "then", compute(t, p, &l, floats(1, 2, 3))[0], []float32{2, 4, 6}, 3)
				wants(t, "else", compute(t, p, &l, floats(-1, -2))[0], []float32{1, 2}, 2)
			}
		})
	}
	t.Run("ConstantCondition", func(t *testing.T) {
		p := programOf(t, graphOf(decl, "y float", constantNode("c", boolean(false)),
			apply("y = If c", branches(scaled(2), scaled(-1))...)), Options{})
		wants(t, "else", compute(t, p, new(Lane), floats(1, 2))[0], []float32{-1, -2}, 2)
	})
}

// A branch may give a value of the graph around it, a constant, or another shape than the other branch.
func TestIfPassesValuesThrough(t *testing.T) {
	then := graphOf("", "a float; b float", apply("a = Identity x"), constantNode("b", floats(7, 8)))
	other := graphOf("", "x float; k float")
	g := graphOf("x float[N]; c bool[]", "y float; z float; w float",
		apply("y z = If c", branches(then, other)...), apply("w = Add y x"))
	g.Initializers = []*onnxio.Tensor{{Name: "k", Type: onnxio.Float, Dims: []int64{1}, Raw: floats(9).Raw}}
	p := programOf(t, g, Options{})
	var l Lane
	x := floats(1, 2, 3)
	for range 2 {
		out := compute(t, p, &l, x, boolean(true))
		wants(t, "then z", out[1], []float32{7, 8}, 2)
		wants(t, "then w", out[2], []float32{2, 4, 6}, 3)
		out = compute(t, p, &l, x, boolean(false))
		wants(t, "else y", out[0], []float32{1, 2, 3}, 3)
		wants(t, "else z", out[1], []float32{9}, 1)
		for _, v := range out { // what Run gives is the caller's
			clear(v.(*onnxio.Tensor).Raw)
		}
	}
	wants(t, "the input", x, []float32{1, 2, 3}, 3)
}

// sumsAbove is a Loop whose body adds i*x where a nested If finds that i is above low, and scans the sums.
func sumsAbove() *onnxio.Graph {
	add := graphOf("", "new float",
		apply("f = Cast i", onnxio.IntAttr("to", int64(onnxio.Float))), apply("t = Mul f x"),
		apply("new = Add sum t"))
	stay := graphOf("", "new float", apply("new = Identity sum"))
	body := graphOf("i int64[]; c bool[]; sum float", "go bool[]; new_sum float; scan float",
		apply("go = Identity c"), apply("above = Greater i low"),
		apply("new_sum = If above", branches(add, stay)...), apply("scan = Identity new_sum"))
	return graphOf("x float[N]; trips int64[]; low int64[]", "sum float; all float",
		apply("zero = Sub x x"), apply("sum all = Loop trips - zero", looped(body)))
}

func TestLoopWithNestedIf(t *testing.T) {
	p := programOf(t, sumsAbove(), Options{})
	var l Lane
	for _, n := range []int64{0, 1, 3, 5} {
		for _, size := range []int{1, 2} {
			x := []float32{2, 3}[:size]
			sum, all := make([]float32, size), []float32{}
			for i := range n {
				for k := range sum {
					if i > 1 {
						sum[k] += float32(i) * x[k]
					}
				}
				all = append(all, sum...)
			}
			out := compute(t, p, &l, onnxio.Floats(x), integer(n), integer(1))
			wants(t, fmt.Sprintf("sum of %d", n), out[0], sum, int64(size))
			if n > 0 {
				wants(t, fmt.Sprintf("scan of %d", n), out[1], all, n, int64(size))
			} else if got := out[1].(*onnxio.Tensor); got.Dims[0] != 0 {
				t.Errorf("the scan of no iteration has shape %v", got.Dims)
			}
		}
	}
}

// A carried value may have another shape after each iteration.
func TestLoopCarriesWhatGrows(t *testing.T) {
	body := graphOf("i int64[]; c bool[]; v float[M]", "go bool[]; w float[K]",
		apply("w = Concat v x", axis0), apply("n = Size w"), apply("go = Less n limit"))
	g := graphOf("x float[N]; limit int64[]", "y float", apply("y = Loop - - x", looped(body)))
	p := programOf(t, g, Options{})
	var l Lane
	wants(t, "y", compute(t, p, &l, floats(1, 2), integer(7))[0],
		[]float32{1, 2, 1, 2, 1, 2, 1, 2}, 8)
	wants(t, "y", compute(t, p, &l, floats(5), integer(3))[0], []float32{5, 5, 5}, 3)
}

func TestLoopEndsByItsCondition(t *testing.T) {
	body := graphOf("i int64[]; c bool[]; v float", "go bool[]; w float; at int64",
		apply("w = Add v v"), apply("m = ReduceMax w", scalar),
		apply("go = Less m limit"), apply("at = Identity i"))
	g := graphOf("x float[N]; limit float[]; c bool[]", "y float; at int64",
		apply("y at = Loop - c x", looped(body)))
	p := programOf(t, g, Options{})
	var l Lane
	out := compute(t, p, &l, floats(1, 3), float(20), boolean(true))
	wants(t, "y", out[0], []float32{8, 24}, 2)
	wants(t, "at", out[1], []int64{0, 1, 2}, 3)
	out = compute(t, p, &l, floats(1, 3), float(20), boolean(false))
	wants(t, "y", out[0], []float32{1, 3}, 2)
	wants(t, "at", out[1], []int64{}, 0)
}

func TestScan(t *testing.T) {
	// State s[K], slices a[K] of axis 1 backward and b[K] of axis 0; the scanned s
	// lies along axis 1, backward.
	body := graphOf("s float; a float; b float", "t float; u float; d float",
		apply("p = Mul a b"), apply("t = Add s p"), apply("u = Identity t"), apply("d = Sub a b"))
	g := graphOf("s float[K]; a float[K,T]; b float[T,K]", "t float; u float; d float",
		apply("t u d = Scan s a b", looped(body), onnxio.IntAttr("num_scan_inputs", 2),
			onnxio.IntsAttr("scan_input_axes", -1, 0), onnxio.IntsAttr("scan_input_directions", 1, 0),
			onnxio.IntsAttr("scan_output_axes", -1, 0), onnxio.IntsAttr("scan_output_directions", 1, 0)))
	p := programOf(t, g, Options{})
	var l Lane
	for _, length := range []int64{3, 1, 4} {
		const k = 2
		a, b, s := make([]float32, k*length), make([]float32, k*length), []float32{1, -1}
		for i := range a {
			a[i], b[i] = float32(i+1), float32(3*i%5)
		}
		state := slices.Clone(s)
		u, d := make([]float32, k*length), make([]float32, k*length)
		for i := range length {
			for j := range int64(k) {
				x, y := a[j*length+length-1-i], b[i*k+j]
				state[j] += x * y
				u[j*length+length-1-i], d[i*k+j] = state[j], x-y
			}
		}
		out := compute(t, p, &l, onnxio.Floats(s), onnxio.Floats(a, k, length), onnxio.Floats(b, length, k))
		wants(t, "state", out[0], state, k)
		wants(t, "u", out[1], u, k, length)
		wants(t, "d", out[2], d, length, k)
	}
}

func TestSequenceMap(t *testing.T) {
	body := graphOf("a float; b float", "sum float; n int64", apply("sum = Add a b"), apply("n = Shape a"))
	g := graphOf("x float[N]; k float[]", "y float; n int64",
		constantNode("split", integers(1, 2)), apply("s = SplitToSequence x split", axis0),
		apply("m shapes = SequenceMap s k", looped(body)),
		apply("y = ConcatFromSequence m", axis0), apply("n = ConcatFromSequence shapes", axis0))
	out := compute(t, programOf(t, g, Options{}), new(Lane), floats(1, 2, 3), float(10))
	wants(t, "y", out[0], []float32{11, 12, 13}, 3)
	wants(t, "n", out[1], []int64{1, 2}, 2)
}

// A loop collects slices of growing size in a sequence.
func TestLoopCarriesASequence(t *testing.T) {
	body := graphOf("i int64[]; c bool[]; s seq(float)", "go bool[]; r seq(float)",
		apply("go = Identity c"), constantNode("one", integers(1)), constantNode("zero", integers(0)),
		apply("end = Add i one"), apply("piece = Slice x zero end zero"), apply("r = SequenceInsert s piece"))
	g := graphOf("x float[N]; trips int64[]", "y float; n int64",
		apply("none = SequenceEmpty"), apply("s = Loop trips - none", looped(body)),
		apply("n = SequenceLength s"), apply("y = ConcatFromSequence s", axis0))
	out := compute(t, programOf(t, g, Options{}), new(Lane), floats(1, 2, 3), integer(3))
	wants(t, "y", out[0], []float32{1, 1, 2, 1, 2, 3}, 6)
	wants(t, "n", out[1], []int64{3})
}

func TestOptional(t *testing.T) {
	value := graphOf("", "y float", apply("y = OptionalGetElement o"))
	instead := graphOf("", "y float", apply("y = Neg x"))
	g := graphOf("x float[N]; o optional(float)", "y float",
		apply("has = OptionalHasElement o"), apply("y = If has", branches(value, instead)...))
	p := programOf(t, g, Options{})
	var l Lane
	x := floats(1, 2)
	elem := &onnxio.Type{Elem: onnxio.Float}
	wants(t, "value", compute(t, p, &l, x, &onnxio.Optional{Elem: elem, Value: floats(5)})[0],
		[]float32{5}, 1)
	wants(t, "nothing", compute(t, p, &l, x, &onnxio.Optional{Elem: elem})[0], []float32{-1, -2}, 2)
}

func TestDeadlineEndsALoop(t *testing.T) {
	for name, nodes := range map[string][]*onnxio.Node{
		"Empty": nil,
		"Adds":  {apply("w = Add v v")},
	} {
		t.Run(name, func(t *testing.T) {
			out := map[bool]string{true: "v", false: "w"}[nodes == nil]
			body := graphOf("i int64[]; c bool[]; v float", "c bool[]; "+out+" float", nodes...)
			g := graphOf("x float[N]", "y float", apply("y = Loop - - x", looped(body)))
			p := programOf(t, g, Options{})
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			start := time.Now()
			_, err := p.Run(ctx, new(Lane), []onnxio.Value{floats(1)})
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Run ended by %v", err)
			}
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("Run ended after %v", took)
			}
		})
	}
}

// The budget bounds whatever a Loop keeps: a carried value that doubles, scanned values, a
// sequence, loops in loops.
func TestBudgetEndsALoop(t *testing.T) {
	const budget = 1 << 20
	doubles := graphOf("i int64[]; c bool[]; v float", "c bool[]; w float", apply("w = Concat v v", axis0))
	scans := graphOf("i int64[]; c bool[]", "c bool[]; s float", apply("s = Neg x"))
	collects := graphOf("i int64[]; c bool[]; s seq(float)", "c bool[]; r seq(float)",
		apply("n = Neg x"), apply("r = SequenceInsert s n"))
	nested := graphOf("i int64[]; c bool[]", "c bool[]; s float", constantNode("many", integer(1000)),
		apply("s = Loop many -", looped(scans)))
	// What the loops of all levels hold counts together: each alone is within the budget.
	inner := graphOf("i int64[]; c bool[]", "c bool[]; s float", apply("s = Expand x wide"))
	outer := graphOf("i int64[]; c bool[]", "c bool[]; v float", constantNode("five", integer(5)),
		apply("all = Loop five -", looped(inner)),
		apply("v = ReduceMax all", onnxio.IntsAttr("axes", 0), scalar))
	nothing := graphOf("i int64[]; c bool[]; s seq(float)", "c bool[]; r seq(float)",
		constantNode("none", onnxio.Floats(nil, 0)), apply("r = SequenceInsert s none"))
	for name, nodes := range map[string][]*onnxio.Node{
		"Together": {constantNode("wide", integers(1<<8, 64)), constantNode("seven", integer(7)),
			apply("y = Loop seven -", looped(outer))},
		"NoElements": {apply("s = SequenceEmpty"), apply("r = Loop - - s", looped(nothing)),
			apply("y = ConcatFromSequence r", axis0)},
		"Doubles": {apply("y = Loop - - x", looped(doubles))},
		"Scans":   {apply("y = Loop - -", looped(scans))},
		"Collects": {apply("none = SequenceEmpty"), apply("s = Loop - - none", looped(collects)),
			apply("y = ConcatFromSequence s", axis0)},
		"Nested": {apply("y = Loop - -", looped(nested))},
	} {
		t.Run(name, func(t *testing.T) {
			p := programOf(t, graphOf("x float[N]", "y float", nodes...), Options{MaxBytes: budget})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			var limit *onnxio.LimitError
			_, err := p.Run(ctx, new(Lane), []onnxio.Value{onnxio.Floats(make([]float32, 64))})
			if !errors.As(err, &limit) {
				t.Errorf("Run ended by %v", err)
			}
		})
	}
}
