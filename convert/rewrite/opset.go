package rewrite

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/infer"
)

// oldest is the operator set from which on models are brought up: before it arithmetic
// broadcast in another way.
const oldest = 7

// newestOpset is the newest operator set that models are brought to.
const newestOpset = 21

// adapter turns a node of the version before a definition into one of it. It may add initializers.
type adapter func(u *upgrade, n *onnxio.Node) error

// adapters has the definitions that changed what a node says, by operator and version. All other changes
// since opset 7 added types, outputs or attributes whose defaults are what was.
var adapters = map[string]map[int64]adapter{
	"BatchNormalization": {9: refuse("spatial", 1), 14: inferenceNorm},
	"Clip":               {11: attrsToInputs("min", "max")},
	"Dropout":            {12: attrsToInputs("ratio")},
	"GridSample":         {20: gridModes},
	"GroupNormalization": {21: never("scale and bias are of channels since then")},
	"Hardmax":            {13: softmaxAxis}, "LogSoftmax": {13: softmaxAxis}, "Softmax": {13: softmaxAxis},
	"Pad":             {11: padInputs},
	"ReduceL1":        {18: attrsToInputs("axes")},
	"ReduceL2":        {18: attrsToInputs("axes")},
	"ReduceMax":       {18: attrsToInputs("axes")},
	"ReduceMean":      {18: attrsToInputs("axes")},
	"ReduceMin":       {18: attrsToInputs("axes")},
	"ReduceProd":      {18: attrsToInputs("axes")},
	"ReduceLogSum":    {18: attrsToInputs("axes")},
	"ReduceLogSumExp": {18: attrsToInputs("axes")},
	"ReduceSumSquare": {18: attrsToInputs("axes")}, "ReduceSum": {13: attrsToInputs("axes")},
	"Resize":    {11: never("its coordinates are computed in another way")},
	"RoiAlign":  {16: roiMode},
	"Scan":      {9: never("its form changed")},
	"Scatter":   {11: never("it is ScatterElements since then")},
	"Slice":     {10: sliceInputs},
	"Split":     {13: attrsToInputs("split"), 18: splitOutputs},
	"Squeeze":   {13: attrsToInputs("axes")},
	"Unsqueeze": {13: attrsToInputs("axes")},
	"TopK":      {10: attrsToInputs("k")},
	"Upsample":  {9: attrsToInputs("scales"), 10: never("it is Resize since then")},
	"DFT":       {20: never("its axis is an input since then")},
}

// upgrade is a model on its way.
type upgrade struct {
	m      *onnxio.Model
	before *infer.Result // what is known of the values before
	count  int
}

// Opset brings a model to another operator set of ai.onnx. Upwards, nodes whose definition changed
// are rewritten; downwards it goes only where no node's definition changed. Everything else is an
// error that names the nodes.
func Opset(m *onnxio.Model, to int64) (*onnxio.Model, error) {
	m, err := canonical(m)
	if err != nil {
		return nil, err
	}
	from := m.Opset("")
	out := copied(m)
	switch {
	case from == to:
		return out, nil
	case len(m.Functions) > 0:
		return nil, fmt.Errorf(
			"the model has functions of its own, which are written in an operator set of their own: simplify it first")
	case to < from:
		if err := down(out, from, to); err != nil {
			return nil, err
		}
	case from < oldest || to > newestOpset:
		return nil, fmt.Errorf(
			"the model is of opset %d: models of opset %d and newer are brought up, to %d at most", from,
			oldest, newestOpset)
	default:
		known, err := infer.Shapes(m)
		if err != nil {
			return nil, err
		}
		u := &upgrade{m: out, before: known}
		if err := u.up(from, to); err != nil {
			return nil, err
		}
	}
	for i, o := range out.Opsets {
		if o.Domain == "" {
			out.Opsets[i].Version = to
		}
	}
	out.IRVersion = max(out.IRVersion, onnxio.IRVersionFor(to))
	return out, nil
}

// crossed lists the definitions of an operator that lie between two operator sets.
func crossed(n *onnxio.Node, from, to int64) []int64 {
	d := ops.Lookup(n.Domain, n.OpType)
	if d == nil || n.Domain != "" {
		return nil
	}
	var out []int64
	for _, v := range d.Versions {
		if v > from && v <= to {
			out = append(out, v)
		}
	}
	return out
}

func down(m *onnxio.Model, from, to int64) error {
	var bad []string
	for _, n := range m.Graph.Nodes {
		if v := crossed(n, to, from); len(v) > 0 || ops.Lookup(n.Domain, n.OpType) == nil ||
			len(bodies(n)) > 0 {
			if len(bad) < 8 {
				bad = append(bad, fmt.Sprintf("%s (changed in opset %v)", title(n), v))
			} else if len(bad) == 8 {
				bad = append(bad, "...")
			}
		}
	}
	if bad != nil {
		return fmt.Errorf("the model cannot go down from opset %d to %d, since definitions changed between them: %s; "+
			"a network of 'cnnkit list networks' is built anew for any opset", from, to,
			strings.Join(bad, ", "))
	}
	return nil
}

// up rewrites the nodes, version by version.
func (u *upgrade) up(from, to int64) error {
	for _, n := range u.m.Graph.Nodes {
		if len(bodies(n)) > 0 {
			return &onnxio.UnsupportedError{Op: n.OpType, Node: n.Name,
				Reason: "bodies are not brought to another opset"}
		}
		if n.Domain == "" && ops.Lookup("", n.OpType) == nil {
			return &onnxio.UnsupportedError{Op: n.OpType, Node: n.Name,
				Reason: "what changed in it is not known here"}
		}
		for _, v := range crossed(n, from, to) {
			a := adapters[n.OpType][v]
			if a == nil {
				continue
			}
			if err := a(u, n); err != nil {
				return &onnxio.UnsupportedError{Op: n.OpType, Node: n.Name, Opset: v, Reason: err.Error()}
			}
		}
	}
	return nil
}

// hold makes an initializer and gives its name.
func (u *upgrade) hold(n *onnxio.Node, what string, t *onnxio.Tensor) string {
	u.count++
	t.Name = fmt.Sprintf("%s/%s%d", n.Outputs[0], what, u.count)
	u.m.Graph.Initializers = append(u.m.Graph.Initializers, t)
	return t.Name
}

// take removes an attribute and gives it; nil where there is none.
func take(n *onnxio.Node, name string) *onnxio.Attribute {
	a := n.Attr(name)
	n.Attrs = slices.DeleteFunc(n.Attrs, func(x *onnxio.Attribute) bool { return x.Name == name })
	return a
}

// attrsToInputs makes inputs, behind the first, of attributes; those that are not set are omitted.
func attrsToInputs(names ...string) adapter {
	return func(u *upgrade, n *onnxio.Node) error {
		inputs := n.Inputs[:1:1]
		for _, name := range names {
			a, input := take(n, name), ""
			switch {
			case a == nil:
			case a.Type == onnxio.AttrInts:
				input = u.hold(n, name, onnxio.Int64s(a.Ints, int64(len(a.Ints))))
			case a.Type == onnxio.AttrInt:
				input = u.hold(n, name, onnxio.Int64s([]int64{a.I}, 1))
			case a.Type == onnxio.AttrFloats:
				input = u.hold(n, name, onnxio.Floats(a.Floats, int64(len(a.Floats))))
			case a.Type == onnxio.AttrFloat:
				input = u.hold(n, name, onnxio.Floats([]float32{a.F}))
			default:
				return fmt.Errorf("attribute %s is of another type", name)
			}
			inputs = append(inputs, input)
		}
		for len(inputs) > 1 && inputs[len(inputs)-1] == "" {
			inputs = inputs[:len(inputs)-1]
		}
		n.Inputs = inputs
		return nil
	}
}

// refuse takes out an attribute that must have its default.
func refuse(name string, def int64) adapter {
	return func(_ *upgrade, n *onnxio.Node) error {
		if a := take(n, name); a != nil && a.I != def {
			return fmt.Errorf("%s is %d, which the newer definition cannot say", name, a.I)
		}
		return nil
	}
}

func never(reason string) adapter {
	return func(*upgrade, *onnxio.Node) error { return fmt.Errorf("%s", reason) }
}

// inferenceNorm: before version 14 further outputs meant training.
func inferenceNorm(_ *upgrade, n *onnxio.Node) error {
	for _, o := range n.Outputs[1:] {
		if o != "" {
			return fmt.Errorf("it is in training mode")
		}
	}
	n.Outputs = n.Outputs[:1]
	return nil
}

// softmaxAxis: before version 13 the dimensions from axis on, 1 by default, were one. That is the newer
// meaning where axis is the last one.
func softmaxAxis(u *upgrade, n *onnxio.Node) error {
	rank := u.rank(n.Inputs[0])
	axis := n.Int("axis", 1)
	if axis < 0 && rank > 0 {
		axis += int64(rank)
	}
	if n.Int("axis", 1) != -1 && (rank == 0 || axis != int64(rank)-1) {
		return fmt.Errorf("it joins the dimensions from axis %d on, which the newer definition does not",
			n.Int("axis", 1))
	}
	take(n, "axis")
	n.Attrs = append(n.Attrs, onnxio.IntAttr("axis", -1))
	return nil
}

// rank is that of a value, 0 where it is not known.
func (u *upgrade) rank(name string) int {
	return len(u.before.ValueInfo(name).Type.Shape)
}

func padInputs(u *upgrade, n *onnxio.Node) error {
	pads, value := take(n, "pads"), take(n, "value")
	if pads == nil {
		return fmt.Errorf("it has no pads")
	}
	n.Inputs = []string{n.Inputs[0], u.hold(n, "pads", onnxio.Int64s(pads.Ints, int64(len(pads.Ints))))}
	if value != nil {
		n.Inputs = append(n.Inputs, u.hold(n, "value", onnxio.Floats([]float32{value.F})))
	}
	return nil
}

func sliceInputs(u *upgrade, n *onnxio.Node) error {
	starts, ends, axes := take(n, "starts"), take(n, "ends"), take(n, "axes")
	if starts == nil || ends == nil {
		return fmt.Errorf("it has no starts or ends")
	}
	n.Inputs = n.Inputs[:1:1]
	for i, a := range []*onnxio.Attribute{starts, ends, axes} {
		if a != nil {
			n.Inputs = append(n.Inputs, u.hold(n, []string{"starts", "ends", "axes"}[i],
				onnxio.Int64s(a.Ints, int64(len(a.Ints)))))
		}
	}
	return nil
}

// splitOutputs: since version 18 parts of equal size need their number.
func splitOutputs(_ *upgrade, n *onnxio.Node) error {
	if len(n.Inputs) < 2 || n.Inputs[1] == "" {
		n.Attrs = append(n.Attrs, onnxio.IntAttr("num_outputs", int64(len(n.Outputs))))
	}
	return nil
}

// roiMode: before version 16 coordinates were not moved by half a pixel.
func roiMode(_ *upgrade, n *onnxio.Node) error {
	if n.Attr("coordinate_transformation_mode") == nil {
		n.Attrs = append(n.Attrs, onnxio.StringAttr("coordinate_transformation_mode", "output_half_pixel"))
	}
	return nil
}

func gridModes(_ *upgrade, n *onnxio.Node) error {
	mode := n.Str("mode", "bilinear")
	take(n, "mode")
	if newer, ok := map[string]string{"bilinear": "linear", "bicubic": "cubic"}[mode]; ok {
		mode = newer
	}
	n.Attrs = append(n.Attrs, onnxio.StringAttr("mode", mode))
	return nil
}
