package conform

import (
	"fmt"
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/check"
	"github.com/cnnkit/cnnkit/onnxio/infer"
)

// Inference asks whether the shapes that the cases declare for their outputs follow from the rest of the
// model: whole shapes, except where they depend on the numbers that a run is given (shapedByData), which
// inference must not contradict.
func Inference() *Engine { return &Engine{Name: "infer", Run: inferCase} }

// shapedByData are the inputs whose numbers, not only whose shapes, decide the shape of an operator's
// outputs; nil stands for all of them.
var shapedByData = map[string][]int{
	"AffineGrid": {1}, "CenterCropPad": {1}, "Col2Im": {1, 2}, "ConstantOfShape": {0}, "DFT": {1, 2},
	"Dropout": {}, "Expand": {1}, "MaxUnpool": {2}, "MelWeightMatrix": {0, 1, 2, 3, 4}, "OneHot": {1},
	"Pad": {1, 2, 3}, "Range": {0, 1, 2}, "ReduceL1": {1}, "ReduceL2": {1}, "ReduceLogSum": {1},
	"ReduceLogSumExp": {1}, "ReduceMax": {1}, "ReduceMean": {1}, "ReduceMin": {1}, "ReduceProd": {1},
	"ReduceSum": {1}, "ReduceSumSquare": {1}, "Reshape": {1}, "Resize": {1, 2, 3}, "STFT": {1, 2, 3},
	"Slice": {1, 2, 3, 4}, "Split": {1}, "SplitToSequence": {1}, "Squeeze": {1}, "Tile": {1, 2}, "TopK": {1},
	"Unsqueeze": {1}, "Upsample": {1}, "HannWindow": {0}, "HammingWindow": {0}, "BlackmanWindow": {0},
	"Compress": {1}, "NonZero": nil, "Unique": nil, "NonMaxSuppression": nil, "StringSplit": nil,
	"ImageDecoder": nil, "If": nil, "Loop": nil, "Scan": {}, "SequenceAt": nil, "SequenceMap": nil,
	"ConcatFromSequence": nil,
}

func inferCase(c *Case) (err error) {
	defer recovered(&err)
	m, err := c.Model()
	if err != nil {
		return err
	}
	r, err := infer.Shapes(stripped(m))
	if err != nil {
		return err
	}
	free := dataShaped(m)
	for _, want := range m.Graph.Outputs {
		if want.Type == nil || want.Type.Kind != onnxio.TensorType {
			continue
		}
		if err := agrees(want, r.ValueInfo(want.Name).Type, free[want.Name]); err != nil {
			if unknown := check.Supported(m); unknown != nil {
				return unknown
			}
			return err
		}
	}
	return nil
}

// stripped is m without value_info and without the shapes of its outputs.
func stripped(m *onnxio.Model) *onnxio.Model {
	out, g := *m, *m.Graph
	out.Graph, g.Values, g.Outputs = &g, nil, nil
	for _, v := range m.Graph.Outputs {
		bare := *v
		if v.Type != nil && v.Type.Kind == onnxio.TensorType {
			bare.Type = &onnxio.Type{Elem: v.Type.Elem}
		}
		g.Outputs = append(g.Outputs, &bare)
	}
	return &out
}

// agrees compares an inferred type with a declared one, dimension by dimension; loose lets the inferred ones
// be unknown.
func agrees(want *onnxio.ValueInfo, got *onnxio.Type, loose bool) error {
	if got.Elem == onnxio.Undefined && loose {
		return nil
	}
	same := got.Elem == want.Type.Elem && (got.HasShape || loose)
	if got.HasShape && want.Type.HasShape {
		same = same && len(got.Shape) == len(want.Type.Shape)
		for i := 0; same && i < len(got.Shape); i++ {
			w, g := want.Type.Shape[i], got.Shape[i]
			same = !w.Known() || w.Value == g.Value && g.Known() || loose && !g.Known()
		}
	}
	if same {
		return nil
	}
	return fmt.Errorf("output %s: inferred is %v %s, declared %v %s", want.Name, got.Elem, shapeText(got),
		want.Type.Elem,
		shapeText(want.Type))
}

// dataShaped are the values whose shapes depend on the numbers of a graph input.
func dataShaped(m *onnxio.Model) map[string]bool {
	// what depends on an input's numbers: the shape, the numbers
	shaped, numbers := map[string]bool{}, map[string]bool{}
	for _, v := range m.Graph.Inputs {
		numbers[v.Name] = m.Graph.Initializer(v.Name) == nil
	}
	for _, n := range m.Graph.Nodes {
		shapes, values := false, false
		for _, in := range n.Inputs {
			shapes, values = shapes || shaped[in], values || numbers[in]
		}
		if decides, ok := shapedByData[n.OpType]; ok {
			for i, in := range n.Inputs {
				shapes = shapes || numbers[in] && (decides == nil || slices.Contains(decides, i))
			}
		}
		for _, in := range captured(n, nil) {
			shapes, values = shapes || shaped[in] || numbers[in], values || numbers[in]
		}
		if n.OpType == "Shape" || n.OpType == "Size" {
			shapes, values = false, shapes
		}
		for _, out := range n.Outputs {
			shaped[out], numbers[out] = shapes, values
		}
	}
	return shaped
}

// captured appends the names that the graphs inside a node read.
func captured(n *onnxio.Node, to []string) []string {
	for _, a := range n.Attrs {
		if a.G == nil {
			continue
		}
		for _, inner := range a.G.Nodes {
			to = captured(inner, append(to, inner.Inputs...))
		}
	}
	return to
}

func shapeText(t *onnxio.Type) string {
	if !t.HasShape {
		return "of unknown rank"
	}
	text := ""
	for i, d := range t.Shape {
		if i > 0 {
			text += ","
		}
		switch {
		case d.Param != "":
			text += d.Param
		case d.Value < 0:
			text += "?"
		default:
			text += fmt.Sprint(d.Value)
		}
	}
	return "[" + text + "]"
}
