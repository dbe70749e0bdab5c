package ops

import (
	"math"
	"sort"

	"github.com/cnnkit/cnnkit/onnxio"
)

// RandomNormal, RandomUniform, their Like forms, Bernoulli and Multinomial. Element i follows from a key and
// i alone, whatever thread computes it: the key is the attribute seed where the node has one, so that the
// numbers are the same in every run; else it mixes the run's seed with the output's name. Other
// implementations draw other numbers.

func init() {
	shape := intsA("shape").required()
	normal, uniform := []AttrDef{floatA("mean"), floatA("scale")}, []AttrDef{floatA("low"), floatA("high")}
	def := func(name string, first int64, in TypeSet, eval func(*Eval) error, attrs ...AttrDef) *Def {
		d := &Def{Name: name, Versions: []int64{first, 22}, Random: true,
			Outputs: []Param{formal("output", "T2")},
			Attrs:   append([]AttrDef{intA("dtype"), floatA("seed")}, attrs...),
			Types:   map[string]TypeSet{"T1": in, "T2": Floats},
			Check:   checkRandom, Infer: inferRandom, Eval: eval,
			Grad: func(*Grad) error { return nil }} // what is drawn does not depend on the input's elements
		if in != 0 {
			d.Inputs = []Param{{Name: "input", Type: "T1"}}
		}
		return d
	}
	bernoulli := def("Bernoulli", 15, Floats, evalBernoulli)
	bernoulli.Types["T2"] = Numbers | Bools
	multinomial := def("Multinomial", 7, Floats, evalMultinomial, intA("sample_size"))
	multinomial.Types["T2"] = Indices
	multinomial.Infer = inferMultinomial
	register(
		def("RandomNormal", 1, 0, evalDraws(drawNormal), append(normal, shape)...),
		def("RandomUniform", 1, 0, evalDraws(drawUniform), append(uniform, shape)...),
		def("RandomNormalLike", 1, All, evalDraws(drawNormal), normal...),
		def("RandomUniformLike", 1, All, evalDraws(drawUniform), uniform...),
		bernoulli, multinomial,
	)
}

func checkRandom(n *Node) error {
	if a := n.Attr("dtype"); a != nil && !n.Def.Types["T2"].Has(onnxio.DataType(min(max(a.I, 0), 63))) {
		return n.Errorf("dtype %d is no type that it makes", a.I)
	}
	if _, err := onnxio.CheckedBytes(onnxio.Uint8, n.Ints("shape")); err != nil {
		return n.Errorf("shape %s: %w", dimsText(n.Ints("shape")), err)
	}
	if a := n.Attr("sample_size"); a != nil && a.I < 1 {
		return n.Errorf("sample_size %d is not positive", a.I)
	}
	return nil
}

// drawnType is dtype, by default the input's type, or without an input float32.
func drawnType(n *Node, in onnxio.DataType) (onnxio.DataType, error) {
	if err := checkRandom(n); err != nil {
		return 0, err
	}
	if a := n.Attr("dtype"); a != nil {
		return onnxio.DataType(a.I), nil
	}
	switch {
	case n.OpType == "Multinomial":
		return onnxio.Int32, nil
	case len(n.Def.Inputs) == 0:
		return onnxio.Float, nil
	case !n.Def.Types["T2"].Has(in):
		return 0, n.Errorf("an input of %v needs the attribute dtype", in)
	}
	return in, nil
}

func inferRandom(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	if len(c.Node.Def.Inputs) == 0 {
		t, err := drawnType(c.Node, 0)
		if err == nil {
			c.Set(0, t, knownDims(c.Node.Ints("shape")))
		}
		return err
	}
	t, err := drawnType(c.Node, c.In[0].Type)
	if err != nil {
		return err
	}
	c.SetType(0, t)
	if shaped(c, 0) {
		c.Set(0, t, c.In[0].Shape)
	}
	return nil
}

// drawKey is the key of a node's numbers in one run.
func drawKey(c *Eval) uint64 {
	if a := c.Node.Attr("seed"); a != nil {
		return mix64(uint64(math.Float32bits(a.F)) ^ 0x9e3779b97f4a7c15)
	}
	return dropoutKey(c)
}

// uniform53 is the i-th number of the stream key, in [0,1), of all the bits that float64 has.
func uniform53(key, i uint64) float64 {
	return float64(mix64(key+(i+1)*0x9e3779b97f4a7c15)>>11) / (1 << 53)
}

// drawn is a rule for the i-th number of a stream.
type drawn func(key, i uint64) float64

// drawNormal is mean + scale z, z by the transform of Box and Muller from two numbers.
func drawNormal(n *Node) drawn {
	mean, scale := float64(n.Float("mean", 0)), float64(n.Float("scale", 1))
	return func(key, i uint64) float64 {
		radius := math.Sqrt(-2 * math.Log(1-uniform53(key, 2*i)))
		return mean + scale*radius*math.Cos(2*math.Pi*uniform53(key, 2*i+1))
	}
}

// drawUniform is a number in [low, high), of 24 bits so that float32 does not round it up to high.
func drawUniform(n *Node) drawn {
	low, high := float64(n.Float("low", 0)), float64(n.Float("high", 1))
	return func(key, i uint64) float64 { return low + (high-low)*uniform(key, i) }
}

// evalDraws fills a tensor.
func evalDraws(rule func(*Node) drawn) func(*Eval) error {
	return func(c *Eval) error {
		if err := evalReady(c); err != nil {
			return err
		}
		in, dims := onnxio.Undefined, c.Node.Ints("shape")
		if len(c.Node.Def.Inputs) > 0 {
			in, dims = c.In[0].Type, c.In[0].Dims
		}
		draw, key := rule(c.Node), drawKey(c)
		return fillDrawn(c, in, dims, func(i int) float64 { return draw(key, uint64(i)) })
	}
}

// fillDrawn makes output 0 of the elements at(i).
func fillDrawn(c *Eval, in onnxio.DataType, dims []int64, at func(i int) float64) error {
	t, err := drawnType(c.Node, in)
	if err != nil {
		return err
	}
	y, err := c.Alloc(0, t, dims...)
	if err != nil {
		return err
	}
	wide := y
	if !wideFloats.Has(t) {
		wide = onnxio.NewTensor(onnxio.Double, dims...)
	}
	for i := range int(wide.Size()) {
		setFloat(wide, i, at(i))
	}
	if wide == y {
		return nil
	}
	return cast(c.Node, y, wide, false)
}

// evalBernoulli is 1 with the probability that the input says, else 0.
func evalBernoulli(c *Eval) error {
	if err := evalReady(c); err != nil {
		return err
	}
	p, err := asFloat64(c, c.In[0])
	if err != nil {
		return err
	}
	probabilities := onnxio.Data[float64](p)
	for i, v := range probabilities {
		if !(v >= 0 && v <= 1) {
			return c.Node.Errorf("input[%d] is %v, no probability", i, v)
		}
	}
	key := drawKey(c)
	return fillDrawn(c, c.In[0].Type, c.In[0].Dims, func(i int) float64 {
		if uniform53(key, uint64(i)) < probabilities[i] {
			return 1
		}
		return 0
	})
}

func inferMultinomial(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	t, err := drawnType(c.Node, c.In[0].Type)
	if err != nil {
		return err
	}
	c.SetType(0, t)
	if shaped(c, 0) {
		if len(c.In[0].Shape) != 2 {
			return c.Node.Errorf("input %s is not a batch of classes", shapeText(c.In[0].Shape))
		}
		c.Set(0, t, []onnxio.Dim{c.In[0].Shape[0], knownDim(c.Node.Int("sample_size", 1))})
	}
	return nil
}

// evalMultinomial draws class k of a row with a probability proportional to exp(input[k]).
func evalMultinomial(c *Eval) error {
	if err := evalReady(c); err != nil {
		return err
	}
	x := c.In[0]
	if len(x.Dims) != 2 {
		return c.Node.Errorf("input %s is not a batch of classes", dimsText(x.Dims))
	}
	wide, err := asFloat64(c, x)
	if err != nil {
		return err
	}
	size, classes := c.Node.Int("sample_size", 1), int(x.Dims[1])
	cumulated := onnxio.Data[float64](wide)
	for row := 0; classes > 0 && row < len(cumulated); row += classes {
		if !cumulate(cumulated[row:][:classes]) {
			return c.Node.Errorf("row %d of the input is no distribution", row/classes)
		}
	}
	if classes == 0 && x.Dims[0] > 0 {
		return c.Node.Errorf("input %s has no class to draw", dimsText(x.Dims))
	}
	key := drawKey(c)
	return fillDrawn(c, x.Type, []int64{x.Dims[0], size}, func(i int) float64 {
		line := cumulated[i/int(size)*classes:][:classes]
		at := uniform53(key, uint64(i)) * line[classes-1]
		return float64(min(sort.Search(classes, func(k int) bool { return line[k] > at }), classes-1))
	})
}

// cumulate replaces log-probabilities by the sums of exp(x - max) up to each; false where they have no finite
// maximum.
func cumulate(x []float64) bool {
	top := math.Inf(-1)
	for _, v := range x {
		if math.IsNaN(v) {
			return false
		}
		top = max(top, v)
	}
	if math.IsInf(top, 0) {
		return false
	}
	sum := 0.0
	for i, v := range x {
		sum += math.Exp(v - top)
		x[i] = sum
	}
	return true
}
