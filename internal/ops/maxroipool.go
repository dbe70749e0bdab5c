package ops

import (
	"math"

	"github.com/cnnkit/cnnkit/onnxio"
)

// MaxRoiPool: for each region of interest, [picture, x0, y0, x1, y1] rounded to pixels, a grid of maxima. A
// bin that holds no pixel is 0.

func init() {
	attrs := []AttrDef{intsA("pooled_shape").required(), floatA("spatial_scale")}
	grad := gradDef("MaxRoiPoolGrad", []string{"dy", "x", "rois"}, []string{"dx"}, attrs...)
	grad.Infer, grad.Tol = inferLikeSecond, reduceTol
	grad.Eval = byFloat(evalMaxRoiPoolGrad[float32], evalMaxRoiPoolGrad[float64])
	register(&Def{Name: "MaxRoiPool", Versions: []int64{1, 22}, Attrs: attrs, Types: floatsT,
		Inputs: []Param{{Name: "X", Type: "T"}, {Name: "rois", Type: "T"}}, Outputs: []Param{{Name: "Y",
			Type: "T"}},
		Check: func(n *Node) error { _, err := pooledShape(n); return err },
		Infer: inferMaxRoiPool, Eval: byFloat(evalMaxRoiPool[float32], evalMaxRoiPool[float64]),
		Grad: func(g *Grad) (err error) {
			if g.Wants[0] { // the regions have none
				in := []string{g.DOut[0], g.In(0), g.In(1)}
				g.DIn[0], err = g.One(GradDomain, "MaxRoiPoolGrad", in, g.Node.Attrs...)
			}
			return err
		}}, grad)
}

// pooledShape is the height and width of the output.
func pooledShape(n *Node) ([]int64, error) {
	p := n.Ints("pooled_shape")
	if len(p) != 2 || p[0] < 1 || p[1] < 1 || p[0] > maxBins || p[1] > maxBins {
		return nil, n.Errorf("pooled_shape %v is no height and width from 1 to %d", p, maxBins)
	}
	return p, nil
}

func inferMaxRoiPool(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	p, err := pooledShape(c.Node)
	if err != nil {
		return err
	}
	out := []onnxio.Dim{unknownDim, unknownDim, knownDim(p[0]), knownDim(p[1])}
	if shaped(c, 0) {
		if len(c.In[0].Shape) != 4 {
			return c.Node.Errorf("input must be [N,C,H,W], not %s", shapeText(c.In[0].Shape))
		}
		out[1] = c.In[0].Shape[1]
	}
	if shaped(c, 1) {
		if s := c.In[1].Shape; len(s) != 2 || !agree(s[1], knownDim(5)) {
			return c.Node.Errorf("rois must be [R,5], not %s", shapeText(s))
		}
		out[0] = c.In[1].Shape[0]
	}
	c.Set(0, c.In[0].Type, out)
	return nil
}

// roiSpans are the pixels of each bin along an axis of length size, for a region from..to in pixels.
func roiSpans[T floating](from, to T, bins int64, size int64) [][2]int {
	step := max(to-from+1, 1) / T(bins)
	clamp := func(v float64) int { return int(max(0, min(v, float64(size)))) }
	out := make([][2]int, bins)
	for p := range out {
		lo := math.Floor(float64(T(p)*step)) + float64(from)
		hi := math.Ceil(float64(T(p+1)*step)) + float64(from)
		out[p] = [2]int{clamp(lo), clamp(hi)}
	}
	return out
}

// eachRoiBin calls f for each element of the output with the index in X of its maximum,
// -1 where the bin is empty.
func eachRoiBin[T floating](n *Node, x, rois *onnxio.Tensor, f func(out, at int)) error {
	p, err := pooledShape(n)
	if err != nil {
		return err
	}
	if len(x.Dims) != 4 || len(rois.Dims) != 2 || rois.Dims[1] != 5 {
		return n.Errorf("input %s, rois %s", dimsText(x.Dims), dimsText(rois.Dims))
	}
	src, scale, out := onnxio.Data[T](x), T(n.Float("spatial_scale", 1)), 0
	ch, size := int(x.Dims[1]), int(x.Dims[2]*x.Dims[3])
	for r, rest := 0, onnxio.Data[T](rois); len(rest) > 0; r, rest = r+1, rest[5:] {
		picture, err := roiBatch(n, float64(rest[0]), r, x.Dims[0])
		if err != nil {
			return err
		}
		var side [4]T
		for i := range side {
			side[i] = T(math.Round(float64(rest[1+i] * scale)))
			if v := float64(side[i]); math.IsNaN(v) || math.IsInf(v, 0) {
				return n.Errorf("region %d is %v", r, rest[:5])
			}
		}
		rows, columns := roiSpans(side[1], side[3], p[0], x.Dims[2]), roiSpans(side[0], side[2],
			p[1], x.Dims[3])
		for k := range ch {
			first := (picture*ch + k) * size
			for _, row := range rows {
				for _, column := range columns {
					f(out, greatestWithin(src, first, int(x.Dims[3]), row, column))
					out++
				}
			}
		}
	}
	return nil
}

// greatestWithin is the index of the first maximum of some rows and columns of a
// plane, -1 when they are none.
func greatestWithin[T floating](src []T, first, width int, rows, columns [2]int) int {
	at := -1
	for i := rows[0]; i < rows[1]; i++ {
		for j := columns[0]; j < columns[1]; j++ {
			if k := first + i*width + j; at < 0 || order(src[k], src[at]) > 0 {
				at = k
			}
		}
	}
	return at
}

func evalMaxRoiPool[T floating](c *Eval) error {
	x, rois := c.In[0], c.In[1]
	p, err := pooledShape(c.Node)
	if err != nil {
		return err
	}
	if len(x.Dims) != 4 || len(rois.Dims) != 2 {
		return c.Node.Errorf("input %s, rois %s", dimsText(x.Dims), dimsText(rois.Dims))
	}
	y, err := c.Alloc(0, x.Type, rois.Dims[0], x.Dims[1], p[0], p[1])
	if err != nil {
		return err
	}
	src, dst := onnxio.Data[T](x), onnxio.Data[T](y)
	clear(dst)
	return eachRoiBin[T](c.Node, x, rois, func(out, at int) {
		if at >= 0 {
			dst[out] = src[at]
		}
	})
}

// evalMaxRoiPoolGrad gives each dy to the first maximum of its bin.
func evalMaxRoiPoolGrad[T floating](c *Eval) error {
	dy, x, rois := c.In[0], c.In[1], c.In[2]
	p, err := pooledShape(c.Node)
	if err != nil {
		return err
	}
	if len(x.Dims) != 4 || len(rois.Dims) != 2 ||
		!equal(dy.Dims, []int64{rois.Dims[0], x.Dims[1], p[0], p[1]}) {
		return c.Node.Errorf("dy %s for input %s and rois %s", dimsText(dy.Dims), dimsText(x.Dims),
			dimsText(rois.Dims))
	}
	dx, err := c.Alloc(0, x.Type, x.Dims...)
	if err != nil {
		return err
	}
	grad, dst := onnxio.Data[T](dy), onnxio.Data[T](dx)
	clear(dst)
	return eachRoiBin[T](c.Node, x, rois, func(out, at int) {
		if at >= 0 {
			dst[at] += grad[out]
		}
	})
}
