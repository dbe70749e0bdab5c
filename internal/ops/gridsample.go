package ops

import (
	"math"
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
)

// GridSample: every element of the output is X at a place that grid names, in coordinates from -1 to 1. Along
// each axis a place is a few taps (1 nearest, 2 linear, 4 cubic); their products weigh the pixels. A
// coordinate that is NaN lies outside, which padding_mode border and reflection make pixel 0.

func init() {
	attrs := []AttrDef{intA("align_corners"), stringA("mode"), stringA("padding_mode")}
	inputs := []Param{{Name: "X", Type: "T1"}, {Name: "grid", Type: "T2"}}
	grad := gradDef("GridSampleGrad", []string{"dy", "x", "grid"}, []string{"dx", "dgrid"}, attrs...)
	grad.Infer = func(c *Infer) error {
		if err := inferReady(c); err != nil {
			return err
		}
		setLike(c, 0, c.In[1])
		setLike(c, 1, c.In[2])
		return nil
	}
	grad.Eval, grad.Tol = byFloat(evalGridSampleGrad[float32], evalGridSampleGrad[float64]), reduceTol
	register(&Def{Name: "GridSample", Versions: []int64{16, 20, 22}, Attrs: attrs, Inputs: inputs,
		Outputs: []Param{{Name: "Y", Type: "T1"}}, Types: map[string]TypeSet{"T1": Numbers | Bools,
			"T2": Floats},
		Check: func(n *Node) error { _, err := samplingOf(n, 2); return err }, Tol: averageTol,
		Infer: inferGridSample, Eval: evalGridSample, Grad: gradGridSample}, grad)
}

type samplingMode int

const (
	sampleLinear samplingMode = iota
	sampleNearest
	sampleCubic
)

type samplingPad int

const (
	padZeros samplingPad = iota
	padBorder
	padReflection
)

// sampling are the attributes of a GridSample node.
type sampling struct {
	mode  samplingMode
	pad   samplingPad
	align bool
}

// samplingOf reads the attributes for a number of spatial dimensions. Version 16 called its
// modes bilinear and bicubic.
func samplingOf(n *Node, rank int) (s sampling, err error) {
	switch mode := n.Str("mode", "linear"); mode {
	case "linear", "bilinear":
	case "nearest":
		s.mode = sampleNearest
	case "cubic", "bicubic":
		s.mode = sampleCubic
	default:
		return s, n.Errorf("mode %q is not linear, nearest or cubic", mode)
	}
	switch pad := n.Str("padding_mode", "zeros"); pad {
	case "zeros":
	case "border":
		s.pad = padBorder
	case "reflection":
		s.pad = padReflection
	default:
		return s, n.Errorf("padding_mode %q is not zeros, border or reflection", pad)
	}
	s.align = n.Int("align_corners", 0) != 0
	if rank < 1 || rank > maxSpatial {
		return s, &onnxio.UnsupportedError{Op: n.OpType, Node: n.Name,
			Reason: "not 1 to 3 spatial dimensions"}
	}
	return s, nil
}

func inferGridSample(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	c.SetType(0, c.In[0].Type)
	if !shaped(c, 0) && !shaped(c, 1) {
		return nil
	}
	var x, grid []onnxio.Dim
	if shaped(c, 0) {
		x = c.In[0].Shape
	}
	if shaped(c, 1) {
		grid = c.In[1].Shape
	}
	rank := max(len(x), len(grid))
	if _, err := samplingOf(c.Node, rank-2); err != nil {
		return err
	}
	out := slices.Repeat([]onnxio.Dim{unknownDim}, rank)
	if x != nil {
		copy(out, x[:min(2, len(x))])
	}
	if grid != nil {
		unlike := x != nil && (len(x) != rank || len(grid) != rank || !agree(x[0], grid[0]))
		if unlike || !agree(grid[len(grid)-1], knownDim(int64(rank-2))) {
			return c.Node.Errorf("input %s with grid %s; a grid is [N,...,%d]", shapeText(x),
				shapeText(grid), rank-2)
		}
		out[0] = merge(out[0], grid[0])
		copy(out[2:], grid[1:rank-1])
	}
	c.Set(0, c.In[0].Type, out)
	return nil
}

// gridTap is one pixel along an axis, -1 for one outside: its weight and how that changes
// with the coordinate of grid.
type gridTap struct {
	at            int
	weight, slope float64
}

// place is the coordinate in pixels of a coordinate of grid along an axis of n pixels, and its derivative.
func (s *sampling) place(v float64, n int) (x, slope float64) {
	if s.align {
		return (v + 1) / 2 * float64(n-1), float64(n-1) / 2
	}
	return ((v+1)*float64(n) - 1) / 2, float64(n) / 2
}

// taps appends the pixels along an axis of n pixels that make up the place v of grid.
func (s *sampling) taps(v float64, n int, taps []gridTap) []gridTap {
	x, slope := s.place(v, n)
	if s.mode == sampleNearest {
		x = math.RoundToEven(x)
	}
	switch {
	case s.pad == padZeros:
	case s.mode == sampleCubic:
		x = s.near(x, n)
	default:
		var turn float64
		x, turn = s.inside(x, n)
		slope *= turn
	}
	if n == 0 || !(math.Abs(x) < maxExtent) {
		return append(taps, gridTap{at: -1})
	}
	if s.mode == sampleNearest {
		return append(taps, gridTap{at: s.pixel(int(x), n), weight: 1})
	}
	at := int(math.Floor(x))
	part := x - float64(at)
	if s.mode == sampleLinear {
		return append(taps, gridTap{s.pixel(at, n), 1 - part, -slope}, gridTap{s.pixel(at+1, n), part, slope})
	}
	for k := -1; k <= 2; k++ {
		w, d := cubicWeight(float64(k) - part)
		taps = append(taps, gridTap{s.pixel(at+k, n), w, -d * slope})
	}
	return taps
}

// cubicWeight is Keys's kernel with -0.75, and its derivative.
func cubicWeight(x float64) (w, d float64) {
	const a = -0.75
	v, sign := math.Abs(x), 1.0
	if x < 0 {
		sign = -1
	}
	switch {
	case v <= 1:
		return ((a+2)*v-(a+3))*v*v + 1, sign * (3*(a+2)*v - 2*(a+3)) * v
	case v < 2:
		return ((v-5)*v+8)*v*a - 4*a, sign * a * ((3*v-10)*v + 8)
	}
	return 0, 0
}

// inside brings a coordinate into the picture by the padding mode; turn is its derivative: 1, -1 or 0.
func (s *sampling) inside(x float64, n int) (in, turn float64) {
	if x != x || n == 0 {
		return 0, 0
	}
	turn = 1
	if s.pad == padReflection {
		x, turn = s.reflect(x, n)
	}
	if x <= 0 {
		return 0, 0
	}
	if last := float64(n - 1); x >= last {
		return last, 0
	}
	return x, turn
}

// near brings a coordinate whose pixels are padded one by one to where their indices are
// small; none of them changes.
func (s *sampling) near(x float64, n int) float64 {
	switch {
	case x != x:
		return 0
	case s.pad == padBorder:
		return max(-3, min(x, float64(n+2)))
	case math.Abs(x) >= maxExtent:
		x, _ = s.reflect(x, n)
	}
	return x
}

// reflect folds a coordinate between the picture's ends: the centers of its outer pixels, or their edges.
func (s *sampling) reflect(x float64, n int) (in, turn float64) {
	lo, span := -0.5, float64(n)
	if s.align {
		lo, span = 0, float64(n-1)
	}
	if span <= 0 || math.IsInf(x, 0) {
		return 0, 0
	}
	d := math.Abs(x - lo)
	turn = 1
	if x < lo {
		turn = -1
	}
	folds, rest := math.Floor(d/span), math.Mod(d, span)
	if math.Mod(folds, 2) != 0 {
		return lo + span - rest, -turn
	}
	return lo + rest, turn
}

// pixel is the index of a pixel that may be outside: -1 where it is 0.
func (s *sampling) pixel(at, n int) int {
	switch {
	case at >= 0 && at < n:
		return at
	case s.pad == padZeros || n == 0:
		return -1
	case s.pad == padReflection:
		x, _ := s.reflect(float64(at), n)
		at = int(x)
	}
	return max(0, min(at, n-1))
}

// gridWalk is the geometry of a GridSample while it runs.
type gridWalk struct {
	sampling
	rank, pictures, channels int
	in                       []int // spatial sizes of X
	inSize, outSize          int
}

func gridWalkOf(n *Node, x, grid *onnxio.Tensor) (w gridWalk, err error) {
	if w.sampling, err = samplingOf(n, len(x.Dims)-2); err != nil {
		return w, err
	}
	w.rank = len(x.Dims) - 2
	if len(grid.Dims) != len(x.Dims) || grid.Dims[0] != x.Dims[0] || grid.Dims[w.rank+1] != int64(w.rank) {
		return w, n.Errorf("input %s with grid %s; a grid is [N,...,%d]", dimsText(x.Dims),
			dimsText(grid.Dims), w.rank)
	}
	w.pictures, w.channels = int(x.Dims[0]), int(x.Dims[1])
	w.inSize, w.outSize = sizeOf(x.Dims[2:]), sizeOf(grid.Dims[1:w.rank+1])
	for _, d := range x.Dims[2:] {
		w.in = append(w.in, int(d))
	}
	return w, nil
}

// axesOf gives the taps of each axis for one place, whose coordinates come innermost first.
func axesOf[T floating](w *gridWalk, place []T, axes [maxSpatial][]gridTap) [maxSpatial][]gridTap {
	for a, n := range w.in {
		axes[a] = w.taps(float64(place[w.rank-1-a]), n, axes[a][:0])
	}
	return axes
}

// each calls f for every pixel that the taps of all axes name, with its index in the plane and the taps.
func (w *gridWalk) each(axes *[maxSpatial][]gridTap, f func(at int, taps *[maxSpatial]*gridTap)) {
	var chosen [maxSpatial]*gridTap
	var nest func(axis, at int)
	nest = func(axis, at int) {
		if axis == w.rank {
			f(at, &chosen)
			return
		}
		for i := range axes[axis] {
			if t := &axes[axis][i]; t.at >= 0 {
				chosen[axis] = t
				nest(axis+1, at*w.in[axis]+t.at)
			}
		}
	}
	nest(0, 0)
}

func evalGridSample(c *Eval) error {
	if !c.Has(0) || !c.Has(1) || !Floats.Has(c.In[1].Type) || !(Numbers | Bools).Has(c.In[0].Type) {
		return c.Node.Errorf("needs a numeric input and a grid of floats")
	}
	x := c.In[0]
	grid, err := asFloat64(c, c.In[1])
	if err != nil {
		return err
	}
	w, err := gridWalkOf(c.Node, x, grid)
	if err != nil {
		return err
	}
	y, err := c.Alloc(0, x.Type, append(append([]int64{}, x.Dims[:2]...), grid.Dims[1:w.rank+1]...)...)
	if err != nil {
		return err
	}
	if w.mode == sampleNearest {
		w.move(y.Raw, x.Raw, x.Type.Bits()/8, onnxio.Data[float64](grid))
		return nil
	}
	wide, err := asFloat64(c, x)
	if err != nil {
		return err
	}
	out := onnxio.NewTensor(onnxio.Double, y.Dims...)
	w.sample(onnxio.Data[float64](out), onnxio.Data[float64](wide), onnxio.Data[float64](grid))
	return cast(c.Node, y, out, false)
}

// move copies the nearest element, of es bytes, to every place.
func (w *gridWalk) move(y, x []byte, es int, grid []float64) {
	clear(y)
	var axes [maxSpatial][]gridTap
	for p := range w.pictures * w.outSize {
		n, o := p/w.outSize, p%w.outSize
		axes = axesOf(w, grid[p*w.rank:][:w.rank], axes)
		w.each(&axes, func(at int, _ *[maxSpatial]*gridTap) {
			for ch := n * w.channels; ch < (n+1)*w.channels; ch++ {
				copy(y[(ch*w.outSize+o)*es:][:es], x[(ch*w.inSize+at)*es:])
			}
		})
	}
}

// sample adds up the weighted pixels of every place.
func (w *gridWalk) sample(y, x, grid []float64) {
	var axes [maxSpatial][]gridTap
	for p := range w.pictures * w.outSize {
		n, o := p/w.outSize, p%w.outSize
		axes = axesOf(w, grid[p*w.rank:][:w.rank], axes)
		w.each(&axes, func(at int, taps *[maxSpatial]*gridTap) {
			weight := 1.0
			for _, t := range taps[:w.rank] {
				weight *= t.weight
			}
			for ch := n * w.channels; ch < (n+1)*w.channels; ch++ {
				y[ch*w.outSize+o] += weight * x[ch*w.inSize+at]
			}
		})
	}
}

func gradGridSample(g *Grad) error {
	if g.Value(g.In(0)).Type != g.Value(g.In(1)).Type {
		return g.Node.Errorf("the gradient needs X and grid of one type")
	}
	out, err := g.Emit(GradDomain, "GridSampleGrad", 2, []string{g.DOut[0], g.In(0), g.In(1)},
		g.Node.Attrs...)
	if err != nil {
		return err
	}
	for i := range out {
		if g.Wants[i] {
			g.DIn[i] = out[i]
		}
	}
	return nil
}

// evalGridSampleGrad gives dy of each place to the pixels that it is made of, and to its coordinates how
// those weights change with them.
func evalGridSampleGrad[T floating](c *Eval) error {
	dy, x, grid := c.In[0], c.In[1], c.In[2]
	w, err := gridWalkOf(c.Node, x, grid)
	if err != nil {
		return err
	}
	if len(dy.Dims) != len(x.Dims) || !equal(dy.Dims[:2], x.Dims[:2]) ||
		!equal(dy.Dims[2:], grid.Dims[1:w.rank+1]) {
		return c.Node.Errorf("dy %s for input %s and grid %s", dimsText(dy.Dims), dimsText(x.Dims),
			dimsText(grid.Dims))
	}
	dx, err := c.Alloc(0, x.Type, x.Dims...)
	if err != nil {
		return err
	}
	dgrid, err := c.Alloc(1, grid.Type, grid.Dims...)
	if err != nil {
		return err
	}
	back := gridBack[T]{&w, onnxio.Data[T](dy), onnxio.Data[T](x), onnxio.Data[T](dx)}
	places, to := onnxio.Data[T](grid), onnxio.Data[T](dgrid)
	clear(back.dx)
	var axes [maxSpatial][]gridTap
	for p := range w.pictures * w.outSize {
		axes = axesOf(&w, places[p*w.rank:][:w.rank], axes)
		d := back.place(p, &axes)
		for a := range w.rank {
			to[p*w.rank+w.rank-1-a] = T(d[a])
		}
	}
	return nil
}

// gridBack is the backward pass of a GridSample.
type gridBack[T floating] struct {
	*gridWalk
	dy, x, dx []T
}

// place adds the share of one place to dx and gives the derivative along each axis.
func (b *gridBack[T]) place(p int, axes *[maxSpatial][]gridTap) (d [maxSpatial]float64) {
	n, o := p/b.outSize, p%b.outSize
	b.each(axes, func(at int, taps *[maxSpatial]*gridTap) {
		weight, slopes := 1.0, [maxSpatial]float64{1, 1, 1}
		for a, t := range taps[:b.rank] {
			weight *= t.weight
			for k := range slopes {
				if k == a {
					slopes[k] *= t.slope
				} else {
					slopes[k] *= t.weight
				}
			}
		}
		dot := 0.0
		for ch := n * b.channels; ch < (n+1)*b.channels; ch++ {
			g := b.dy[ch*b.outSize+o]
			b.dx[ch*b.inSize+at] += T(weight) * g
			dot += float64(g) * float64(b.x[ch*b.inSize+at])
		}
		for k := range d {
			d[k] += dot * slopes[k]
		}
	})
	return d
}
