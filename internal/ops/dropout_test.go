package ops

import (
	"bytes"
	"math"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// TestDropoutTraining: the share of dropped elements is the ratio, the others are scaled by 1/(1-ratio), the
// mask says which, and the same seed drops the same.
func TestDropoutTraining(t *testing.T) {
	const n = 100000
	x := onnxio.NewTensor(onnxio.Float, n)
	for i := range x.Float32s() {
		x.Float32s()[i] = 3
	}
	run := func(seed uint64, output string, ratio float32) (y, mask *onnxio.Tensor) {
		t.Helper()
		node, err := Bind(&onnxio.Node{OpType: "Dropout", Inputs: []string{"x", "r", "t"},
			Outputs: []string{output, "mask"}}, 17)
		if err != nil {
			t.Fatal(err)
		}
		c := &Eval{Node: node, Seed: seed, In: []*onnxio.Tensor{x, onnxio.Scalar(onnxio.Float, ratio),
			onnxio.Scalar(onnxio.Bool, true)}}
		if err := node.Def.Eval(c); err != nil {
			t.Fatal(err)
		}
		return c.Out[0], c.Out[1]
	}
	for _, ratio := range []float32{0, 0.25, 0.5, 0.9} {
		y, mask := run(1, "y", ratio)
		kept := 0
		for i, k := range onnxio.Data[bool](mask) {
			want := float32(0)
			if k {
				kept++
				want = float32(3 * (1 / (1 - float64(ratio))))
			}
			if y.Float32s()[i] != want {
				t.Fatalf("ratio %v: element %d is %v, mask %v", ratio, i, y.Float32s()[i], k)
			}
		}
		// Five standard deviations of a binomial share.
		p := 1 - float64(ratio)
		if share, tol := float64(kept)/n, 5*math.Sqrt(p*(1-p)/n); math.Abs(share-p) > tol+1e-6 {
			t.Errorf("ratio %v keeps %v", ratio, share)
		}
	}
	_, a := run(1, "y", 0.5)
	_, again := run(1, "y", 0.5)
	_, seed := run(2, "y", 0.5)
	_, node := run(1, "z", 0.5)
	if !bytes.Equal(a.Raw, again.Raw) {
		t.Error("the same seed drops other elements")
	}
	for what, other := range map[string]*onnxio.Tensor{"seeds": seed, "nodes": node} {
		same := 0
		for i, k := range onnxio.Data[bool](a) {
			if k == onnxio.Data[bool](other)[i] {
				same++
			}
		}
		if share := float64(same) / n; math.Abs(share-0.5) > 5*0.5/math.Sqrt(n) {
			t.Errorf("two %v agree on %v of the elements", what, share)
		}
	}
}

// TestDropoutBadRatio: a ratio outside [0,1) in training is an error.
func TestDropoutBadRatio(t *testing.T) {
	node, err := Bind(&onnxio.Node{OpType: "Dropout", Inputs: []string{"x", "r", "t"},
		Outputs: []string{"y"}}, 17)
	if err != nil {
		t.Fatal(err)
	}
	for _, ratio := range []float32{-0.1, 1, float32(math.NaN())} {
		c := &Eval{Node: node, In: []*onnxio.Tensor{onnxio.Floats([]float32{1}),
			onnxio.Scalar(onnxio.Float, ratio), onnxio.Scalar(onnxio.Bool, true)}}
		if node.Def.Eval(c) == nil {
			t.Errorf("ratio %v was taken", ratio)
		}
	}
}
