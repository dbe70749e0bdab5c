package ops

import (
	"github.com/cnnkit/cnnkit/onnxio"
)

// SkipLayerNormalization and SkipSimplifiedLayerNormalization of com.microsoft: the normalization of the last
// axis of input + skip + bias, with or without its mean taken away. The sum is an output too.

func init() {
	types := map[string]TypeSet{"T": Set(onnxio.Float, onnxio.Float16, onnxio.BFloat16), "U": floatOnly}
	def := func(name, more string) *Def {
		return contrib(&Def{Name: name, Attrs: []AttrDef{floatA("epsilon")}, Types: types, Tol: normTol,
			Inputs:  formals("input T, skip T, gamma T, " + more),
			Outputs: formals("output T, mean? U, inv_std_var? U, input_skip_bias_sum? T"),
			Infer:   inferSkipNorm, Eval: byFloat(evalSkipNorm, noDouble), Weights: []int{2}})
	}
	register(def("SkipLayerNormalization", "beta? T, bias? T"),
		def("SkipSimplifiedLayerNormalization", "bias? T"))
}

// noDouble stands where a definition admits no float64.
func noDouble(c *Eval) error { return c.Node.Errorf("element type float64 is not implemented") }

// skipNormVectors are the inputs with an element for each of the last axis.
func skipNormVectors(inputs int) []int {
	var out []int
	for i := 2; i < inputs; i++ {
		out = append(out, i)
	}
	return out
}

func inferSkipNorm(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	setLike(c, 0, c.In[0])
	setLike(c, 3, c.In[0])
	c.SetType(1, onnxio.Float)
	c.SetType(2, onnxio.Float)
	if !c.In[0].HasShape {
		return nil
	}
	s := c.In[0].Shape
	if len(s) < 2 {
		return c.Node.Errorf("input %s has no rows", shapeText(s))
	}
	if shaped(c, 1) {
		if out, ok := broadcastDims(s, c.In[1].Shape); !ok || !agreeAll(out, s) {
			return c.Node.Errorf("skip %s does not fit input %s", shapeText(c.In[1].Shape), shapeText(s))
		}
	}
	for _, i := range skipNormVectors(len(c.In)) {
		if err := inferBias(c, i, s[len(s)-1]); err != nil {
			return err
		}
	}
	stats := append([]onnxio.Dim{}, s...)
	stats[len(s)-1] = knownDim(1)
	c.Set(1, onnxio.Float, stats)
	c.Set(2, onnxio.Float, stats)
	return nil
}

func evalSkipNorm(c *Eval) error {
	x := c.In[0]
	rank := len(x.Dims)
	if out, ok := broadcast(x.Dims, c.In[1].Dims); rank < 2 || !ok || !equal(out, x.Dims) {
		return c.Node.Errorf("skip %s does not fit input %s", dimsText(c.In[1].Dims), dimsText(x.Dims))
	}
	size := int(x.Dims[rank-1])
	for _, i := range skipNormVectors(len(c.In)) {
		if c.Has(i) && !equal(c.In[i].Dims, []int64{int64(size)}) {
			return c.Node.Errorf("%s %s for rows of %d", c.Node.param(i).Name, dimsText(c.In[i].Dims), size)
		}
	}
	beta, bias := optional[float32](c, 3), optional[float32](c, 4)
	r := rowNorm{size: size, eps: float64(c.Node.Float("epsilon", 1e-12))}
	if c.Node.OpType == "SkipSimplifiedLayerNormalization" {
		beta, bias, r.rms = nil, beta, true
	}
	out, err := skipNormOutputs(c)
	if err != nil || size == 0 {
		return err
	}
	sum := skipSum(x, c.In[1], bias)
	for row := range len(sum) / size {
		at := row * size
		mean, inv := rowMoments(&r, sum[at:][:size])
		if out[1] != nil {
			out[1].Float32s()[row] = float32(mean)
		}
		if out[2] != nil {
			out[2].Float32s()[row] = float32(inv)
		}
		for i, v := range sum[at:][:size] {
			v := (float64(v) - mean) * inv * float64(c.In[2].Float32s()[i])
			if beta != nil {
				v += float64(beta[i])
			}
			out[0].Float32s()[at+i] = float32(v)
		}
	}
	if out[3] != nil {
		copy(out[3].Float32s(), sum)
	}
	return nil
}

// skipNormOutputs allocates the outputs that are asked for.
func skipNormOutputs(c *Eval) (out [4]*onnxio.Tensor, err error) {
	stats := append([]int64{}, c.In[0].Dims...)
	stats[len(stats)-1] = 1
	for i := range out {
		dims := c.In[0].Dims
		if i == 1 || i == 2 {
			dims = stats
		}
		if i == 0 || c.Wants(i) {
			if out[i], err = c.Alloc(i, onnxio.Float, dims...); err != nil {
				return out, err
			}
		}
	}
	return out, nil
}

// skipSum is input + skip + bias, in float32 as the next operator would see it.
func skipSum(x, skip *onnxio.Tensor, bias []float32) []float32 {
	sum := make([]float32, x.Size())
	s, data, i := spread(skip.Dims, x.Dims), skip.Float32s(), 0
	last := len(x.Dims) - 1
	walk(x.Dims, [][]int64{s}, func(n int64, at []int64) {
		for k := range n {
			sum[i] = x.Float32s()[i] + data[at[0]+k*s[last]]
			if bias != nil {
				sum[i] += bias[k]
			}
			i++
		}
	})
	return sum
}
