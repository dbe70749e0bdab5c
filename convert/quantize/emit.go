package quantize

import (
	"math"
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
)

// quantizer writes a model with some of its layers on bytes.
type quantizer struct {
	g          *graph
	seen       map[string]*observed
	perChannel bool
	trainable  bool // weights stay in float32, to be trained
}

// scaled is the quantization of a tensor to uint8.
type scaled struct {
	scale float32
	zero  uint8
}

// scaled is that of the range that was seen.
func (o *observed) scaled() scaled {
	s := float32((o.high - o.low) / 255)
	if !(s > 1e-30) {
		return scaled{scale: 1}
	}
	return scaled{s, uint8(min(max(math.RoundToEven(-o.low/float64(s)), 0), 255))}
}

// emission is a model on its way.
type emission struct {
	*quantizer
	on      map[*onnxio.Node]bool // runs on bytes
	tensors map[string]scaled     // in bytes
	nodes   []*onnxio.Node
	inits   []*onnxio.Tensor
	written map[string]bool // tensors whose bytes are there
	inputs  map[string]bool // initializers that are there
}

// model is the model in which all layers run on bytes but those named in float.
func (q *quantizer) model(float map[string]bool) (*onnxio.Model, error) {
	e := &emission{quantizer: q, on: map[*onnxio.Node]bool{}, tensors: map[string]scaled{},
		written: map[string]bool{}, inputs: map[string]bool{}}
	e.choose(float)
	out, inner := *q.g.m, *q.g.m.Graph
	out.Graph = &inner
	if e.tensors[q.g.input] != (scaled{}) {
		e.bytes(q.g.input)
	}
	for _, n := range inner.Nodes {
		e.node(n)
	}
	used := map[string]bool{}
	for _, n := range e.nodes {
		for _, name := range n.Inputs {
			used[name] = true
		}
	}
	inner.Nodes = e.nodes
	inner.Initializers = nil
	for _, t := range append(slices.Clone(q.g.m.Graph.Initializers), e.inits...) {
		if used[t.Name] || q.g.output[t.Name] {
			inner.Initializers = append(inner.Initializers, t)
		}
	}
	inner.Inputs = slices.DeleteFunc(slices.Clone(inner.Inputs), func(v *onnxio.ValueInfo) bool {
		return q.g.inits[v.Name] != nil && !used[v.Name]
	})
	return &out, nil
}

// choose decides which tensors are bytes: what layers read and write, behind their activation, and
// what comes of bytes alone.
func (e *emission) choose(float map[string]bool) {
	inside := map[string]bool{} // between a layer and its activation
	for _, n := range e.g.layers() {
		if float[n.Name] || e.seen[n.Inputs[0]] == nil || e.seen[n.Outputs[0]] == nil {
			continue
		}
		e.on[n] = true
		if a := e.g.next(n); e.clips(a) {
			e.on[a], inside[n.Outputs[0]] = true, true
		}
	}
	for _, n := range e.g.m.Graph.Nodes {
		if e.on[n] && !inside[n.Inputs[0]] {
			e.tensor(n.Inputs[0])
		}
		if !e.on[n] && e.follows(n) {
			e.on[n] = true
		}
		if !e.on[n] || inside[n.Outputs[0]] {
			continue
		}
		if from, ok := e.tensors[n.Inputs[0]]; ok && is(n, "MaxPool", "Flatten", "Reshape", "Squeeze",
			"Unsqueeze") {
			e.tensors[n.Outputs[0]] = from
			continue
		}
		e.tensor(n.Outputs[0])
	}
}

func (e *emission) tensor(name string) {
	if _, done := e.tensors[name]; !done {
		e.tensors[name] = e.seen[name].scaled()
	}
}

// clips reports whether n is an activation that the requantization of a layer does.
func (e *emission) clips(n *onnxio.Node) bool {
	if is(n, "Relu") {
		return e.seen[n.Outputs[0]] != nil
	}
	if !is(n, "Clip") || len(n.Inputs) < 2 || e.seen[n.Outputs[0]] == nil {
		return false
	}
	for i := range n.Inputs[1:] {
		if n.Inputs[i+1] != "" && e.g.floats(n, i+1) == nil {
			return false
		}
	}
	return true
}

// follows reports whether n works on bytes where all it reads are bytes already.
func (e *emission) follows(n *onnxio.Node) bool {
	all := is(n, "Add", "Concat")
	if !all && !is(n, "MaxPool", "AveragePool", "GlobalAveragePool", "Relu", "Clip", "LeakyRelu", "Sigmoid",
		"HardSwish", "HardSigmoid",
		"Flatten", "Reshape", "Squeeze", "Unsqueeze") || len(n.Outputs) != 1 || e.seen[n.Outputs[0]] == nil {
		return false
	}
	for i, name := range n.Inputs {
		if _, ok := e.tensors[name]; !ok && (all || i == 0) {
			return false
		}
	}
	return true
}

// node writes a node, with the bytes of its output behind it.
func (e *emission) node(n *onnxio.Node) {
	c := *n
	c.Inputs, c.Outputs = slices.Clone(n.Inputs), slices.Clone(n.Outputs)
	for i, name := range c.Inputs {
		if e.written[name] {
			c.Inputs[i] = name + dequantizedSuffix
			if e.g.output[name] {
				c.Inputs[i] = name
			}
		}
	}
	if e.on[n] && (is(n, "Conv", "Gemm", "MatMul")) && e.g.floats(n, 1) != nil {
		e.weights(n, &c)
	}
	e.nodes = append(e.nodes, &c)
	for i, name := range n.Outputs {
		if _, ok := e.tensors[name]; ok {
			if e.g.output[name] {
				c.Outputs[i] = name + "/float32"
			}
			e.bytes(name)
		}
	}
}

const dequantizedSuffix = "/dequantized"

// bytes writes QuantizeLinear and DequantizeLinear of a tensor.
func (e *emission) bytes(name string) {
	from, to := name, name+dequantizedSuffix
	if e.g.output[name] {
		from, to = name+"/float32", name
	}
	s := e.tensors[name]
	e.pair(name, from, to, onnxio.Scalar(onnxio.Float, s.scale), onnxio.Scalar(onnxio.Uint8, s.zero), nil)
	e.written[name] = true
}

// pair writes a QuantizeLinear and the DequantizeLinear behind it.
func (e *emission) pair(name, from, to string, scale, zero *onnxio.Tensor, attrs []*onnxio.Attribute) {
	by := []string{e.init(name+"/scale", scale), e.init(name+"/zero_point", zero)}
	e.nodes = append(e.nodes,
		&onnxio.Node{Name: name + "/QuantizeLinear", OpType: "QuantizeLinear",
			Inputs: append([]string{from}, by...), Outputs: []string{name + "/quantized"}, Attrs: attrs},
		&onnxio.Node{Name: name + "/DequantizeLinear", OpType: "DequantizeLinear",
			Inputs: append([]string{name + "/quantized"}, by...), Outputs: []string{to}, Attrs: attrs})
}

// init adds an initializer.
func (e *emission) init(name string, t *onnxio.Tensor) string {
	if !e.inputs[name] {
		t.Name = name
		e.inits, e.inputs[name] = append(e.inits, t), true
	}
	return name
}

// weights makes c read weights in int8 and a bias in int32, corrected for what the weights lost; weights and a
// bias in float32 where they are to be trained.
func (e *emission) weights(n, c *onnxio.Node) {
	w, axis := e.g.floats(n, 1), channelAxis(n)
	outs := w.Dims[axis]
	bytes, scales := e.rounded(n, w)
	attrs := []*onnxio.Attribute{onnxio.IntAttr("axis", axis)}
	dims := []int64{int64(len(scales))}
	if len(scales) == 1 {
		attrs, dims = nil, nil
	}
	name, scale, zero := n.Name+"/weight", onnxio.Floats(scales, dims...), onnxio.NewTensor(onnxio.Int8, dims...)
	c.Inputs[1] = name + dequantizedSuffix
	if e.trainable { // training learns both in the presence of the rounding (Jacob et al., 2018)
		e.pair(name, n.Inputs[1], c.Inputs[1], scale, zero, attrs)
		if n.OpType != "MatMul" && e.g.floats(n, 2) == nil {
			c.Inputs = append(c.Inputs[:2], e.init(n.Name+"/bias", e.g.bias(n, outs)))
		}
		return
	}
	e.dequantized(name, bytes, scale, zero, attrs)
	if n.OpType == "MatMul" {
		return
	}
	bias := e.g.bias(n, outs).Float32s()
	e.correct(n, w, bytes, scales, bias)
	for len(c.Inputs) < 3 {
		c.Inputs = append(c.Inputs, "")
	}
	c.Inputs[2] = e.bias(n.Name+"/bias", bias, e.tensors[n.Inputs[0]].scale, scale)
}

// bias writes a bias in int32, in units of the input's scale times the weights', and its DequantizeLinear,
// whose output it names.
func (e *emission) bias(name string, bias []float32, x float32, scales *onnxio.Tensor) string {
	by := scales.Clone()
	scaleBy(by.Float32s(), float64(x))
	units := by.Float32s()
	whole := onnxio.NewTensor(onnxio.Int32, int64(len(bias)))
	for o, b := range bias {
		unit := float64(units[o%len(units)])
		onnxio.Data[int32](whole)[o] = int32(min(max(math.RoundToEven(float64(b)/unit), math.MinInt32),
			math.MaxInt32))
	}
	var attrs []*onnxio.Attribute
	if len(units) > 1 {
		attrs = []*onnxio.Attribute{onnxio.IntAttr("axis", 0)}
	}
	e.dequantized(name, whole, by, nil, attrs)
	return name + dequantizedSuffix
}

// dequantized writes a constant in bytes, and its DequantizeLinear.
func (e *emission) dequantized(name string, t, scale, zero *onnxio.Tensor, attrs []*onnxio.Attribute) {
	in := []string{e.init(name+"/quantized", t), e.init(name+"/scale", scale)}
	if zero != nil {
		in = append(in, e.init(name+"/zero_point", zero))
	}
	e.nodes = append(e.nodes, &onnxio.Node{Name: name + "/DequantizeLinear", OpType: "DequantizeLinear",
		Inputs:  in,
		Outputs: []string{name + dequantizedSuffix}, Attrs: attrs})
}

// rounded are weights in int8 and their scales: one, or one for each output.
func (e *emission) rounded(n *onnxio.Node, w *onnxio.Tensor) (*onnxio.Tensor, []float32) {
	outs := 1
	if e.perChannel {
		outs = int(outputs(n, w))
	}
	scales := make([]float32, outs)
	data := w.Float32s()
	for i, v := range data {
		o := output(n, w, i) % outs
		scales[o] = max(scales[o], float32(math.Abs(float64(v)))/math.MaxInt8)
	}
	for o, s := range scales {
		if !(s > 1e-30) {
			scales[o] = 1
		}
	}
	q := onnxio.NewTensor(onnxio.Int8, w.Dims...)
	for i, v := range data {
		q.Raw[i] = uint8(int8(min(max(math.RoundToEven(float64(v/scales[output(n, w, i)%outs])),
			-math.MaxInt8), math.MaxInt8)))
	}
	return q, scales
}

// output is the output that weight i belongs to.
func output(n *onnxio.Node, w *onnxio.Tensor, i int) int {
	if channelAxis(n) == 0 {
		return i / int(w.Size()/w.Dims[0])
	}
	return i % int(w.Dims[1])
}

// correct takes from the bias what the rounding of the weights adds to the mean output: its products with the
// mean inputs, padding aside (Nagel et al., 2019).
func (e *emission) correct(n *onnxio.Node, w, bytes *onnxio.Tensor, scales, bias []float32) {
	x := e.seen[n.Inputs[0]]
	added := make([]float64, len(bias))
	for i, v := range w.Float32s() {
		o := output(n, w, i)
		off := float64(int8(bytes.Raw[i]))*float64(scales[o%len(scales)]) - float64(v)
		if c := channelRead(n, w, i); c < len(x.means) {
			added[o] += off * x.mean(c)
		}
	}
	for o := range bias {
		bias[o] -= float32(added[o])
	}
}

// channelRead is the channel of the input that weight i is multiplied with.
func channelRead(n *onnxio.Node, w *onnxio.Tensor, i int) int {
	if n.OpType != "Conv" {
		if channelAxis(n) == 0 {
			return i % int(w.Dims[1])
		}
		return i / int(w.Dims[1])
	}
	taps := int(w.Dims[2] * w.Dims[3])
	groups := int(n.Int("group", 1))
	group := output(n, w, i) / max(1, int(w.Dims[0])/groups)
	return group*int(w.Dims[1]) + i/taps%int(w.Dims[1])
}
