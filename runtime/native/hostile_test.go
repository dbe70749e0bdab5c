package native

import (
	"context"
	"errors"
	"math"
	goruntime "runtime"
	"slices"
	"testing"
	"time"

	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/onnxio"
)

// graphOf is a model of opset 18 with inputs of the given types and free shapes.
func graphOf(nodes []*onnxio.Node, inits []*onnxio.Tensor, output string,
	inputs ...*onnxio.ValueInfo) *onnxio.Model {
	return &onnxio.Model{IRVersion: 8, Opsets: []onnxio.Opset{{Version: 18}},
		Graph: &onnxio.Graph{Name: "g", Nodes: nodes,
			Initializers: inits, Inputs: inputs,
			Outputs: []*onnxio.ValueInfo{{Name: output, Type: &onnxio.Type{Elem: onnxio.Float}}}}}
}

func node(op, output string, inputs []string, attrs ...*onnxio.Attribute) *onnxio.Node {
	return &onnxio.Node{OpType: op, Inputs: inputs, Outputs: []string{output}, Attrs: attrs}
}

func named(name string, t *onnxio.Tensor) *onnxio.Tensor {
	t.Name = name
	return t
}

// Sizes that follow from values, be they constants or known at run time only, are checked against the budget
// before anything is allocated: a small file must not take the machine's memory.
func TestValuesThatAskForTooMuch(t *testing.T) {
	const budget = 64 << 20
	big := []int64{1 << 14, 1 << 14}
	for name, c := range map[string]struct {
		values *onnxio.Tensor // input or initializer "v", from which the size follows
		nodes  []*onnxio.Node
	}{
		"ConstantOfShape": {onnxio.Int64s(big, 2),
			[]*onnxio.Node{node("ConstantOfShape", "y", []string{"v"})}},
		"wraps": {onnxio.Int64s([]int64{1 << 33, 1 << 33}, 2),
			[]*onnxio.Node{node("ConstantOfShape", "y", []string{"v"})}},
		"negative": {onnxio.Int64s([]int64{-5, 3}, 2),
			[]*onnxio.Node{node("ConstantOfShape", "y", []string{"v"})}},
		"Expand": {onnxio.Int64s(big, 2), []*onnxio.Node{node("Expand", "y", []string{"x", "v"})}},
		"Tile":   {onnxio.Int64s(big, 2), []*onnxio.Node{node("Tile", "y", []string{"x", "v"})}},
		"Tile wraps": {onnxio.Int64s([]int64{math.MaxInt64, math.MaxInt64}, 2),
			[]*onnxio.Node{node("Tile", "y", []string{"x", "v"})}},
		"Pad": {onnxio.Int64s([]int64{1 << 14, 0, 0, 1 << 14}, 4),
			[]*onnxio.Node{node("Pad", "y", []string{"x", "v"})}},
		"Pad wraps": {onnxio.Int64s([]int64{math.MaxInt64, 1, 1, math.MaxInt64}, 4),
			[]*onnxio.Node{node("Pad", "y", []string{"x", "v"})}},
		"Resize": {onnxio.Int64s(big, 2), []*onnxio.Node{node("Resize", "y", []string{"x", "", "", "v"})}},
		"Reshape": {onnxio.Int64s([]int64{1 << 31, 1 << 31}, 2),
			[]*onnxio.Node{node("Reshape", "y", []string{"x", "v"})}},
		"Range": {onnxio.Int64s(big, 2),
			[]*onnxio.Node{node("ReduceProd", "limit", []string{"v"}, onnxio.IntAttr("keepdims", 0)),
				node("Constant", "first", nil, onnxio.TensorAttr("value",
					onnxio.Scalar(onnxio.Int64, int64(0)))),
				node("Constant", "delta", nil, onnxio.TensorAttr("value",
					onnxio.Scalar(onnxio.Int64, int64(1)))),
				node("Range", "r", []string{"first", "limit", "delta"}), node("Cast", "y", []string{"r"},
					onnxio.IntAttr("to", int64(onnxio.Float)))}},
		"OneHot": {onnxio.Int64s([]int64{1 << 30, 1 << 30}, 2),
			[]*onnxio.Node{node("ReduceMax", "depth", []string{"v"}, onnxio.IntAttr("keepdims", 0)),
				node("Cast", "i", []string{"x"}, onnxio.IntAttr("to", int64(onnxio.Int64))),
				node("Constant", "onoff", nil, onnxio.TensorAttr("value", onnxio.FromSlice(onnxio.Float,
					[]float32{0, 1}, 2))), node("OneHot", "y", []string{"i", "depth", "onoff"})}},
	} {
		for _, computed := range []bool{false, true} {
			x := onnxio.NewTensor(onnxio.Float, 1, 1)
			in := map[string]*onnxio.Tensor{"x": x}
			infos := []*onnxio.ValueInfo{onnxio.TensorInfo("x", onnxio.Float, onnxio.Shape(1, 1)...)}
			var inits []*onnxio.Tensor
			v := named("v", c.values.Clone())
			if computed {
				in["v"] = v
				infos = append(infos, onnxio.TensorInfo("v", onnxio.Int64,
					onnxio.Shape(len(onnxio.Data[int64](v)))...))
			} else {
				inits = append(inits, v)
			}
			m := graphOf(c.nodes, inits, "y", infos...)
			t.Run(name, func(t *testing.T) {
				var before, after goruntime.MemStats
				goruntime.ReadMemStats(&before)
				b, err := Open(m, Options{MaxBytes: budget})
				if err == nil {
					defer b.Close()
					_, err = b.Run(context.Background(), in)
				}
				goruntime.ReadMemStats(&after)
				if err == nil || errors.As(err, new(*engine.FaultError)) {
					t.Errorf("computed %t: got %v", computed, err)
				}
				if got := after.TotalAlloc - before.TotalAlloc; got > budget {
					t.Errorf("computed %t: allocated %d bytes of a budget of %d", computed, got, budget)
				}
			})
		}
	}
}

// A Loop that does not end stops at the deadline, one that collects too much at the budget.
func TestLoopsThatDoNotEnd(t *testing.T) {
	body := func(outputs ...*onnxio.ValueInfo) *onnxio.Graph {
		return &onnxio.Graph{Name: "body", Inputs: []*onnxio.ValueInfo{onnxio.TensorInfo("i", onnxio.Int64),
			onnxio.TensorInfo("c", onnxio.Bool)},
			Nodes: []*onnxio.Node{node("Identity", "d", []string{"c"}),
				node("ConstantOfShape", "s", []string{"shape"})},
			Outputs: append([]*onnxio.ValueInfo{onnxio.TensorInfo("d", onnxio.Bool)}, outputs...)}
	}
	loop := func(g *onnxio.Graph, output string) *onnxio.Model {
		n := node("Loop", output, []string{"", "x"}, &onnxio.Attribute{Name: "body",
			Type: onnxio.AttrGraph, G: g})
		shape := named("shape", onnxio.Int64s([]int64{1024}, 1))
		return graphOf([]*onnxio.Node{n}, []*onnxio.Tensor{shape}, output,
			onnxio.TensorInfo("x", onnxio.Bool))
	}
	yes := onnxio.NewTensor(onnxio.Bool)
	yes.Raw[0] = 1
	in := map[string]*onnxio.Tensor{"x": yes}
	scan := onnxio.TensorInfo("s", onnxio.Float, onnxio.Shape(1024)...)

	b, err := Open(loop(body(scan), "y"), Options{MaxBytes: 8 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := b.Run(context.Background(), in); !errors.As(err, new(*onnxio.LimitError)) {
		t.Errorf("a loop that collects for ever: %v", err)
	}

	empty := body(onnxio.TensorInfo("e", onnxio.Float, onnxio.Shape(0)...))
	empty.Nodes = slices.Concat(empty.Nodes, []*onnxio.Node{node("ConstantOfShape", "e", []string{"none"})})
	m := loop(empty, "y")
	m.Graph.Initializers = append(m.Graph.Initializers, named("none", onnxio.Int64s([]int64{0}, 1)))
	b, err = Open(m, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := b.Run(ctx, in); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a loop that does nothing for ever: %v", err)
	}
}

// Constants are computed once, as long as all of them together stay within the budget.
func TestManyFoldedConstants(t *testing.T) {
	const budget = 8 << 20
	nodes, sum := []*onnxio.Node{}, []string{"x"}
	for i := range 64 {
		name := "c" + string(rune('0'+i))
		nodes = append(nodes, node("ConstantOfShape", name, []string{"v"}))
		sum = append(sum, name)
	}
	nodes = append(nodes, node("Concat", "y", sum, onnxio.IntAttr("axis", 0)))
	m := graphOf(nodes, []*onnxio.Tensor{named("v", onnxio.Int64s([]int64{1 << 18}, 1))}, "y",
		onnxio.TensorInfo("x", onnxio.Float, onnxio.Shape(1)...))
	var before, after goruntime.MemStats
	goruntime.ReadMemStats(&before)
	b, err := Open(m, Options{MaxBytes: budget})
	if err == nil {
		defer b.Close()
		_, err = b.Run(context.Background(),
			map[string]*onnxio.Tensor{"x": onnxio.NewTensor(onnxio.Float, 1)})
	}
	goruntime.ReadMemStats(&after)
	if err == nil || errors.As(err, new(*engine.FaultError)) {
		t.Errorf("64 MiB within a budget of 8: %v", err)
	}
	if got := after.TotalAlloc - before.TotalAlloc; got > 3*budget {
		t.Errorf("allocated %d bytes", got)
	}
}

// Windows that lie in the padding alone, maps without pixels and batches of none give an answer or an
// error, on fast kernels too.
func TestAwkwardWindows(t *testing.T) {
	for _, op := range []string{"MaxPool", "AveragePool", "Conv"} {
		for _, pad := range []int64{1, 2, 3, 7} {
			for _, dims := range [][]int64{{1, 16, 4, 4}, {1, 16, 0, 4}, {0, 16, 4, 4}, {1, 0, 4, 4},
				{1, 16, 1, 1}} {
				in, inits := []string{"x"}, []*onnxio.Tensor(nil)
				attrs := []*onnxio.Attribute{onnxio.IntsAttr("kernel_shape", 2, 2),
					onnxio.IntsAttr("pads", pad, pad, pad, pad)}
				if op == "Conv" {
					in, inits = []string{"x", "w"}, []*onnxio.Tensor{named("w",
						onnxio.NewTensor(onnxio.Float, 16, dims[1], 2, 2))}
				}
				m := graphOf([]*onnxio.Node{node(op, "y", in, attrs...)}, inits, "y",
					onnxio.TensorInfo("x", onnxio.Float, onnxio.Shape("N", dims[1], "H", "W")...))
				b, err := Open(m, Options{})
				if err == nil {
					_, err = b.Run(context.Background(),
						map[string]*onnxio.Tensor{"x": onnxio.NewTensor(onnxio.Float, dims...)})
					b.Close()
				}
				if errors.As(err, new(*engine.FaultError)) {
					t.Errorf("%s of %v padded by %d: %v", op, dims, pad, err)
				}
			}
		}
	}
}
