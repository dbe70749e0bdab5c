package ops

import (
	"math"
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
)

// What ONNX Runtime's optimizer fuses, in com.microsoft: FusedConv, FusedGemm and FusedMatMul.

func init() {
	types := Set(onnxio.Float, onnxio.Double, onnxio.Float16)
	some, y := map[string]TypeSet{"T": types}, formals("Y T")
	conv := windowAttrs(intsA("dilations"), intA("group"), stringA("activation"),
		AttrDef{Name: "activation_params", Type: onnxio.AttrFloats})
	gemm := []AttrDef{floatA("alpha"), floatA("beta"), intA("transA"), intA("transB"), stringA("activation"),
		floatA("activation_alpha"), floatA("activation_beta"), floatA("activation_gamma")}
	matMul := []AttrDef{intA("transA"), intA("transB"), intA("transBatchA"), intA("transBatchB"),
		floatA("alpha")}
	register(
		contrib(&Def{Name: "FusedConv", Attrs: conv, Inputs: formals("X T, W T, B? T, Z? T"), Outputs: y,
			Types: some,
			Tol:   convTol, Check: checkFused, Infer: inferFusedConv, Weights: []int{1},
			Eval: byFloat(evalFused[float32]("Conv", 3), evalFused[float64]("Conv", 3))}),
		contrib(&Def{Name: "FusedGemm", Attrs: gemm, Inputs: formals("A T, B T, C? T"), Outputs: y,
			Types: some,
			Tol:   convTol, Check: checkFused, Infer: inferFusedGemm, Weights: []int{1},
			Eval: byFloat(evalFused[float32]("Gemm", 3), evalFused[float64]("Gemm", 3))}),
		contrib(&Def{Name: "FusedMatMul", Attrs: matMul, Inputs: formals("A T, B T"), Outputs: y,
			Tol:   convTol,
			Types: map[string]TypeSet{"T": types | Set(onnxio.BFloat16)}, Infer: inferFusedMatMul,
			Weights: []int{1},
			Eval:    byFloat(evalFusedMatMul[float32], evalFusedMatMul[float64])}))
}

// fusedActivation is the function that a node applies to its sums.
func fusedActivation(n *Node) (func(x float64) float64, error) {
	name := n.Str("activation", "")
	var params []float32
	if a := n.Attr("activation_params"); a != nil {
		params = a.Floats
	}
	at := func(i int, attr string, fallback float32) *onnxio.Attribute {
		if i < len(params) {
			fallback = params[i]
		}
		return onnxio.FloatAttr(attr, n.Float("activation_"+attr, fallback))
	}
	switch name {
	case "":
		return func(x float64) float64 { return x }, nil
	case "Clip":
		if len(params) != 2 {
			return nil, n.Errorf("activation_params of Clip are a minimum and a maximum, not %v", params)
		}
		lo, hi := float64(params[0]), float64(params[1])
		return func(x float64) float64 { return math.Min(math.Max(x, lo), hi) }, nil
	}
	i := slices.IndexFunc(activations, func(a activation) bool { return a.name == name })
	if i < 0 {
		return nil, n.Errorf("activation %q is not implemented", name)
	}
	plain := &onnxio.Node{OpType: name}
	for k, a := range activations[i].attrs {
		if a.Type != onnxio.AttrFloat {
			continue
		}
		if v := at(k, a.Name, float32(math.NaN())); v.F == v.F { // otherwise the activation's own default
			plain.Attrs = append(plain.Attrs, v)
		}
	}
	return activations[i].f(asOperator(&Node{Node: plain}, name)), nil
}

func checkFused(n *Node) error {
	_, err := fusedActivation(n)
	return err
}

func inferFusedGemm(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	y, err := inferAs(c.Node, "Gemm", c.In[0], c.In[1], c.input(2))
	if err == nil {
		setShape(c, c.In[0].Type, y)
	}
	return err
}

func inferFusedConv(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	y, err := inferAs(c.Node, "Conv", c.In[0], c.In[1], c.input(2))
	if err != nil {
		return err
	}
	if z := c.input(3); z != nil && z.HasShape && y.HasShape && !agreeAll(z.Shape, y.Shape) {
		return c.Node.Errorf("Z %s where %s is added to", shapeText(z.Shape), shapeText(y.Shape))
	}
	setShape(c, c.In[0].Type, y)
	return nil
}

// evalFused runs an operator on the first inputs, adds the next one where it is there, and applies the
// activation.
func evalFused[T floating](op string, inputs int) func(*Eval) error {
	return func(c *Eval) error {
		f, err := fusedActivation(c.Node)
		if err != nil {
			return err
		}
		sums, err := evalAs(c, op, c.In[:min(inputs, len(c.In))]...)
		if err != nil {
			return err
		}
		y, err := c.Alloc(0, sums.Type, sums.Dims...)
		if err != nil {
			return err
		}
		var more []T
		if c.Has(inputs) {
			if !equal(c.In[inputs].Dims, sums.Dims) {
				return c.Node.Errorf("%s is added to %s", dimsText(c.In[inputs].Dims), dimsText(sums.Dims))
			}
			more = onnxio.Data[T](c.In[inputs])
		}
		to := onnxio.Data[T](y)
		for i, v := range onnxio.Data[T](sums) {
			if more != nil {
				v += more[i]
			}
			to[i] = T(f(float64(v)))
		}
		return nil
	}
}

// operandPerm is how FusedMatMul's operand A or B is transposed before the product; nil where it is not.
// transBatch moves the first axis behind the batch: [b,m..., k] to [m...,b,k].
func operandPerm(n *Node, operand string, rank int) []int {
	swap, batch := n.Int("trans"+operand, 0) != 0 && rank > 1, n.Int("transBatch"+operand, 0) != 0 && rank > 2
	if !swap && !batch {
		return nil
	}
	perm := make([]int, rank)
	for i := range perm {
		perm[i] = i
	}
	if batch {
		perm = append(append(perm[1:rank-1:rank-1], 0), rank-1)
	}
	if swap {
		perm[rank-1], perm[rank-2] = perm[rank-2], perm[rank-1]
	}
	return perm
}

func inferFusedMatMul(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	operand := [2]*Value{c.In[0], c.In[1]}
	for i, name := range []string{"A", "B"} {
		if v := operand[i]; v.HasShape {
			if perm := operandPerm(c.Node, name, len(v.Shape)); perm != nil {
				shape := make([]onnxio.Dim, len(perm))
				for k, p := range perm {
					shape[k] = v.Shape[p]
				}
				operand[i] = &Value{Type: v.Type, Shape: shape, HasShape: true}
			}
		}
	}
	y, err := inferAs(c.Node, "MatMul", operand[0], operand[1])
	if err == nil {
		setShape(c, c.In[0].Type, y)
	}
	return err
}

func evalFusedMatMul[T floating](c *Eval) error {
	operand := [2]*onnxio.Tensor{c.In[0], c.In[1]}
	for i, name := range []string{"A", "B"} {
		if perm := operandPerm(c.Node, name, len(operand[i].Dims)); perm != nil {
			operand[i] = reordered(operand[i], perm)
		}
	}
	product, err := evalAs(c, "MatMul", operand[0], operand[1])
	if err != nil {
		return err
	}
	y, err := c.Alloc(0, product.Type, product.Dims...)
	if err != nil {
		return err
	}
	alpha, to := T(c.Node.Float("alpha", 1)), onnxio.Data[T](y)
	for i, v := range onnxio.Data[T](product) {
		to[i] = alpha * v
	}
	return nil
}
