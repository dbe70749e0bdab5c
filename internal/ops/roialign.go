package ops

import (
	"math"
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
)

// RoiAlign: for each region of interest a grid of bins, each the mean (or the maximum) of bilinear samples.
// Places are computed in the element type, as ONNX Runtime and torchvision do: how many samples a bin has
// depends on the rounding. The maximum is over the four weighted corners of the samples, as ONNX's cases
// have it, not over their sums.

// maxSamples bounds sampling_ratio, maxBins the height and width of what a region becomes.
const (
	maxSamples = 1 << 7
	maxBins    = 1 << 16
)

func init() {
	attrs := []AttrDef{stringA("mode"), intA("output_height"), intA("output_width"), intA("sampling_ratio"),
		floatA("spatial_scale"), stringA("coordinate_transformation_mode").since(16)}
	types := map[string]TypeSet{"T": Floats, "I": Set(onnxio.Int64)}
	inputs := []Param{{Name: "X", Type: "T"}, {Name: "rois", Type: "T"}, {Name: "batch_indices", Type: "I"}}
	grad := gradDef("RoiAlignGrad", []string{"dy"}, []string{"dx"}, slices.Clone(attrs)...)
	grad.Inputs, grad.Types, grad.Tol, grad.Infer = append(grad.Inputs, inputs...), types, reduceTol,
		inferLikeSecond
	grad.Eval = byFloat(evalRoiAlignGrad[float32], evalRoiAlignGrad[float64])
	register(&Def{Name: "RoiAlign", Versions: []int64{10, 16, 22}, Attrs: attrs,
		Inputs: inputs, Outputs: []Param{{Name: "Y", Type: "T"}}, Types: types, Tol: averageTol,
		Check: func(n *Node) error { _, err := aligningOf(n); return err }, Infer: inferRoiAlign,
		Eval: byFloat(evalRoiAlign[float32], evalRoiAlign[float64]), Grad: gradRoiAlign}, grad)
}

// aligning are the attributes of a RoiAlign node.
type aligning struct {
	max, half     bool
	height, width int
	samples       int64 // per bin and axis; 0: as many as the bin has pixels
	scale         float32
}

func aligningOf(n *Node) (a aligning, err error) {
	switch mode := n.Str("mode", "avg"); mode {
	case "avg":
	case "max":
		a.max = true
	default:
		return a, n.Errorf("mode %q is not avg or max", mode)
	}
	mode := "output_half_pixel"
	if n.Since >= 16 || n.Def.Domain == GradDomain {
		mode = n.Str("coordinate_transformation_mode", "half_pixel")
	}
	if a.half = mode == "half_pixel"; !a.half && mode != "output_half_pixel" {
		return a, n.Errorf("coordinate_transformation_mode %q is not half_pixel or output_half_pixel", mode)
	}
	h, w := n.Int("output_height", 1), n.Int("output_width", 1)
	if h < 1 || w < 1 || h > maxBins || w > maxBins {
		return a, n.Errorf("output of %d by %d; each must be from 1 to %d", h, w, maxBins)
	}
	a.height, a.width = int(h), int(w)
	if a.samples = n.Int("sampling_ratio", 0); a.samples < 0 || a.samples > maxSamples {
		return a, n.Errorf("sampling_ratio is %d, not from 0 to %d", a.samples, maxSamples)
	}
	a.scale = n.Float("spatial_scale", 1)
	return a, nil
}

func inferRoiAlign(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	a, err := aligningOf(c.Node)
	if err != nil {
		return err
	}
	out := []onnxio.Dim{unknownDim, unknownDim, knownDim(int64(a.height)), knownDim(int64(a.width))}
	if shaped(c, 0) {
		if len(c.In[0].Shape) != 4 {
			return c.Node.Errorf("input must be [N,C,H,W], not %s", shapeText(c.In[0].Shape))
		}
		out[1] = c.In[0].Shape[1]
	}
	for i := 1; i <= 2; i++ {
		if !shaped(c, i) {
			continue
		}
		s := c.In[i].Shape
		if len(s) != 3-i || i == 1 && !agree(s[1], knownDim(4)) || !agree(out[0], s[0]) {
			return c.Node.Errorf("rois and batch_indices must be [R,4] and [R]; %s is not", shapeText(s))
		}
		out[0] = merge(out[0], s[0])
	}
	c.Set(0, c.In[0].Type, out)
	return nil
}

// roiBatch is which picture region r is of.
func roiBatch(n *Node, batch float64, r int, pictures int64) (int, error) {
	if !(batch >= 0 && batch < float64(pictures)) {
		return 0, n.Errorf("region %d is of picture %v where there are %d", r, batch, pictures)
	}
	return int(batch), nil
}

// roiTap is one sample along an axis: its two neighbors and their weights.
type roiTap[T floating] struct {
	at     [2]int
	weight [2]T
}

// roiBin are the samples of one bin along an axis that lie in the picture, and how many there are in all.
type roiBin[T floating] struct {
	taps []roiTap[T]
	all  float64
}

// binsAlong samples the bins along one axis of length size for a region from..to in unscaled coordinates.
func binsAlong[T floating](a *aligning, from, to T, bins, size int) []roiBin[T] {
	offset := T(0)
	if a.half {
		offset = 0.5
	}
	start, end := T(from*T(a.scale))-offset, T(to*T(a.scale))-offset
	extent := end - start
	if !a.half {
		extent = max(extent, 1)
	}
	step := extent / T(bins)
	grid := T(a.samples)
	if a.samples == 0 {
		grid = T(math.Ceil(float64(step)))
	}
	out := make([]roiBin[T], bins)
	for p := range out {
		base := start + T(T(p)*step)
		lo, hi := 0.0, float64(grid)
		if a.samples == 0 && step > 0 { // samples are up to a pixel apart: look at those near the picture
			per := float64(grid) / float64(step)
			lo = max(lo, math.Floor((-1-float64(base))*per)-2)
			hi = min(hi, math.Ceil((float64(size)-float64(base))*per)+2)
		}
		out[p].all = max(float64(grid), 0)
		for i := lo; i < hi; i++ {
			if t, ok := roiTapAt(base+T(T(i+0.5)*step/grid), size); ok {
				out[p].taps = append(out[p].taps, t)
			}
		}
	}
	return out
}

// roiTapAt gives the neighbors of place x along an axis; ok is false beyond a pixel outside.
func roiTapAt[T floating](x T, size int) (t roiTap[T], ok bool) {
	if size == 0 || !(x >= -1 && x <= T(size)) {
		return t, false
	}
	x = max(x, 0)
	at := int(x)
	if at >= size-1 {
		return roiTap[T]{[2]int{size - 1, size - 1}, [2]T{1, 0}}, true
	}
	part := x - T(at)
	return roiTap[T]{[2]int{at, at + 1}, [2]T{1 - part, part}}, true
}

// regions calls f for each region with its index, its picture and its bins along both axes.
func regions[T floating](n *Node, x, rois, batch *onnxio.Tensor,
	f func(r, picture int, a *aligning, ys, xs []roiBin[T])) error {
	a, err := aligningOf(n)
	if err != nil {
		return err
	}
	if len(x.Dims) != 4 || len(rois.Dims) != 2 || rois.Dims[1] != 4 ||
		batch.Type != onnxio.Int64 || !equal(batch.Dims, rois.Dims[:1]) {
		return n.Errorf("input %s, rois %s, batch_indices %v %s", dimsText(x.Dims), dimsText(rois.Dims),
			batch.Type,
			dimsText(batch.Dims))
	}
	corners := onnxio.Data[T](rois)
	for r, b := range onnxio.Data[int64](batch) {
		v := corners[r*4:][:4]
		for _, p := range v {
			// samples beyond cannot be told apart, nor counted
			if !(math.Abs(float64(p*T(a.scale))) < maxExtent) {
				return n.Errorf("region %d is %v", r, v)
			}
		}
		picture, err := roiBatch(n, float64(b), r, x.Dims[0])
		if err != nil {
			return err
		}
		ys := binsAlong(&a, v[1], v[3], a.height, int(x.Dims[2]))
		f(r, picture, &a, ys, binsAlong(&a, v[0], v[2], a.width, int(x.Dims[3])))
	}
	return nil
}

func evalRoiAlign[T floating](c *Eval) error {
	x, rois := c.In[0], c.In[1]
	a, err := aligningOf(c.Node)
	if err != nil {
		return err
	}
	if len(x.Dims) != 4 || len(rois.Dims) != 2 {
		return c.Node.Errorf("input %s, rois %s", dimsText(x.Dims), dimsText(rois.Dims))
	}
	y, err := c.Alloc(0, x.Type, rois.Dims[0], x.Dims[1], int64(a.height), int64(a.width))
	if err != nil {
		return err
	}
	src, dst := onnxio.Data[T](x), onnxio.Data[T](y)
	if len(dst) == 0 {
		return nil
	}
	ch, size, width := int(x.Dims[1]), int(x.Dims[2]*x.Dims[3]), int(x.Dims[3])
	return regions(c.Node, x, rois, c.In[2], func(r, picture int, a *aligning, ys, xs []roiBin[T]) {
		var corners []corner
		for i := range a.height * a.width {
			by, bx := &ys[i/a.width], &xs[i%a.width]
			if corners = cornersOf(by, bx, width, corners[:0]); a.max {
				some := by.all*bx.all != float64(len(corners)/4)
				for k := range ch {
					dst[(r*ch+k)*a.height*a.width+i], _ = maxCorner(corners,
						src[(picture*ch+k)*size:][:size], some)
				}
				continue
			}
			for k := range ch {
				plane, sum := src[(picture*ch+k)*size:][:size], 0.0
				for _, c := range corners {
					sum += c.weight * float64(plane[c.at])
				}
				dst[(r*ch+k)*a.height*a.width+i] = T(sum / max(by.all*bx.all, 1))
			}
		}
	})
}

// corner is a pixel of a sample and its weight.
type corner struct {
	at     int
	weight float64
}

// cornersOf appends the four corners of each sample of a bin.
func cornersOf[T floating](by, bx *roiBin[T], width int, corners []corner) []corner {
	for i := range by.taps {
		for j := range bx.taps {
			ty, tx := &by.taps[i], &bx.taps[j]
			for k := range 4 {
				corners = append(corners, corner{ty.at[k/2]*width + tx.at[k%2],
					float64(ty.weight[k/2]) * float64(tx.weight[k%2])})
			}
		}
	}
	return corners
}

// maxCorner is the greatest weighted corner and which it is; outside says that a sample outside the picture
// is 0, and is the greatest until another is.
func maxCorner[T floating](corners []corner, plane []T, outside bool) (best T, which corner) {
	for _, c := range corners {
		if v := T(c.weight) * plane[c.at]; !outside || v > best || v != v {
			outside, best, which = true, v, c
		}
	}
	return best, which
}

// gradRoiAlign is the gradient of X; the regions have none, as in torchvision.
func gradRoiAlign(g *Grad) error {
	if !g.Wants[0] {
		return nil
	}
	const how = "coordinate_transformation_mode"
	attrs := slices.DeleteFunc(slices.Clone(g.Node.Attrs), func(a *onnxio.Attribute) bool {
		return a.Name == how
	})
	a, err := aligningOf(g.Node)
	if err != nil {
		return err
	}
	if !a.half {
		attrs = append(attrs, onnxio.StringAttr(how, "output_half_pixel"))
	}
	g.DIn[0], err = g.One(GradDomain, "RoiAlignGrad", []string{g.DOut[0], g.In(0), g.In(1), g.In(2)},
		attrs...)
	return err
}

// evalRoiAlignGrad gives dy of each bin to the corners that it is made of.
func evalRoiAlignGrad[T floating](c *Eval) error {
	dy, x, rois := c.In[0], c.In[1], c.In[2]
	a, err := aligningOf(c.Node)
	if err != nil {
		return err
	}
	if len(x.Dims) != 4 || len(rois.Dims) != 2 ||
		!equal(dy.Dims, []int64{rois.Dims[0], x.Dims[1], int64(a.height), int64(a.width)}) {
		return c.Node.Errorf("dy %s for input %s and rois %s", dimsText(dy.Dims), dimsText(x.Dims),
			dimsText(rois.Dims))
	}
	y, err := c.Alloc(0, x.Type, x.Dims...)
	if err != nil {
		return err
	}
	src, grad, dst := onnxio.Data[T](x), onnxio.Data[T](dy), onnxio.Data[T](y)
	clear(dst)
	ch, size, width := int(x.Dims[1]), int(x.Dims[2]*x.Dims[3]), int(x.Dims[3])
	return regions(c.Node, x, rois, c.In[3], func(r, picture int, a *aligning, ys, xs []roiBin[T]) {
		var corners []corner
		for i := range a.height * a.width {
			by, bx := &ys[i/a.width], &xs[i%a.width]
			corners = cornersOf(by, bx, width, corners[:0])
			for k := range ch {
				p, d := (picture*ch+k)*size, grad[(r*ch+k)*a.height*a.width+i]
				if a.max && size > 0 {
					_, c := maxCorner(corners, src[p:][:size], by.all*bx.all != float64(len(corners)/4))
					dst[p+c.at] += d * T(c.weight)
					continue
				}
				d /= T(max(by.all*bx.all, 1))
				for _, c := range corners {
					dst[p+c.at] += d * T(c.weight)
				}
			}
		}
	})
}
