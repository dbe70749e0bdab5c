package ops

import (
	"math"
	"math/bits"
	"math/cmplx"

	"github.com/cnnkit/cnnkit/onnxio"
)

// DFT and STFT. Complex numbers are the last dimension, of 2; real ones have 1 there. Transforms are computed
// in complex128: powers of two by halving, other lengths by Bluestein's convolution (1970).

// fourierTol: sums of the length of the signal, which other implementations take in float32.
var fourierTol = Tolerance{Abs: 1e-4, Rel: 1e-4}

func init() {
	register(
		&Def{Name: "DFT", Versions: []int64{17, 20}, Attrs: []AttrDef{intA("axis").until(19), intA("inverse"),
			intA("onesided")},
			Inputs: []Param{formal("input", "T1"), formal("dft_length", "T2").optional(),
				formal("axis", "I").optional().since(20)},
			Outputs: []Param{{Name: "output", Type: "T1"}}, Tol: fourierTol,
			Types: map[string]TypeSet{"T1": Floats, "T2": Indices, "I": Set(onnxio.Int64)},
			Infer: inferDFT, Eval: byFloat(evalDFT, evalDFT)},
		&Def{Name: "STFT", Versions: []int64{17}, Attrs: []AttrDef{intA("onesided")},
			Inputs: []Param{formal("signal", "T1"), formal("frame_step", "T2"),
				formal("window", "T1").optional(),
				formal("frame_length", "T2").optional()},
			Outputs: []Param{{Name: "output", Type: "T1"}}, Tol: fourierTol,
			Types: map[string]TypeSet{"T1": Floats, "T2": Indices}, Infer: inferSTFT,
			Eval: byFloat(evalSTFT, evalSTFT)},
	)
}

// oneNumber is the one element of input i, a scalar or a vector of one.
func oneNumber(n *Node, t *onnxio.Tensor, i int) (int64, error) {
	v, ok := intsOf(t)
	if !ok || len(v) != 1 {
		return 0, n.Errorf("%s is not one number", n.InParams()[i].Name)
	}
	return v[0], nil
}

// knownNumber is oneNumber while inferring; known is false when it is not a constant.
func knownNumber(c *Infer, i int) (v int64, known bool, err error) {
	if c.In[i].Const == nil || !hasData(c.In[i].Const) {
		return 0, false, nil
	}
	v, err = oneNumber(c.Node, c.In[i].Const, i)
	return v, err == nil, err
}

// transform is a DFT node resolved: along axis, of length, which gives bins; inverse and oneSided as its
// attributes.
type transform struct {
	axis              int
	length, bins      int64
	inverse, oneSided bool
}

// outputs are the bins and the size of the last dimension.
func (t *transform) outputs() (bins, last int64) {
	switch {
	case t.oneSided && t.inverse:
		return t.length, 1
	case t.oneSided:
		return t.length/2 + 1, 2
	}
	return t.length, 2
}

// newTransform checks a node over an input of shape x; length is -1 where the node does not say it.
func newTransform(n *Node, x []int64, axis, length int64) (*transform, error) {
	t := &transform{length: length, inverse: n.Int("inverse", 0) != 0, oneSided: n.Int("onesided", 0) != 0}
	var err error
	if t.axis, err = axisOf(n, axis, len(x)); err != nil {
		return nil, err
	}
	last := x[len(x)-1]
	switch {
	case t.axis == len(x)-1:
		return nil, n.Errorf("axis %d is the dimension of the complex numbers in %s", axis, dimsText(x))
	case last != 1 && last != 2:
		return nil, n.Errorf("the last dimension of %s is neither 1 nor 2", dimsText(x))
	case t.oneSided && t.inverse && last != 2:
		return nil, n.Errorf("a one-sided inverse transform needs complex numbers, not %s", dimsText(x))
	case t.oneSided && !t.inverse && last != 1:
		return nil, n.Errorf("a one-sided transform needs real numbers, not %s", dimsText(x))
	}
	if length < 0 {
		if t.length = x[t.axis]; t.oneSided && t.inverse {
			t.length = 2 * (x[t.axis] - 1)
		}
	}
	if t.length < 1 {
		return nil, n.Errorf("a transform of length %d of %s", t.length, dimsText(x))
	}
	t.bins, _ = t.outputs()
	return t, nil
}

// defaultAxis is DFT's axis without one: the first after the batch in version 17, the last signal axis since
// 20.
func defaultAxis(n *Node) int64 {
	if n.Since < 20 {
		return n.Int("axis", 1)
	}
	return -2
}

func inferDFT(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	c.SetType(0, c.In[0].Type)
	if !shaped(c, 0) {
		return nil
	}
	shape := append([]onnxio.Dim{}, c.In[0].Shape...)
	if len(shape) < 2 {
		return c.Node.Errorf("input %s has no signal", shapeText(shape))
	}
	axis, length, known := defaultAxis(c.Node), int64(-1), true
	for i, to := range []*int64{1: &length, 2: &axis} {
		if to == nil || !c.Has(i) {
			continue
		}
		v, ok, err := knownNumber(c, i)
		if err != nil {
			return err
		}
		if known = known && ok; ok {
			if *to = v; i == 1 && v < 1 {
				return c.Node.Errorf("dft_length %d is not positive", v)
			}
		}
	}
	sides := &transform{inverse: c.Node.Int("inverse", 0) != 0, oneSided: c.Node.Int("onesided", 0) != 0}
	_, last := sides.outputs()
	shape[len(shape)-1] = knownDim(last)
	if dims, ok := c.In[0].Dims(); ok && known {
		t, err := newTransform(c.Node, dims, axis, length)
		if err != nil {
			return err
		}
		shape[t.axis] = knownDim(t.bins)
	} else if known {
		at, err := axisOf(c.Node, axis, len(shape))
		if err != nil {
			return err
		}
		shape[at] = unknownDim
	} else {
		for i := range shape[:len(shape)-1] {
			shape[i] = unknownDim
		}
	}
	c.Set(0, c.In[0].Type, shape)
	return nil
}

func evalDFT(c *Eval) error {
	n, x := c.Node, c.In[0]
	axis, length := defaultAxis(n), int64(-1)
	var err error
	if c.Has(1) {
		if length, err = oneNumber(n, c.In[1], 1); err != nil {
			return err
		}
		if length < 1 {
			return n.Errorf("dft_length %d is not positive", length)
		}
	}
	if c.Has(2) {
		if axis, err = oneNumber(n, c.In[2], 2); err != nil {
			return err
		}
	}
	if len(x.Dims) < 2 {
		return n.Errorf("input %s has no signal", dimsText(x.Dims))
	}
	t, err := newTransform(n, x.Dims, axis, length)
	if err != nil {
		return err
	}
	dims := append([]int64{}, x.Dims...)
	bins, last := t.outputs()
	dims[t.axis], dims[len(dims)-1] = bins, last
	y, err := c.Alloc(0, x.Type, dims...)
	if err != nil || y.Size() == 0 {
		return err
	}
	if most := c.limit() / fourierBytes; t.length > most {
		return n.Errorf("%w", &onnxio.LimitError{What: "length of a transform", Got: t.length, Limit: most})
	}
	t.runLines(y, x.Dims, doubles(c, 0))
	return nil
}

// runLines transforms src, of shape dims, along the axis into y.
func (t *transform) runLines(y *onnxio.Tensor, dims []int64, src []float64) {
	bins, last := t.outputs()
	parts, rest := int(dims[len(dims)-1]), sizeOf(dims[t.axis+1:len(dims)-1])
	from, dst := int(dims[t.axis]), make([]float64, y.Size())
	f, line := newFourier(int(t.length), t.inverse), make([]complex128, t.length)
	for i := range sizeOf(dims[:t.axis]) * rest {
		o, k := i/rest, i%rest
		t.gather(line, src, (o*from*rest+k)*parts, rest*parts, from, parts)
		f.run(line)
		t.scatter(dst, line, (o*int(bins)*rest+k)*int(last), rest*int(last))
	}
	putFloats(y, 0, dst)
}

// gather reads a line of `from` numbers, each of one or two elements; beyond them it is zero. The half of a
// spectrum that a one-sided inverse transform is given is mirrored.
func (t *transform) gather(line []complex128, src []float64, at, step, from, parts int) {
	clear(line)
	take := len(line)
	if t.oneSided && t.inverse {
		take = take/2 + 1
	}
	for i := range min(from, take) {
		re, im := src[at+i*step], 0.0
		if parts == 2 {
			im = src[at+i*step+1]
		}
		line[i] = complex(re, im)
	}
	if !t.oneSided || !t.inverse {
		return
	}
	line[0] = complex(real(line[0]), 0)
	for i := 1; i < (len(line)+1)/2; i++ {
		line[len(line)-i] = cmplx.Conj(line[i])
	}
	if half := len(line) / 2; len(line)%2 == 0 {
		line[half] = complex(real(line[half]), 0)
	}
}

// scatter writes the bins of a line.
func (t *transform) scatter(dst []float64, line []complex128, at, step int) {
	bins, last := t.outputs()
	for i, v := range line[:bins] {
		dst[at+i*step] = real(v)
		if last == 2 {
			dst[at+i*step+1] = imag(v)
		}
	}
}

// fourierBytes is the most that fourier takes for each element of a line.
const fourierBytes = 16 * (3*4 + 2)

// fourier transforms lines of one length; the inverse transform divides by it.
type fourier struct {
	inverse bool
	turns   []complex128 // exp(-2 pi i k/size), k < size/2, of the power of two
	chirp   []complex128 // Bluestein: exp(-pi i k*k/length); nil for a power of two
	kernel  []complex128 // the transform of the chirp's convolution
	work    []complex128
}

func newFourier(length int, inverse bool) *fourier {
	f := &fourier{inverse: inverse}
	size := length
	if length&(length-1) != 0 {
		size = 1 << bits.Len(uint(2*length-1))
		f.chirp, f.kernel, f.work = make([]complex128, length), make([]complex128,
			size), make([]complex128, size)
		for k := range length {
			// k*k modulo 2*length keeps the angle exact.
			f.chirp[k] = cmplx.Rect(1, -math.Pi*float64(uint64(k)*uint64(k)%uint64(2*length))/float64(length))
		}
	}
	f.turns = make([]complex128, size/2)
	for k := range f.turns {
		f.turns[k] = cmplx.Rect(1, -2*math.Pi*float64(k)/float64(size))
	}
	if f.chirp != nil {
		for k, v := range f.chirp {
			f.kernel[k] = cmplx.Conj(v)
			f.kernel[(size-k)%size] = cmplx.Conj(v)
		}
		f.halve(f.kernel)
	}
	return f
}

// run transforms a line in place: x[k] = sum x[n] exp(-2 pi i k n/length), or the inverse.
func (f *fourier) run(x []complex128) {
	if f.inverse { // the conjugate of the transform of the conjugate
		conjugate(x)
	}
	if f.chirp == nil {
		f.halve(x)
	} else {
		f.convolve(x)
	}
	if f.inverse {
		conjugate(x)
		for i := range x {
			x[i] /= complex(float64(len(x)), 0)
		}
	}
}

func conjugate(x []complex128) {
	for i, v := range x {
		x[i] = cmplx.Conj(v)
	}
}

// convolve is Bluestein's transform: k n = (k*k + n*n - (k-n)*(k-n))/2 makes it a convolution with a chirp.
func (f *fourier) convolve(x []complex128) {
	clear(f.work)
	for k, v := range x {
		f.work[k] = v * f.chirp[k]
	}
	f.halve(f.work)
	for k := range f.work {
		f.work[k] = cmplx.Conj(f.work[k] * f.kernel[k])
	}
	f.halve(f.work) // with the conjugates around it, the inverse
	for k := range x {
		x[k] = cmplx.Conj(f.work[k]) / complex(float64(len(f.work)), 0) * f.chirp[k]
	}
}

// halve is the transform of a power of two: elements in the order of their reversed bits, then sums of pairs.
func (f *fourier) halve(x []complex128) {
	shift := 64 - bits.Len(uint(len(x))-1)
	for i := range x {
		if j := int(bits.Reverse64(uint64(i)) >> shift); len(x) > 1 && i < j {
			x[i], x[j] = x[j], x[i]
		}
	}
	for half := 1; half < len(x); half *= 2 {
		stride := len(x) / (2 * half)
		for start := 0; start < len(x); start += 2 * half {
			for k := range half {
				a, b := x[start+k], x[start+half+k]*f.turns[k*stride]
				x[start+k], x[start+half+k] = a+b, a-b
			}
		}
	}
}

// framing is an STFT resolved: frames of length every step.
type framing struct{ step, length, frames, bins int64 }

// newFraming is the framing of a signal of shape x; window is the window's shape, nil without one, length -1
// where it is not given.
func newFraming(n *Node, x, window []int64, step, length int64) (f framing, err error) {
	oneSided := n.Int("onesided", 1) != 0
	if len(x) != 3 || x[2] != 1 && x[2] != 2 {
		return f, n.Errorf("signal %s is not [N,L,1] or [N,L,2]", dimsText(x))
	}
	if oneSided && x[2] == 2 {
		return f, n.Errorf("a one-sided transform needs a real signal, not %s", dimsText(x))
	}
	if window != nil && len(window) != 1 {
		return f, n.Errorf("window %s has not one dimension", dimsText(window))
	}
	if length < 0 {
		if length = x[1]; window != nil {
			length = window[0]
		}
	}
	switch {
	case window != nil && window[0] != length:
		return f, n.Errorf("window %s with frame_length %d", dimsText(window), length)
	case step < 1:
		return f, n.Errorf("frame_step %d is not positive", step)
	case length < 1 || length > x[1]:
		return f, n.Errorf("frames of %d in a signal of %d", length, x[1])
	}
	f = framing{step, length, (x[1]-length)/step + 1, length}
	if oneSided {
		f.bins = length/2 + 1
	}
	return f, nil
}

func inferSTFT(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	c.SetType(0, c.In[0].Type)
	batch := unknownDim
	if shaped(c, 0) && len(c.In[0].Shape) == 3 {
		batch = c.In[0].Shape[0]
	}
	shape := []onnxio.Dim{batch, unknownDim, unknownDim, knownDim(2)}
	step, stepKnown, err := knownNumber(c, 1)
	if err != nil {
		return err
	}
	length, lengthKnown := int64(-1), true
	if c.Has(3) {
		if length, lengthKnown, err = knownNumber(c, 3); err != nil {
			return err
		}
	}
	var window []int64
	windowKnown := true
	if c.Has(2) {
		window, windowKnown = c.In[2].Dims()
	}
	if x, ok := c.In[0].Dims(); ok && stepKnown && lengthKnown && windowKnown {
		f, err := newFraming(c.Node, x, window, step, length)
		if err != nil {
			return err
		}
		shape[1], shape[2] = knownDim(f.frames), knownDim(f.bins)
	}
	c.Set(0, c.In[0].Type, shape)
	return nil
}

func evalSTFT(c *Eval) error {
	n, x := c.Node, c.In[0]
	step, err := oneNumber(n, c.In[1], 1)
	if err != nil {
		return err
	}
	length := int64(-1)
	if c.Has(3) {
		if length, err = oneNumber(n, c.In[3], 3); err != nil {
			return err
		}
		length = max(length, 0)
	}
	var windowDims []int64
	if c.Has(2) {
		windowDims = append([]int64{}, c.In[2].Dims...)
	}
	f, err := newFraming(n, x.Dims, windowDims, step, length)
	if err != nil {
		return err
	}
	y, err := c.Alloc(0, x.Type, x.Dims[0], f.frames, f.bins, 2)
	if err != nil || y.Size() == 0 {
		return err
	}
	src, window, dst := doubles(c, 0), doubles(c, 2), make([]float64, y.Size())
	parts := int(x.Dims[2])
	t := &transform{length: f.length, oneSided: f.bins < f.length}
	transformer, line := newFourier(int(f.length), false), make([]complex128, f.length)
	for i := range int(x.Dims[0] * f.frames) {
		b, frame := i/int(f.frames), i%int(f.frames)
		t.gather(line, src, (b*int(x.Dims[1])+frame*int(f.step))*parts, parts, int(f.length), parts)
		for k, w := range window {
			line[k] *= complex(w, 0)
		}
		transformer.run(line)
		for k, v := range line[:f.bins] {
			dst[(i*int(f.bins)+k)*2], dst[(i*int(f.bins)+k)*2+1] = real(v), imag(v)
		}
	}
	putFloats(y, 0, dst)
	return nil
}
