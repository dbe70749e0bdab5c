package draw

import (
	"math"
	"slices"

	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/onnxio"
)

// form is how nodes of one operator are drawn.
type form struct {
	op   string
	draw func(d *drawer) *onnxio.Node // nil: not with what is there
	// careful operators jump or have poles: they read exact values only.
	careful bool
	// moves says that results are some of the inputs' numbers, so that they are as exact as these.
	moves bool
	// finite operators read NaN and infinities in wild models only: sums that a fast path takes in another
	// way spread them.
	finite bool
	// periodic operators read no sums of many numbers: the last bit of a thousand moves a sine by 6e-5.
	periodic bool
	// grows bounds the results by the inputs' bound; nil: they are no larger.
	grows func(size float64, n *onnxio.Node) float64
}

// special are the operators for which the registry does not say enough to draw more than refusals.
var special = map[string]form{}

// passing operators pass numbers on, or choose among them by their size.
var passing = []string{"Identity", "Relu", "Abs", "Neg", "Max", "Min", "Clip", "Concat", "Flatten",
	"Reshape", "Transpose", "Slice", "Pad", "Gather", "Squeeze", "Unsqueeze", "Split", "Expand", "Tile",
	"Where", "MaxPool", "GlobalMaxPool", "DepthToSpace", "SpaceToDepth", "ReduceMax", "ReduceMin", "Dropout",
	"Trilu"}

// moving operators give some of their inputs' numbers, or whole ones.
var moving = slices.Concat(passing, []string{"Round", "Ceil", "Floor", "Sign", "TopK", "Cast"})

// smooth are the operators whose results move little when their inputs do; all others are careful.
var smooth = slices.Concat(passing, []string{"Conv", "ConvTranspose", "BatchNormalization",
	"InstanceNormalization", "LayerNormalization", "GroupNormalization", "AveragePool", "GlobalAveragePool",
	"LRN", "Gemm", "MatMul", "Add", "Sub", "Mul", "Sum", "Mean", "Sigmoid", "Tanh", "HardSigmoid",
	"HardSwish", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Softplus", "Softsign", "Gelu", "Mish", "Swish",
	"Erf", "Atan", "Sin", "Cos", "Softmax", "LogSoftmax", "Resize", "Upsample", "ReduceMean", "ReduceSum",
	"ReduceL1", "CumSum", "LpPool", "Shape", "Size"})

// left are the operators that are not drawn: control flow and sequences have subgraphs and no tensors, others
// give random numbers, and of some any drawn input is refused.
var left = []string{"If", "Loop", "Scan", "SequenceMap", "Constant", "ConstantOfShape", "Range",
	"EyeLike", "Optional", "OptionalGetElement", "OptionalHasElement", "SequenceConstruct", "SequenceEmpty",
	"SequenceErase", "SequenceInsert", "SequenceAt", "SequenceLength", "SplitToSequence",
	"ConcatFromSequence", "ReverseSequence", "MaxUnpool", "TensorScatter", "CastLike"}

// forms lists every operator that is drawn: those that networks are made of several times.
var forms = listForms()

func listForms() []form {
	registerWindows()
	registerShapes()
	registerMatrices()
	var out []form
	for _, d := range ops.Defs() {
		if d.Domain != "" || d.Random && d.Name != "Dropout" || slices.Contains(left, d.Name) ||
			d.EvalValues != nil {
			continue
		}
		f, ok := special[d.Name]
		if !ok {
			f = form{draw: func(dr *drawer) *onnxio.Node { return dr.generic(d) }}
		}
		f.op = d.Name
		f.moves, f.careful = slices.Contains(moving, d.Name), !slices.Contains(smooth, d.Name)
		if f.grows == nil {
			f.grows = growth(d.Name)
		}
		f.finite = slices.Contains([]string{"Conv", "ConvTranspose"}, d.Name)
		f.periodic = slices.Contains([]string{"Sin", "Cos"}, d.Name)
		times := 1
		switch d.Name {
		case "Conv":
			times = 16
		case "ConvTranspose", "BatchNormalization", "Add", "Mul", "Relu", "MaxPool", "AveragePool", "Concat":
			times = 5
		case "Clip", "Sigmoid", "HardSwish", "GlobalAveragePool", "Gemm", "MatMul", "Resize", "Reshape",
			"Transpose", "Slice", "Pad", "Softmax", "LayerNormalization":
			times = 3
		}
		for range times {
			out = append(out, f)
		}
	}
	// The first form is what exhausted choices give.
	i := slices.IndexFunc(out, func(f form) bool { return f.op == "Relu" })
	out[0], out[i] = out[i], out[0]
	return out
}

// growth is how operators that are not special grow their inputs' bound.
func growth(op string) func(float64, *onnxio.Node) float64 {
	times := func(k float64) func(float64, *onnxio.Node) float64 {
		return func(size float64, _ *onnxio.Node) float64 { return max(1, k*size) }
	}
	switch op {
	case "Add", "Sub", "Softplus", "LogSoftmax", "Selu", "PRelu":
		return times(2)
	case "Sum", "Mean":
		return times(4)
	case "Mul", "Pow", "SwiGLU":
		return func(size float64, _ *onnxio.Node) float64 { return max(1, size*size) }
	case "ReduceSum", "ReduceL1", "ReduceL2", "ReduceLogSumExp", "CumSum":
		return times(16)
	case "ReduceSumSquare":
		return func(size float64, _ *onnxio.Node) float64 { return max(1, 16*size*size) }
	case "ReduceProd":
		return func(size float64, _ *onnxio.Node) float64 { return max(1, math.Pow(size, 16)) }
	case "LRN": // times the base, at least the bias, to the power of -beta
		return func(size float64, n *onnxio.Node) float64 {
			bias, beta := n.Attr("bias"), n.Attr("beta")
			base, power := 1.0, 0.75
			if bias != nil {
				base = float64(bias.F)
			}
			if beta != nil {
				power = float64(beta.F)
			}
			return max(1, size*math.Pow(base, -power))
		}
	case "Sigmoid", "Tanh", "HardSigmoid", "Softsign", "Erf", "Softmax", "Sin", "Cos", "Atan":
		return func(float64, *onnxio.Node) float64 { return 1.6 }
	}
	return func(size float64, _ *onnxio.Node) float64 { return max(1, size) }
}

// value chooses a value, a late one more often, that ok admits.
func (d *drawer) value(ok func(*value) bool) *value {
	var list []*value
	for _, v := range d.values {
		if ok == nil || ok(v) {
			list = append(list, v)
		}
	}
	if len(list) == 0 {
		return nil
	}
	if d.one(3) {
		return list[d.n(len(list))]
	}
	return list[len(list)-1-d.n(min(2, len(list)))]
}

// ranked admits values of ranks from low to high.
func ranked(low, high int) func(*value) bool {
	return func(v *value) bool {
		return v.info.HasShape && len(v.info.Shape) >= low && len(v.info.Shape) <= high
	}
}

// floating admits values of floating types whose channels are known.
func floating(low, high int) func(*value) bool {
	ok := ranked(low, high)
	return func(v *value) bool {
		return ok(v) && ops.Floats.Has(v.info.Type) && v.info.Shape[1].Known() && v.info.Shape[1].Value > 0
	}
}

// since is the version of an operator in force, 0 when there is none yet.
func (d *drawer) since(op string) int64 {
	b, err := ops.Bind(&onnxio.Node{OpType: op}, d.opset)
	if err != nil {
		return 0
	}
	return b.Since
}

// def is the definition of an operator.
func def(op string) *ops.Def {
	b, err := ops.Bind(&onnxio.Node{OpType: op}, 1<<20)
	if err != nil {
		panic(err)
	}
	return b.Def
}

// put gives a node an argument as the version in force takes it: an input of that name, or an attribute.
func (d *drawer) put(n *onnxio.Node, op, name string, v ...int64) {
	since := d.since(op)
	for i, p := range def(op).InputsAt(since) {
		if p.Name == name {
			for len(n.Inputs) <= i {
				n.Inputs = append(n.Inputs, "")
			}
			n.Inputs[i] = d.ints(v...)
			return
		}
	}
	d.attr(n, op, onnxio.IntsAttr(name, v...))
}

// attr adds an attribute where the version in force has it.
func (d *drawer) attr(n *onnxio.Node, op string, a *onnxio.Attribute) {
	since := d.since(op)
	for _, def := range def(op).Attrs {
		inForce := (def.Since == 0 || def.Since <= since) && (def.Until == 0 || since <= def.Until)
		if inForce && def.Name == a.Name && def.Type == a.Type {
			n.Attrs = append(n.Attrs, a)
			return
		}
	}
}

// generic draws from what the registry says: inputs that broadcast, attributes by their names.
func (d *drawer) generic(def *ops.Def) *onnxio.Node {
	since := d.since(def.Name)
	if since == 0 {
		return nil
	}
	x := d.value(ranked(0, 6))
	if x == nil {
		return nil
	}
	n := &onnxio.Node{}
	for i, p := range def.InputsAt(since) {
		if i > 0 && p.Optional && d.one(2) {
			break
		}
		switch {
		case i == 0:
			n.Inputs = append(n.Inputs, x.name)
		default:
			n.Inputs = append(n.Inputs, d.partner(x, typeFor(def, p, x.info.Type)))
		}
		for p.Variadic && len(n.Inputs) < 4 && d.one(2) {
			n.Inputs = append(n.Inputs, d.partner(x, x.info.Type))
		}
	}
	if d.one(6) && len(n.Inputs) == 2 && d.since(def.Name) >= 7 {
		slices.Reverse(n.Inputs)
	}
	for _, a := range def.Attrs {
		if (a.Since == 0 || a.Since <= since) && (a.Until == 0 || since <= a.Until) &&
			(a.Required || d.one(2)) {
			if made := d.attribute(a, len(x.info.Shape)); made != nil {
				n.Attrs = append(n.Attrs, made)
			}
		}
	}
	return n
}

// typeFor is a type for an input: that of x where they share a variable, else one that the variable admits.
func typeFor(def *ops.Def, p ops.Param, x onnxio.DataType) onnxio.DataType {
	set, ok := def.Types[p.Type]
	if !ok || set.Has(x) {
		return x
	}
	for _, t := range []onnxio.DataType{onnxio.Int64, onnxio.Float, onnxio.Bool, onnxio.Uint8} {
		if set.Has(t) {
			return t
		}
	}
	return x
}

// partner is a second operand that broadcasts with x: another value of its shape, or weights of a class.
func (d *drawer) partner(x *value, elem onnxio.DataType) string {
	if d.one(2) {
		same := d.value(func(v *value) bool { return v.info.Type == elem && sameShape(v.info, x.info) })
		if same != nil {
			return same.name
		}
	}
	shape := x.info.Shape
	dims := make([]int64, len(shape))
	for i := range dims {
		dims[i] = 1
	}
	class := d.n(6)
	for i, s := range shape {
		whole := class == 0 && i == 1 || class == 1 && i > 1 || class == 2 && i == len(shape)-1 || class == 3
		if s.Known() && whole {
			dims[i] = s.Value
		}
	}
	switch {
	case class == 4:
		dims = nil
	case class == 2 && len(dims) > 0:
		dims = dims[len(dims)-1:]
	case class == 0 && len(dims) > 2 && d.one(2):
		dims = dims[1:]
	}
	return d.init(elem, 1.5, dims...)
}

// sameShape says that two shapes are the same in every run.
func sameShape(a, b *ops.Value) bool {
	if !a.HasShape || !b.HasShape || len(a.Shape) != len(b.Shape) {
		return false
	}
	for i, s := range a.Shape {
		if s != b.Shape[i] || s.Param == "" && s.Value < 0 {
			return false
		}
	}
	return true
}

// attribute draws one by its name, of an operator on rank dimensions.
func (d *drawer) attribute(a ops.AttrDef, rank int) *onnxio.Attribute {
	switch a.Type {
	case onnxio.AttrFloat:
		switch a.Name {
		case "epsilon", "bias":
			return onnxio.FloatAttr(a.Name, pick[float32](d, 0.1, 0.01, 1))
		case "min":
			return onnxio.FloatAttr(a.Name, pick[float32](d, 0, -1, 0.5))
		case "max":
			return onnxio.FloatAttr(a.Name, pick[float32](d, 6, 1, 0.75))
		}
		return onnxio.FloatAttr(a.Name, pick[float32](d, 0.5, 1, 0.1, 0, 0.2, 1.5))
	case onnxio.AttrInt:
		switch a.Name {
		case "axis":
			return onnxio.IntAttr(a.Name, int64(d.n(2*rank)-rank))
		case "to", "dtype":
			to := pick(d, onnxio.Float, onnxio.Double, onnxio.Int32, onnxio.Float16, onnxio.Int64,
				onnxio.Bool)
			return onnxio.IntAttr(a.Name, int64(to))
		case "blocksize":
			return onnxio.IntAttr(a.Name, pick[int64](d, 2, 1, 3, 4))
		case "num_groups":
			return onnxio.IntAttr(a.Name, pick[int64](d, 1, 2, 4, 8))
		case "size":
			return onnxio.IntAttr(a.Name, pick[int64](d, 3, 1, 5, 2))
		case "stash_type", "training_mode", "is_test", "spatial", "axes", "consumed_inputs":
			return nil
		case "p":
			return onnxio.IntAttr(a.Name, pick[int64](d, 2, 1))
		case "broadcast": // before opset 7, where it takes another form
			return nil
		}
		return onnxio.IntAttr(a.Name, int64(d.n(2)))
	case onnxio.AttrString:
		switch a.Name {
		case "approximate":
			return onnxio.StringAttr(a.Name, pick(d, "none", "tanh"))
		case "direction":
			return onnxio.StringAttr(a.Name, pick(d, "LEFT", "RIGHT"))
		case "mode":
			return onnxio.StringAttr(a.Name, pick(d, "DCR", "CRD"))
		}
	}
	return nil
}
