package ops

import (
	"math"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Adagrad, Adam and Momentum of ai.onnx.preview.training: one update each of any number of tensors. The
// inputs after R, the learning rate, and T, the number of updates before, are all X, then all gradients, then
// all states of each kind; the outputs all X, then all states. Gradient, the fourth of the domain, names
// tensors of the graph around it and is not an operator of its inputs alone: it is not defined here.

// TrainingDomain is the domain of the optimisers.
const TrainingDomain = "ai.onnx.preview.training"

// updateRule makes the update of one element from the attributes, the rate and the count: from x and its
// gradient to the new x; the states are changed in place.
type updateRule func(n *Node, rate, count float64) func(x, gradient float64, state []float64) float64

func init() {
	def := func(name string, states int, rule updateRule, attrs ...AttrDef) *Def {
		return &Def{Name: name, Domain: TrainingDomain, Versions: []int64{1}, Attrs: attrs,
			Tol: arithmeticTol,
			Inputs: []Param{formal("R", "T1"), formal("T", "T2"), {Name: "inputs", Type: "T3",
				Variadic: true}},
			Outputs: []Param{{Name: "outputs", Type: "T3", Variadic: true}},
			Types:   map[string]TypeSet{"T1": wideFloats, "T2": Set(onnxio.Int64), "T3": wideFloats},
			Check:   checkOptimizer,
			Infer:   func(c *Infer) error { return inferOptimizer(c, states) },
			Eval:    func(c *Eval) error { return evalOptimizer(c, states, rule) }}
	}
	norm, eps := floatA("norm_coefficient"), floatA("epsilon")
	register(
		def("Adagrad", 1, adagrad, floatA("decay_factor"), eps, norm),
		def("Adam", 2, adam, floatA("alpha"), floatA("beta"), eps, norm, floatA("norm_coefficient_post")),
		def("Momentum", 1, momentum, floatA("alpha").required(), floatA("beta").required(),
			stringA("mode").required(),
			norm.required()),
	)
}

func checkOptimizer(n *Node) error {
	if mode := n.Str("mode", "standard"); mode != "standard" && mode != "nesterov" {
		return n.Errorf("mode %q is not standard or nesterov", mode)
	}
	return nil
}

// adagrad is h += g*g, x -= R/(1+T*decay) g/(sqrt(h)+eps), with the gradient of norm/2 x*x added to g.
func adagrad(n *Node, rate, count float64) func(x, g float64, state []float64) float64 {
	rate /= 1 + count*float64(n.Float("decay_factor", 0))
	norm, eps := float64(n.Float("norm_coefficient", 0)), float64(n.Float("epsilon", 1e-6))
	return func(x, g float64, state []float64) float64 {
		g += norm * x
		state[0] += g * g
		return x - rate*g/(math.Sqrt(state[0])+eps)
	}
}

// adam is v = a v + (1-a) g, h = b h + (1-b) g*g, x -= R sqrt(1-b^T)/(1-a^T) v/(sqrt(h)+eps); for T = 0 R is
// as given.
func adam(n *Node, rate, count float64) func(x, g float64, state []float64) float64 {
	a, b := float64(n.Float("alpha", 0.9)), float64(n.Float("beta", 0.999))
	norm, eps := float64(n.Float("norm_coefficient", 0)), float64(n.Float("epsilon", 1e-6))
	post := 1 - float64(n.Float("norm_coefficient_post", 0))
	if count > 0 {
		rate *= math.Sqrt(1-math.Pow(b, count)) / (1 - math.Pow(a, count))
	}
	return func(x, g float64, state []float64) float64 {
		g += norm * x
		state[0] = a*state[0] + (1-a)*g
		state[1] = b*state[1] + (1-b)*g*g
		return post * (x - rate*state[0]/(math.Sqrt(state[1])+eps))
	}
}

// momentum is v = a v + b g (b = 1 at the first update), x -= R v, or by Nesterov x -= R (g + a v).
func momentum(n *Node, rate, count float64) func(x, g float64, state []float64) float64 {
	a, b := float64(n.Float("alpha", 0)), float64(n.Float("beta", 0))
	norm := float64(n.Float("norm_coefficient", 0))
	if count <= 0 {
		b = 1
	}
	nesterov := n.Str("mode", "standard") == "nesterov"
	return func(x, g float64, state []float64) float64 {
		g += norm * x
		state[0] = a*state[0] + b*g
		if nesterov {
			return x - rate*(g+a*state[0])
		}
		return x - rate*state[0]
	}
}

// optimised is how many tensors a node updates.
func optimised(n *Node, inputs, states int) (int, error) {
	if inputs -= 2; inputs <= 0 || inputs%(2+states) != 0 {
		return 0, n.Errorf("%d inputs after R and T are not %d for each tensor", inputs, 2+states)
	}
	return inputs / (2 + states), nil
}

func inferOptimizer(c *Infer, states int) error {
	if err := inferReady(c); err != nil {
		return err
	}
	count, err := optimised(c.Node, len(c.In), states)
	if err != nil {
		return err
	}
	for i := range count * (1 + states) {
		from := 2 + i%count
		if c.Has(from) {
			setLike(c, i, c.In[from])
		}
	}
	for i := 2 + count; i < len(c.In); i++ {
		from := 2 + (i-2)%count
		if shaped(c, i, from) && !agreeAll(c.In[i].Shape, c.In[from].Shape) {
			return c.Node.Errorf("input %d %s with tensor %s", i, shapeText(c.In[i].Shape),
				shapeText(c.In[from].Shape))
		}
	}
	return nil
}

func evalOptimizer(c *Eval, states int, rule updateRule) error {
	if err := evalReady(c); err != nil {
		return err
	}
	count, err := optimised(c.Node, len(c.In), states)
	if err != nil {
		return err
	}
	if c.In[0].Size() != 1 || c.In[1].Size() != 1 || c.In[1].Type != onnxio.Int64 {
		return c.Node.Errorf("R %s and T %v %s are not scalars",
			dimsText(c.In[0].Dims), c.In[1].Type, dimsText(c.In[1].Dims))
	}
	update := rule(c.Node, floatAt(c.In[0], 0), float64(onnxio.Data[int64](c.In[1])[0]))
	for k := range count {
		if err := updateTensor(c, k, count, states, update); err != nil {
			return err
		}
	}
	return nil
}

// updateTensor updates the k-th of count tensors.
func updateTensor(c *Eval, k, count, states int, update func(x, g float64, state []float64) float64) error {
	in := make([][]float64, 2+states) // x, gradient, states
	for i := range in {
		at := 2 + i*count + k
		if x := c.In[2+k]; !c.Has(at) || !wideFloats.Has(c.In[at].Type) || x == nil ||
			c.In[at].Type != x.Type ||
			!equal(c.In[at].Dims, x.Dims) {
			return c.Node.Errorf("input %d is not like the tensor that it belongs to", at)
		}
		in[i] = doubles(c, at)
	}
	out := make([]*onnxio.Tensor, 1+states)
	for i := range out {
		var err error
		if out[i], err = c.Alloc(i*count+k, c.In[2+k].Type, c.In[2+k].Dims...); err != nil {
			return err
		}
	}
	state := make([]float64, states)
	for e, x := range in[0] {
		for i := range state {
			state[i] = in[2+i][e]
		}
		setFloat(out[0], e, update(x, in[1][e], state))
		for i, v := range state {
			setFloat(out[1+i], e, v)
		}
	}
	return nil
}
