package ops

import (
	"math"
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Resize and its ancestor Upsample: axis by axis, each place of the output is a weighted
// sum of places of the input.

func init() {
	// Version 11 requires roi and scales; exporters leave them out all the same.
	register(&Def{Name: "Resize", Versions: []int64{10, 11, 13, 18, 19},
		Attrs: []AttrDef{stringA("mode"), stringA("coordinate_transformation_mode").since(11),
			floatA("cubic_coeff_a").since(11),
			intA("exclude_outside").since(11), floatA("extrapolation_value").since(11),
			stringA("nearest_mode").since(11),
			intA("antialias").since(18), intsA("axes").since(18),
			stringA("keep_aspect_ratio_policy").since(18)},
		Inputs: []Param{{Name: "X", Type: "T1"}, {Name: "scales", Type: "S", Until: 10},
			{Name: "roi", Type: "T2", Optional: true, Since: 11},
			{Name: "scales", Type: "S", Optional: true, Since: 11}, {Name: "sizes", Type: "I", Optional: true,
				Since: 11}},
		Outputs: []Param{{Name: "Y", Type: "T1"}}, Tol: activationTol,
		Types: map[string]TypeSet{"T1": Numbers | Bools, "T2": Floats, "S": Set(onnxio.Float),
			"I": Set(onnxio.Int64)},
		Infer: inferResize, Eval: evalResize, Grad: gradResize,
	}, &Def{Name: "Upsample", Versions: []int64{1, 7, 9, 10},
		Attrs: []AttrDef{stringA("mode"), floatA("width_scale").required().until(1),
			floatA("height_scale").required().until(1),
			{Name: "scales", Type: onnxio.AttrFloats, Required: true, Since: 7, Until: 7}},
		Inputs:  []Param{{Name: "X", Type: "T"}, {Name: "scales", Type: "S", Since: 9}},
		Outputs: []Param{{Name: "Y", Type: "T"}}, Tol: activationTol,
		Types: map[string]TypeSet{"T": Numbers | Bools, "S": Set(onnxio.Float)},
		Infer: inferResize, Eval: evalResize, Grad: gradResize,
	}, resizeGradDef())
}

// resizing is a Resize node resolved: per axis its scale, the output's size and the region of interest.
type resizing struct {
	scale    []float64
	from, to []float64
	dims     []onnxio.Dim
}

// resizingOf resolves a node for an input of shape s; tensor gives the constant input i and sizes the fourth
// one. nil when something is not known.
func resizingOf(n *Node, s []onnxio.Dim, tensor func(i int) (t *onnxio.Tensor, known bool),
	sizes func() []onnxio.Dim) (*resizing, error) {
	axes := make([]int, len(s))
	for i := range axes {
		axes[i] = i
	}
	if a := n.Attr("axes"); a != nil {
		axes = nil
		for _, v := range a.Ints {
			i, err := axisOf(n, v, len(s))
			if err != nil {
				return nil, err
			}
			axes = append(axes, i)
		}
	}
	r := &resizing{make([]float64, len(s)), make([]float64, len(s)), make([]float64, len(s)), slices.Clone(s)}
	for i := range s {
		r.scale[i], r.to[i] = 1, 1
	}
	at := 2
	if n.OpType == "Upsample" || n.Since < 11 {
		at = 1
	}
	if n.Str("coordinate_transformation_mode", "") == "tf_crop_and_resize" {
		roi, ok := tensor(1)
		if !ok {
			return nil, nil
		}
		if roi == nil || !Floats.Has(roi.Type) || int(roi.Size()) != 2*len(axes) {
			return nil, n.Errorf("roi does not have two numbers for each of %d axes", len(axes))
		}
		for k, i := range axes {
			r.from[i], r.to[i] = floatAt(roi, k), floatAt(roi, len(axes)+k)
		}
	}
	scales, ok := tensor(at)
	if list := oldScales(n); list != nil {
		scales, ok = onnxio.Floats(list, int64(len(list))), true
	}
	switch {
	case !ok:
		return nil, nil
	case scales != nil && scales.Size() > 0:
		if scales.Type != onnxio.Float {
			return nil, n.Errorf("scales are %v", scales.Type)
		}
		if int(scales.Size()) != len(axes) {
			return nil, n.Errorf("%d scales for %d axes", scales.Size(), len(axes))
		}
		for k, i := range axes {
			v := scales.Float32s()[k]
			if !(v > 0) || math.IsInf(float64(v), 0) {
				return nil, n.Errorf("scale %v is not positive", v)
			}
			r.scale[i] = float64(v)
			switch {
			case s[i].Known():
				size := math.Floor(float64(float32(s[i].Value) * float32(r.to[i]-r.from[i]) * v))
				if !(size >= 0 && size < 1<<40) {
					return nil, n.Errorf("dimension %d of %s cannot become %v", i, shapeText(s), size)
				}
				r.dims[i] = knownDim(int64(size))
			case v != 1:
				r.dims[i] = unknownDim
			}
		}
		return r, nil
	}
	want := sizes()
	if want == nil {
		return nil, nil
	}
	if len(want) != len(axes) {
		return nil, n.Errorf("%d sizes for %d axes", len(want), len(axes))
	}
	return r, r.fit(n, s, axes, want)
}

// fit is the case of given sizes, which a policy may shrink or grow to keep proportions.
func (r *resizing) fit(n *Node, s []onnxio.Dim, axes []int, want []onnxio.Dim) error {
	policy, ratio := n.Str("keep_aspect_ratio_policy", "stretch"), math.NaN()
	for k, i := range axes {
		r.dims[i] = want[k]
		if !s[i].Known() || !want[k].Known() {
			if policy != "stretch" {
				for _, i := range axes {
					r.dims[i] = unknownDim
				}
				return nil
			}
			continue
		}
		if s[i].Value == 0 {
			continue
		}
		r.scale[i] = float64(want[k].Value) / float64(s[i].Value)
		if math.IsNaN(ratio) || (policy == "not_larger") == (r.scale[i] < ratio) {
			ratio = r.scale[i]
		}
	}
	if policy == "stretch" || math.IsNaN(ratio) {
		return nil
	}
	for _, i := range axes {
		r.scale[i], r.dims[i] = ratio, knownDim(int64(math.Floor(ratio*float64(s[i].Value)+0.5)))
	}
	return nil
}

// oldScales are the scales that Upsample had as attributes.
func oldScales(n *Node) []float32 {
	if a := n.Attr("scales"); a != nil {
		return a.Floats
	}
	if n.Attr("height_scale") != nil {
		return []float32{1, 1, n.Float("height_scale", 1), n.Float("width_scale", 1)}
	}
	return nil
}

func inferResize(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	c.SetType(0, c.In[0].Type)
	if !shaped(c, 0) {
		return nil
	}
	r, err := resizingOf(c.Node, c.In[0].Shape, func(i int) (*onnxio.Tensor, bool) {
		if !c.Has(i) {
			return nil, true
		}
		if dims, ok := c.In[i].Dims(); ok && len(dims) == 1 && dims[0] == 0 {
			return nil, true
		}
		return c.In[i].Const, c.In[i].Const != nil && hasData(c.In[i].Const)
	}, func() []onnxio.Dim {
		if !c.Has(3) {
			return nil
		}
		sizes, _ := c.In[3].Known()
		return sizes
	})
	if err != nil {
		return err
	}
	if r == nil {
		r = &resizing{dims: make([]onnxio.Dim, len(c.In[0].Shape))}
		for i := range r.dims {
			r.dims[i] = unknownDim
		}
	}
	c.Set(0, c.In[0].Type, r.dims)
	return nil
}

// tap is one place of the input and its weight.
type tap struct {
	at     int64
	weight float64
}

// taps gives for each place along an axis what it is made of; nil outside the region that crops.
func (r *resizing) taps(n *Node, axis int, d int64) ([][]tap, error) {
	size := r.dims[axis].Value
	if size < 0 {
		return nil, n.Errorf("cannot resize a dimension to %d", size)
	}
	out := make([][]tap, size)
	if d == 0 && size > 0 {
		return nil, n.Errorf("cannot resize an empty dimension")
	}
	mode := n.Str("mode", "nearest")
	for i := range out {
		x, err := r.source(n, axis, d, float64(i))
		if err != nil {
			return nil, err
		}
		if n.Str("coordinate_transformation_mode", "") == "tf_crop_and_resize" &&
			!(x >= 0 && x <= float64(d-1)) {
			continue
		}
		if mode == "nearest" {
			at, err := nearest(n, x, r.scale[axis])
			if err != nil {
				return nil, err
			}
			out[i] = []tap{{int64(max(0, min(at, float64(d-1)))), 1}}
			continue
		}
		if out[i], err = interpolate(n, mode, x, r.scale[axis], d); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// source is the coordinate in the input of place i of the output.
func (r *resizing) source(n *Node, axis int, d int64, i float64) (float64, error) {
	s, in, size := r.scale[axis], float64(d), float64(r.dims[axis].Value)
	mode := "asymmetric"
	if n.OpType == "Resize" && n.Since >= 11 {
		mode = n.Str("coordinate_transformation_mode", "half_pixel")
	}
	switch mode {
	case "half_pixel":
		return (i+0.5)/s - 0.5, nil
	case "half_pixel_symmetric":
		return in/2*(1-size/(s*in)) + (i+0.5)/s - 0.5, nil
	case "pytorch_half_pixel":
		if size <= 1 {
			return 0, nil
		}
		return (i+0.5)/s - 0.5, nil
	case "tf_half_pixel_for_nn":
		return (i + 0.5) / s, nil
	case "asymmetric":
		return i / s, nil
	case "align_corners":
		if size <= 1 {
			return 0, nil
		}
		if n.Since < 19 { // as the text of the specification, PyTorch and ONNX Runtime have it
			return i * (in - 1) / (size - 1), nil
		}
		return i * (in - 1) / (s*in - 1), nil // ONNX's cases of version 19 do not round the length
	case "tf_crop_and_resize":
		from, to := r.from[axis], r.to[axis]
		if size <= 1 {
			return 0.5 * (from + to) * (in - 1), nil
		}
		return from*(in-1) + i*(to-from)*(in-1)/(size-1), nil
	}
	return 0, n.Errorf("coordinate_transformation_mode %q is unknown", mode)
}

func nearest(n *Node, x, scale float64) (float64, error) {
	mode := "floor"
	if scale < 1 { // as version 10's cases have it
		mode = "ceil"
	}
	if n.OpType == "Resize" && n.Since >= 11 {
		mode = n.Str("nearest_mode", "round_prefer_floor")
	}
	switch mode {
	case "round_prefer_floor":
		return math.Ceil(x - 0.5), nil
	case "round_prefer_ceil":
		return math.Floor(x + 0.5), nil
	case "floor":
		return math.Floor(x), nil
	case "ceil":
		return math.Ceil(x), nil
	}
	return 0, n.Errorf("nearest_mode %q is unknown", mode)
}

// interpolate gives the taps of linear and cubic; antialias widens them when the output is smaller.
func interpolate(n *Node, mode string, x, scale float64, d int64) ([]tap, error) {
	if scale = min(scale, 1); n.Int("antialias", 0) == 0 {
		scale = 1
	}
	reach, a := 1.0, float64(n.Float("cubic_coeff_a", -0.75))
	switch mode {
	case "linear", "bilinear":
	case "cubic":
		reach = 2
	default:
		return nil, n.Errorf("mode %q is unknown", mode)
	}
	if reach/scale > float64(4*d+4) {
		return nil, n.Errorf("scale %v is too small for %d places", scale, d)
	}
	base := math.Floor(x)
	first := int64(math.Floor(-reach/scale)) + 1
	var taps []tap
	sum := 0.0
	for k := first; k <= 1-first; k++ {
		v := math.Abs((float64(k) - (x - base)) * scale)
		w := max(0, 1-v)
		if mode == "cubic" {
			switch {
			case v <= 1:
				w = ((a+2)*v-(a+3))*v*v + 1
			case v < 2:
				w = ((a*v-5*a)*v+8*a)*v - 4*a
			default:
				w = 0
			}
		}
		at := int64(base) + k
		if (at < 0 || at >= d) && n.Int("exclude_outside", 0) != 0 {
			continue
		}
		taps = append(taps, tap{max(0, min(at, d-1)), w})
		sum += w
	}
	for i := range taps {
		taps[i].weight /= sum
	}
	return taps, nil
}

// resizingWhileRunning resolves node n, which may be the one whose gradient c is, for an input of shape dims.
func resizingWhileRunning(c *Eval, n *Node, dims []int64) (*resizing, error) {
	r, err := resizingOf(n, knownDims(dims), func(i int) (*onnxio.Tensor, bool) {
		if !c.Has(i) {
			return nil, true
		}
		return c.In[i], hasData(c.In[i])
	}, func() []onnxio.Dim {
		if !c.Has(3) {
			return nil
		}
		sizes, _ := intsOf(c.In[3])
		return knownDims(sizes)
	})
	if err == nil && r == nil {
		err = c.Node.Errorf("has neither scales nor sizes")
	}
	return r, err
}

func evalResize(c *Eval) error {
	if err := evalReady(c); err != nil {
		return err
	}
	x := c.In[0]
	r, err := resizingWhileRunning(c, c.Node, x.Dims)
	if err != nil {
		return err
	}
	dims := make([]int64, len(r.dims))
	for i, d := range r.dims {
		if dims[i] = d.Value; d.Value < 0 {
			return c.Node.Errorf("sizes %s have a negative dimension", shapeText(r.dims))
		}
	}
	y, err := c.Alloc(0, x.Type, dims...)
	if err != nil {
		return err
	}
	data, err := asFloat64(c, x)
	if err != nil {
		return err
	}
	values, shape := onnxio.Data[float64](data), slices.Clone(x.Dims)
	outside := make([]bool, 0)
	for axis := range shape {
		taps, err := r.taps(c.Node, axis, shape[axis])
		if err != nil {
			return err
		}
		if unmoved(taps, shape[axis]) {
			continue
		}
		values, outside = stretch(values, outside, shape, axis, taps)
		shape[axis] = dims[axis]
	}
	for i, o := range outside {
		if o {
			values[i] = float64(c.Node.Float("extrapolation_value", 0))
		}
	}
	return cast(c.Node, y, onnxio.FromSlice(onnxio.Double, values, dims...), false)
}

// unmoved reports whether taps give each of d places itself.
func unmoved(taps [][]tap, d int64) bool {
	for i, list := range taps {
		for _, t := range list {
			if t.weight != 0 && (t.weight != 1 || t.at != int64(i)) {
				return false
			}
		}
		if list == nil {
			return false
		}
	}
	return int64(len(taps)) == d
}

// stretch applies the taps of one axis. outside marks what no tap reaches; empty, nothing is marked.
func stretch(x []float64, outside []bool, dims []int64, axis int, taps [][]tap) ([]float64, []bool) {
	outer, inner, d := sizeOf(dims[:axis]), sizeOf(dims[axis+1:]), int(dims[axis])
	y := make([]float64, outer*len(taps)*inner)
	var marks []bool
	if len(outside) > 0 || slices.ContainsFunc(taps, func(t []tap) bool { return t == nil }) {
		marks = make([]bool, len(y))
	}
	for o := range outer {
		for i, list := range taps {
			to := y[(o*len(taps)+i)*inner:][:inner]
			for _, t := range list {
				for k, v := range x[(o*d+int(t.at))*inner:][:inner] {
					to[k] += t.weight * v
				}
			}
			for k := range inner {
				if marks == nil {
					break
				}
				m := list == nil
				if !m && len(outside) > 0 {
					m = outside[(o*d+int(list[0].at))*inner+k]
				}
				marks[(o*len(taps)+i)*inner+k] = m
			}
		}
	}
	return y, marks
}

func gradResize(g *Grad) (err error) {
	if g.Wants[0] {
		attrs := append(slices.Clone(g.Node.Attrs), onnxio.IntsAttr("shape", g.Dims(g.In(0))...),
			onnxio.StringAttr("forward", g.Node.OpType),
			onnxio.IntAttr("version", g.Node.Since))
		g.DIn[0], err = g.One(GradDomain, "ResizeGrad", append([]string{g.DOut[0]}, g.Ins[1:]...), attrs...)
	}
	return err
}

// ResizeGrad(dy, ...; shape, forward, version, ...) takes the weighted sums of Resize or Upsample back. Its
// other inputs and attributes are those of the operator that forward names, in the given version.
func resizeGradDef() *Def {
	d := &Def{Name: "ResizeGrad", Domain: GradDomain, Versions: []int64{1}, Tol: reduceTol,
		Attrs: []AttrDef{intsA("shape").required(), stringA("forward"), intA("version"), stringA("mode"),
			stringA("coordinate_transformation_mode"),
			floatA("cubic_coeff_a"), intA("exclude_outside"), floatA("extrapolation_value"),
			stringA("nearest_mode"), intA("antialias"),
			intsA("axes"), stringA("keep_aspect_ratio_policy"), floatA("width_scale"), floatA("height_scale"),
			{Name: "scales", Type: onnxio.AttrFloats}},
		Inputs: []Param{{Name: "dy", Type: "T"}, {Name: "roi", Type: "T2", Optional: true},
			{Name: "scales", Type: "S", Optional: true},
			{Name: "sizes", Type: "I", Optional: true}},
		Outputs: []Param{{Name: "dx", Type: "T"}},
		Types: map[string]TypeSet{"T": Floats, "T2": Floats, "S": Set(onnxio.Float),
			"I": Set(onnxio.Int64)}}
	d.Infer = func(c *Infer) error {
		if err := inferReady(c); err != nil {
			return err
		}
		c.Set(0, c.In[0].Type, knownDims(c.Node.Ints("shape")))
		return nil
	}
	d.Eval = byFloat(evalResizeGrad, evalResizeGrad)
	return d
}

// resizeBehind is the operator that a ResizeGrad is the gradient of.
func resizeBehind(n *Node) *Node {
	return &Node{&onnxio.Node{Name: n.Name, OpType: n.Str("forward", "Resize"), Attrs: n.Attrs}, n.Def,
		n.Int("version", 19)}
}

func evalResizeGrad(c *Eval) error {
	shape, dy := c.Node.Ints("shape"), c.In[0]
	n := resizeBehind(c.Node)
	r, err := resizingWhileRunning(c, n, shape)
	if err != nil {
		return err
	}
	if !agreeAll(r.dims, knownDims(dy.Dims)) {
		return c.Node.Errorf("dy %s where %s is wanted", dimsText(dy.Dims), shapeText(r.dims))
	}
	r.dims = knownDims(dy.Dims)
	y, err := c.Alloc(0, dy.Type, shape...)
	if err != nil {
		return err
	}
	wide, err := asFloat64(c, dy)
	if err != nil {
		return err
	}
	values, dims := onnxio.Data[float64](wide), slices.Clone(dy.Dims)
	for axis, d := range shape {
		taps, err := r.taps(n, axis, d)
		if err != nil {
			return err
		}
		if !unmoved(taps, d) {
			values = unstretch(values, dims, axis, taps, int(d))
		}
		dims[axis] = d
	}
	return cast(c.Node, y, onnxio.FromSlice(onnxio.Double, values, shape...), false)
}

// unstretch is the transpose of stretch: y of shape dims goes back to d places along the axis.
func unstretch(y []float64, dims []int64, axis int, taps [][]tap, d int) []float64 {
	outer, inner := sizeOf(dims[:axis]), sizeOf(dims[axis+1:])
	x := make([]float64, outer*d*inner)
	for o := range outer {
		for i, list := range taps {
			from := y[(o*len(taps)+i)*inner:][:inner]
			for _, t := range list {
				to := x[(o*d+int(t.at))*inner:][:inner]
				for k, v := range from {
					to[k] += t.weight * v
				}
			}
		}
	}
	return x
}
