package ops

import (
	"github.com/cnnkit/cnnkit/onnxio"
)

// Matrix products of quantized numbers: MatMulInteger, QLinearMatMul, and of com.microsoft QGemm,
// MatMulIntegerToFloat and DynamicQuantizeMatMul.

func init() {
	q8, int32s := bytesOnly|float8s, Set(onnxio.Int32)
	scales := Set(onnxio.Float, onnxio.Float16, onnxio.BFloat16)
	gemmTypes := map[string]TypeSet{"TA": bytesOnly, "T": floatOnly, "TB": bytesOnly, "TC": int32s,
		"TYZ": bytesOnly,
		"TY":  bytesOnly | floatOnly}
	register(
		&Def{Name: "MatMulInteger", Versions: []int64{10},
			Inputs: formals("A T1, B T2, a_zero_point? T1, b_zero_point? T2"), Outputs: formals("Y T3"),
			Types: map[string]TypeSet{"T1": bytesOnly, "T2": bytesOnly, "T3": int32s},
			Infer: inferProduct("MatMul", 0, 1, sumType), Eval: evalMatMulInteger},
		&Def{Name: "QLinearMatMul", Versions: []int64{10, 21},
			Inputs: formals("a T1, a_scale TS, a_zero_point T1, b T2, b_scale TS, b_zero_point T2, " +
				"y_scale TS, y_zero_point T3"),
			Outputs: formals("y T3"), Types: map[string]TypeSet{"T1": q8, "T2": q8, "T3": q8, "TS": scales},
			Infer: inferProduct("MatMul", 0, 3, inputType(7)), Eval: evalQLinearMatMul},
		contrib(&Def{Name: "QGemm", Attrs: []AttrDef{intA("transA"), intA("transB"), floatA("alpha")},
			Inputs: formals("A TA, a_scale T, a_zero_point TA, B TB, b_scale T, b_zero_point TB, " +
				"C? TC, y_scale? T, y_zero_point? TYZ"),
			Outputs: formals("Y TY"), Types: gemmTypes, Tol: arithmeticTol,
			Infer: inferProduct("Gemm", 0, 3, gemmType), Eval: evalQGemm}),
		contrib(&Def{Name: "MatMulIntegerToFloat",
			Inputs: formals("A T1, B T2, a_scale T3, b_scale T3, a_zero_point? T1, b_zero_point? T2, " +
				"bias? T3"),
			Outputs: formals("Y T3"), Tol: arithmeticTol,
			Types: map[string]TypeSet{"T1": bytesOnly, "T2": bytesOnly,
				"T3": Set(onnxio.Float, onnxio.Float16)},
			Infer: inferProduct("MatMul", 0, 1, inputType(2)), Eval: evalMatMulIntegerToFloat}),
		contrib(&Def{Name: "DynamicQuantizeMatMul",
			Inputs: formals("A T1, B T2, b_scale T1, b_zero_point? T2, bias? T1"), Outputs: formals("Y T1"),
			Types: map[string]TypeSet{"T1": floatOnly, "T2": bytesOnly}, Tol: arithmeticTol,
			Infer: inferProduct("MatMul", 0, 1, inputType(0)), Eval: evalDynamicQuantizeMatMul}),
	)
}

// sumType is the type of sums of products.
func sumType(*Infer) onnxio.DataType { return onnxio.Int32 }

// inputType is the type of an input that is there.
func inputType(i int) func(*Infer) onnxio.DataType {
	return func(c *Infer) onnxio.DataType { return c.In[i].Type }
}

// inferProduct infers the product of inputs a and b; typ is the output's type.
func inferProduct(op string, a, b int, typ func(*Infer) onnxio.DataType) func(*Infer) error {
	return func(c *Infer) error {
		if err := inferReady(c); err != nil {
			return err
		}
		v, err := inferAs(c.Node, op, c.In[a], c.In[b])
		if err == nil {
			setShape(c, typ(c), v)
		}
		return err
	}
}

// fromEnd is the axis that many places before the end, -1 where there is none.
func fromEnd(dims []int64, i int) int { return max(len(dims)-i, -1) }

// integerProduct is the product of inputs a and b less their zero points, which vectors give by row and by
// column.
func integerProduct(c *Eval, op string, a, aZero, b, bZero int) (*onnxio.Tensor, error) {
	row, column := 2, 1
	if op == "Gemm" && c.Node.Int("transA", 0) != 0 {
		row = 1
	}
	if op == "Gemm" && c.Node.Int("transB", 0) != 0 {
		column = 2
	}
	x, err := centered(c, a, aZero, fromEnd(c.In[a].Dims, row))
	if err != nil {
		return nil, err
	}
	y, err := centered(c, b, bZero, fromEnd(c.In[b].Dims, column))
	if err != nil {
		return nil, err
	}
	return evalAs(c, op, x, y)
}

func evalMatMulInteger(c *Eval) error {
	if err := evalReady(c); err != nil {
		return err
	}
	sums, err := integerProduct(c, "MatMul", 0, 2, 1, 3)
	if err != nil {
		return err
	}
	return lowBits(c, sums)
}

// multipliers are a*b/y of the scales at these inputs, in float32; -1 is a scale of 1. Vectors of a go along
// the axis first, those of b along second.
func multipliers(c *Eval, dims []int64, a, b, y, first, second int) (func(k int64) float32, error) {
	var scale [3]func(int64) float32
	for i, input := range []int{a, b, y} {
		if scale[i] = func(int64) float32 { return 1 }; !c.Has(input) {
			continue
		}
		var err error
		if scale[i], err = parameter(c, input, dims, []int{first, second, first}[i]); err != nil {
			return nil, err
		}
	}
	return func(k int64) float32 { return scale[0](k) * scale[1](k) / scale[2](k) }, nil
}

// matrixMultipliers are those of a product of matrices: that of a by row, that of b by column.
func matrixMultipliers(c *Eval, dims []int64, a, b, y int) (func(k int64) float32, error) {
	return multipliers(c, dims, a, b, y, fromEnd(dims, 2), fromEnd(dims, 1))
}

func evalQLinearMatMul(c *Eval) error {
	if err := evalReady(c); err != nil {
		return err
	}
	sums, err := integerProduct(c, "MatMul", 0, 2, 3, 5)
	if err != nil {
		return err
	}
	by, err := matrixMultipliers(c, sums.Dims, 1, 4, 6)
	if err != nil {
		return err
	}
	return requantized(c, sums, c.In[7].Type, by, 7, fromEnd(sums.Dims, 2))
}

// gemmType is float32 where the output's quantization is omitted.
func gemmType(c *Infer) onnxio.DataType {
	if c.Has(8) {
		return c.In[8].Type
	}
	return onnxio.Float
}

// evalQGemm is alpha*A*B + C, where C is quantized with the scale of the product and counts as often as that.
func evalQGemm(c *Eval) error {
	if err := evalReady(c); err != nil {
		return err
	}
	if c.Has(7) != c.Has(8) {
		return c.Node.Errorf("y_scale and y_zero_point come together")
	}
	n := &onnxio.Node{Name: c.Node.Name, OpType: c.Node.OpType, Outputs: c.Node.Outputs}
	for _, a := range c.Node.Attrs {
		if a.Name != "alpha" { // it scales what has been summed
			n.Attrs = append(n.Attrs, a)
		}
	}
	inner := &Eval{Node: &Node{n, c.Node.Def, c.Node.Since}, In: c.In, Limit: c.Limit}
	sums, err := integerProduct(inner, "Gemm", 0, 2, 3, 5)
	if err != nil {
		return err
	}
	if c.Has(6) {
		if err := addBroadcast(c, sums, c.In[6]); err != nil {
			return err
		}
	}
	by, err := matrixMultipliers(c, sums.Dims, 1, 4, 7)
	if err != nil {
		return err
	}
	alpha := c.Node.Float("alpha", 1)
	times := func(k int64) float32 { return alpha * by(k) }
	if !c.Has(8) {
		return scaledSums(c, sums, onnxio.Float, times, -1)
	}
	return requantized(c, sums, c.In[8].Type, times, 8, -1)
}

// addBroadcast adds b, of any numeric type, to a tensor in float64.
func addBroadcast(c *Eval, sums, b *onnxio.Tensor) error {
	wide, err := asFloat64(c, b)
	if err != nil {
		return err
	}
	dims, ok := broadcast(sums.Dims, b.Dims)
	if !ok || !equal(dims, sums.Dims) {
		return c.Node.Errorf("cannot add %s to %s", dimsText(b.Dims), dimsText(sums.Dims))
	}
	s, data, k := spread(b.Dims, dims), onnxio.Data[float64](sums), 0
	walk(dims, [][]int64{s}, func(n int64, at []int64) {
		for i := range n {
			from := at[0]
			if len(s) > 0 {
				from += i * s[len(s)-1]
			}
			data[k] += onnxio.Data[float64](wide)[from]
			k++
		}
	})
	return nil
}

// scaledSums writes integer sums as floats: each times its multiplier, plus a bias by column where input bias
// is there.
func scaledSums(c *Eval, sums *onnxio.Tensor, t onnxio.DataType, by func(k int64) float32, bias int) error {
	y, err := c.Alloc(0, t, sums.Dims...)
	if err != nil {
		return err
	}
	data := onnxio.Data[float64](sums)
	for k, v := range data {
		data[k] = float64(float32(int32(int64(v))) * by(int64(k)))
	}
	if c.Has(bias) {
		if err := addBroadcast(c, sums, c.In[bias]); err != nil {
			return err
		}
	}
	return cast(c.Node, y, sums, false)
}

func evalMatMulIntegerToFloat(c *Eval) error {
	if err := evalReady(c); err != nil {
		return err
	}
	sums, err := integerProduct(c, "MatMul", 0, 4, 1, 5)
	if err != nil {
		return err
	}
	by, err := matrixMultipliers(c, sums.Dims, 2, 3, -1)
	if err != nil {
		return err
	}
	return scaledSums(c, sums, c.In[2].Type, by, 6)
}

// evalDynamicQuantizeMatMul quantizes A as DynamicQuantizeLinear does.
func evalDynamicQuantizeMatMul(c *Eval) error {
	if err := evalReady(c); err != nil {
		return err
	}
	if c.In[0].Type != onnxio.Float {
		return c.Node.Errorf("element type %v is not implemented", c.In[0].Type)
	}
	a := dynamicRange(c.In[0].Float32s())
	levels := onnxio.NewTensor(onnxio.Double, c.In[0].Dims...)
	for i, v := range c.In[0].Float32s() {
		onnxio.Data[float64](levels)[i] = a.level(v) - float64(a.zero)
	}
	b, err := centered(c, 1, 3, fromEnd(c.In[1].Dims, 1))
	if err != nil {
		return err
	}
	sums, err := evalAs(c, "MatMul", levels, b)
	if err != nil {
		return err
	}
	by, err := matrixMultipliers(c, sums.Dims, -1, 2, -1)
	if err != nil {
		return err
	}
	return scaledSums(c, sums, onnxio.Float, func(k int64) float32 { return a.scale * by(k) }, 4)
}
