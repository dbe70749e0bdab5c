package ops

import (
	"math"

	"github.com/cnnkit/cnnkit/onnxio"
)

// HannWindow, HammingWindow, BlackmanWindow and MelWeightMatrix: tables made of a few numbers.

func init() {
	attrs := []AttrDef{intA("output_datatype")}
	window := func(name string, w func(turn float64) float64) *Def {
		return &Def{Name: name, Versions: []int64{17}, Attrs: append(attrs[:1:1], intA("periodic")),
			Tol:    arithmeticTol,
			Inputs: []Param{{Name: "size", Type: "T1"}}, Outputs: []Param{{Name: "output", Type: "T2"}},
			Types: map[string]TypeSet{"T1": Indices, "T2": Numbers}, Check: checkTable, Infer: inferWindow,
			Eval: func(c *Eval) error { return evalWindow(c, w) }}
	}
	register(
		window("HannWindow", func(turn float64) float64 { return 0.5 - 0.5*math.Cos(turn) }),
		window("HammingWindow", func(turn float64) float64 { return 25.0/46 - 21.0/46*math.Cos(turn) }),
		window("BlackmanWindow", func(turn float64) float64 {
			return 0.42 - 0.5*math.Cos(turn) + 0.08*math.Cos(2*turn)
		}),
		&Def{Name: "MelWeightMatrix", Versions: []int64{17}, Attrs: attrs, Tol: Tolerance{Abs: 1e-5},
			Inputs: []Param{formal("num_mel_bins", "T1"), formal("dft_length", "T1"),
				formal("sample_rate", "T1"),
				formal("lower_edge_hertz", "T2"), formal("upper_edge_hertz", "T2")},
			Outputs: []Param{{Name: "output", Type: "T3"}},
			Types:   map[string]TypeSet{"T1": Indices, "T2": Floats, "T3": Numbers},
			Check:   checkTable, Infer: inferMel, Eval: evalMel},
	)
}

// tableType is output_datatype.
func tableType(n *Node) onnxio.DataType { return onnxio.DataType(n.Int("output_datatype", 1)) }

func checkTable(n *Node) error {
	if t := n.Int("output_datatype", 1); t < 0 || t > 63 || !Numbers.Has(onnxio.DataType(t)) {
		return n.Errorf("output_datatype %d is no numeric type", t)
	}
	return nil
}

func inferWindow(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	if err := checkTable(c.Node); err != nil {
		return err
	}
	size, known, err := knownNumber(c, 0)
	if err != nil {
		return err
	}
	shape := []onnxio.Dim{unknownDim}
	if known {
		if size < 0 {
			return c.Node.Errorf("size %d is negative", size)
		}
		shape[0] = knownDim(size)
	}
	c.Set(0, tableType(c.Node), shape)
	return nil
}

// table makes output 0 from float64 elements; the shape is checked against the limit first.
func table(c *Eval, fill func(x []float64) error, dims ...int64) error {
	y, err := c.Alloc(0, tableType(c.Node), dims...)
	if err != nil {
		return err
	}
	wide := onnxio.NewTensor(onnxio.Double, y.Dims...)
	if err := fill(onnxio.Data[float64](wide)); err != nil {
		return err
	}
	return cast(c.Node, y, wide, false)
}

// evalWindow is w(2 pi k/period) for k < size; the period is size, or size-1 where the window is symmetric.
func evalWindow(c *Eval, w func(turn float64) float64) error {
	if err := evalReady(c); err != nil {
		return err
	}
	if err := checkTable(c.Node); err != nil {
		return err
	}
	size, err := oneNumber(c.Node, c.In[0], 0)
	if err != nil {
		return err
	}
	if size < 0 {
		return c.Node.Errorf("size %d is negative", size)
	}
	period := float64(size)
	if c.Node.Int("periodic", 1) == 0 {
		period--
	}
	return table(c, func(x []float64) error {
		for k := range x {
			x[k] = w(2 * math.Pi * float64(k) / period)
		}
		if size == 1 && period == 0 {
			x[0] = 1 // the middle, as torch.hann_window has it
		}
		return nil
	}, size)
}

// melSizes are num_mel_bins and the bins of a spectrum, checked.
func melSizes(n *Node, mel, dft int64) (bands, bins int64, err error) {
	if mel < 1 || mel > 1<<31 || dft < 1 {
		return 0, 0, n.Errorf("%d bands of a transform of length %d", mel, dft)
	}
	return mel, dft/2 + 1, nil
}

func inferMel(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	if err := checkTable(c.Node); err != nil {
		return err
	}
	mel, ok1, err := knownNumber(c, 0)
	if err != nil {
		return err
	}
	dft, ok2, err := knownNumber(c, 1)
	if err != nil {
		return err
	}
	shape := []onnxio.Dim{unknownDim, unknownDim}
	if ok1 && ok2 {
		bands, bins, err := melSizes(c.Node, mel, dft)
		if err != nil {
			return err
		}
		shape = knownDims([]int64{bins, bands})
	}
	c.Set(0, tableType(c.Node), shape)
	return nil
}

// evalMel makes a triangle of height 1 for every band: its corners are the bins of frequencies at equal
// distances on the scale mel(f) = 2595 log10(1+f/700).
func evalMel(c *Eval) error {
	if err := evalReady(c); err != nil {
		return err
	}
	n := c.Node
	if err := checkTable(n); err != nil {
		return err
	}
	var ints [3]int64
	for i := range ints {
		v, err := oneNumber(n, c.In[i], i)
		if err != nil {
			return err
		}
		ints[i] = v
	}
	var edges [2]float64
	for i := range edges {
		wide, err := asFloat64(c, c.In[3+i])
		if err != nil {
			return err
		}
		if wide.Size() != 1 {
			return n.Errorf("%s is not one number", n.InParams()[3+i].Name)
		}
		edges[i] = onnxio.Data[float64](wide)[0]
	}
	bands, bins, err := melSizes(n, ints[0], ints[1])
	if err != nil {
		return err
	}
	if ints[2] < 1 || !(edges[0] >= 0) || !(edges[1] >= edges[0]) {
		return n.Errorf("sample_rate %d, edges %v and %v Hz", ints[2], edges[0], edges[1])
	}
	return table(c, func(x []float64) error { return melTriangles(n, x, bands, bins, ints, edges) },
		bins, bands)
}

func melTriangles(n *Node, x []float64, bands, bins int64, ints [3]int64, edges [2]float64) error {
	mel := func(hertz float64) float64 { return 2595 * math.Log10(1+hertz/700) }
	low := mel(edges[0])
	distance := (mel(edges[1]) - low) / float64(bands+2)
	corner := func(i int64) int64 {
		hertz := 700 * (math.Pow(10, (low+float64(i)*distance)/2595) - 1)
		return int64(math.Floor(float64(ints[1]+1) * hertz / float64(ints[2])))
	}
	if last := corner(bands + 1); last > bins || corner(bands) >= bins {
		return n.Errorf("%v Hz is beyond the spectrum of %d bins at %d Hz", edges[1], bins, ints[2])
	}
	for band := range bands {
		left, center, right := corner(band), corner(band+1), corner(band+2)
		for k := left; k < center; k++ {
			x[k*bands+band] = float64(k-left) / float64(center-left)
		}
		x[center*bands+band] = 1
		for k := center + 1; k < right; k++ {
			x[k*bands+band] = float64(right-k) / float64(right-center)
		}
	}
	return nil
}
