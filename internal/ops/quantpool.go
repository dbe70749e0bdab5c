package ops

import (
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Pools of com.microsoft over quantized tensors: QLinearAveragePool, QLinearGlobalAveragePool and
// NhwcMaxPool.

func init() {
	types := map[string]TypeSet{"T": bytesOnly, "F": floatOnly}
	last, ceil, y := intA("channels_last"), intA("ceil_mode"), formals("Y T")
	register(
		contrib(&Def{Name: "QLinearAveragePool", Attrs: poolAttrs(ceil, intA("count_include_pad"), last),
			Inputs: formals("X T, x_scale F, x_zero_point? T, y_scale F, y_zero_point? T"), Outputs: y,
			Types: types,
			Check: checkPool, Infer: inferPoolLast("AveragePool"), Eval: evalQLinearAveragePool}),
		contrib(&Def{Name: "QLinearGlobalAveragePool", Attrs: []AttrDef{last},
			Inputs: formals("X T, x_scale F, x_zero_point T, y_scale F, y_zero_point T"), Outputs: y,
			Types: types,
			Infer: inferPoolLast("GlobalAveragePool"), Eval: evalQLinearGlobalAveragePool}),
		contrib(&Def{Name: "NhwcMaxPool", Attrs: poolAttrs(ceil, intsA("dilations")), Inputs: formals("x T"),
			Outputs: formals("y T"), Types: types, Check: checkPool, Infer: inferPoolLast("MaxPool"),
			Eval: evalNhwcMaxPool}))
}

// poolsLast reports whether a pool's data are [N,spatial...,C].
func poolsLast(n *Node) bool { return n.OpType == "NhwcMaxPool" || isChannelsLast(n) }

// inferPoolLast is the inference of a pool whose channels may be last.
func inferPoolLast(op string) func(*Infer) error {
	return func(c *Infer) error {
		if err := inferReady(c); err != nil {
			return err
		}
		x := c.In[0]
		if poolsLast(c.Node) {
			x = reorderedValue(x, channelsFirst)
		}
		y, err := inferAs(c.Node, op, x)
		if err != nil {
			return err
		}
		if poolsLast(c.Node) {
			y = reorderedValue(y, channelsLast)
		}
		setShape(c, c.In[0].Type, y)
		return nil
	}
}

// pooled runs kernel on input 0 with its channels second, and puts the result's where the input's were.
func pooled(c *Eval, kernel func(x *onnxio.Tensor) (*onnxio.Tensor, error)) error {
	x := c.In[0]
	if !bytesOnly.Has(x.Type) {
		return c.Node.Errorf("element type %v is not implemented", x.Type)
	}
	last := poolsLast(c.Node) && len(x.Dims) > 2
	if last {
		x = reordered(x, channelsFirst(len(x.Dims)))
	}
	y, err := kernel(x)
	if err != nil {
		return err
	}
	if last {
		y = reordered(y, channelsLast(len(y.Dims)))
	}
	return writeAs(c, c.In[0].Type, y)
}

func evalNhwcMaxPool(c *Eval) error {
	if err := evalReady(c); err != nil {
		return err
	}
	return pooled(c, func(x *onnxio.Tensor) (*onnxio.Tensor, error) { return evalAs(c, "MaxPool", x) })
}

// evalQLinearAveragePool sums what the quantized numbers stand for in float32, in order.
func evalQLinearAveragePool(c *Eval) error {
	if err := evalReady(c); err != nil {
		return err
	}
	q, err := affines(c, c.In[0].Type, [2]int{1, 2}, [2]int{3, 4})
	if err != nil {
		return err
	}
	return pooled(c, func(x *onnxio.Tensor) (*onnxio.Tensor, error) {
		return averageLevels(c, x, &q[0], &q[1])
	})
}

func averageLevels(c *Eval, x *onnxio.Tensor, from, to *affine) (*onnxio.Tensor, error) {
	inner := &Eval{Node: c.Node, In: []*onnxio.Tensor{x}, Limit: c.Limit}
	w, err := poolWindow(inner)
	if err != nil {
		return nil, err
	}
	wide, err := asFloat64(c, x)
	if err != nil {
		return nil, err
	}
	numbers := make([]float32, wide.Size())
	for i, v := range onnxio.Data[float64](wide) {
		numbers[i] = from.number(v)
	}
	y, err := w.allocSpatial(inner, 0, onnxio.Double, int(x.Dims[0]), int(x.Dims[1]), &w.out)
	if err != nil {
		return nil, err
	}
	out, includePad := onnxio.Data[float64](y), c.Node.Int("count_include_pad", 0) != 0
	for p := range len(out) / max(w.outSize, 1) {
		plane := numbers[p*w.inSize:][:w.inSize]
		for o := range w.outSize {
			v := float32(0)
			if d := w.divisor(o, includePad); d > 0 {
				v = sumInOrder(&w, plane, o) / float32(d)
			}
			out[p*w.outSize+o] = to.roundedLate(v/to.scale + to.zero)
		}
	}
	return y, nil
}

// sumInOrder adds up output o's window in float32, row by row.
func sumInOrder(w *window, plane []float32, o int) float32 {
	dlo, dhi, d0 := w.taps(0, o/(w.out[1]*w.out[2]))
	hlo, hhi, h0 := w.taps(1, o/w.out[2]%w.out[1])
	wlo, whi, w0 := w.taps(2, o%w.out[2])
	sum := float32(0)
	for kd := dlo; kd < dhi; kd++ {
		for kh := hlo; kh < hhi; kh++ {
			row := ((d0+kd*w.dil[0])*w.in[1]+h0+kh*w.dil[1])*w.in[2] + w0
			for kw := wlo; kw < whi; kw++ {
				sum += plane[row+kw*w.dil[2]]
			}
		}
	}
	return sum
}

// evalQLinearGlobalAveragePool sums whole numbers and scales once.
func evalQLinearGlobalAveragePool(c *Eval) error {
	if err := evalReady(c); err != nil {
		return err
	}
	q, err := affines(c, c.In[0].Type, [2]int{1, 2}, [2]int{3, 4})
	if err != nil {
		return err
	}
	return pooled(c, func(x *onnxio.Tensor) (*onnxio.Tensor, error) {
		if len(x.Dims) < 3 {
			return nil, c.Node.Errorf("input %s has no spatial dimensions", dimsText(x.Dims))
		}
		wide, err := asFloat64(c, x)
		if err != nil {
			return nil, err
		}
		dims := slices.Clone(x.Dims)
		for i := range dims[2:] {
			dims[2+i] = 1
		}
		area := sizeOf(x.Dims[2:])
		y, data := onnxio.NewTensor(onnxio.Double, dims...), onnxio.Data[float64](wide)
		by := q[0].scale / (q[1].scale * float32(area))
		for p := range onnxio.Data[float64](y) {
			sum := -float64(q[0].zero) * float64(area)
			for _, v := range data[p*area:][:area] {
				sum += v
			}
			onnxio.Data[float64](y)[p] = q[1].rounded(float32(sum) * by)
		}
		return y, nil
	})
}
