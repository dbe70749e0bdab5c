package vision_test

import (
	"context"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/spec"
	"github.com/cnnkit/cnnkit/runtime/npy"
	"github.com/cnnkit/cnnkit/runtime/vision"
)

// The golden files are torchvision's (testdata/images/crop.py).
func TestPreparingAsTorchvision(t *testing.T) {
	for _, by := range []string{"bilinear", "bicubic"} {
		want, err := npy.Load(filepath.Join(files, "crop-"+by+".npy"))
		if err != nil {
			t.Fatal(err)
		}
		p := imagenet
		p.Size, p.Shorter, p.Resize = [2]int{32, 32}, 37, by
		got := vision.Input(load(t, "gradient.png"), p)
		if !slices.Equal(got.Dims, want.Dims) {
			t.Fatalf("%s: %v", by, got.Dims)
		}
		for i, v := range got.Float32s() {
			if d := math.Abs(float64(v - want.Float32s()[i])); d > 1e-6 {
				t.Fatalf("%s: number %d is %v, not %v", by, i, v, want.Float32s()[i])
			}
		}
	}
}

// A model of two images at a time, channels last, in half precision, is fed with three images [N,3,1,2].
func TestAdapt(t *testing.T) {
	x := onnxio.NewTensor(onnxio.Float, 3, 3, 1, 2)
	for i := range x.Float32s() {
		x.Float32s()[i] = float32(i)
	}
	var seen [][]int64
	run := func(_ context.Context, x *onnxio.Tensor) (*onnxio.Tensor, error) {
		seen = append(seen, x.Dims)
		if x.Type != onnxio.Float16 {
			t.Errorf("fed %v", x.Type)
		}
		y := &onnxio.Tensor{Type: x.Type, Dims: []int64{2, 6}, Raw: x.Raw}
		return y, nil
	}
	y, err := vision.Adapt(spec.Input{Batch: 2, Layout: spec.NHWC, Type: "float16", Channels: 3},
		run)(t.Context(), x)
	if err != nil {
		t.Fatal(err)
	}
	want := []float32{0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11, 12, 14, 16, 13, 15, 17}
	if !slices.Equal(y.Dims, []int64{3, 6}) || !slices.Equal(y.Float32s(), want) || len(seen) != 2 ||
		!slices.Equal(seen[1], []int64{2, 1, 2, 3}) {
		t.Errorf("%v %v from %v", y.Dims, y.Float32s(), seen)
	}
}

// Every float16 comes back as it was, and a number between two becomes the nearer, or the even one.
func TestHalf(t *testing.T) {
	echo := func(_ context.Context, x *onnxio.Tensor) (*onnxio.Tensor, error) { return x, nil }
	run := vision.Adapt(spec.Input{Type: "float16"}, echo)
	for given, want := range map[float32]float32{0: 0, 1: 1, -2.5: -2.5, 65504: 65504,
		1e6: float32(math.Inf(1)), 1 + 0x1p-11: 1,
		1 + 3*0x1p-11: 1 + 0x1p-9, 0x1p-24: 0x1p-24, 0x1.8p-25: 0x1p-24, 0x1p-25: 0, 0x1p-14: 0x1p-14,
		1 + 0x1.1p-11: 1 + 0x1p-10} {
		y, err := run(t.Context(), onnxio.Floats([]float32{given}, 1, 1, 1, 1))
		if err != nil || y.Float32s()[0] != want {
			t.Errorf("%v became %v, not %v; %v", given, y.Float32s()[0], want, err)
		}
	}
}

// Probabilities become the logits, or the logarithms, that they came from; 0 and 1 stay finite.
func TestScales(t *testing.T) {
	p := onnxio.Floats([]float32{0.25, 0, 1}, 3)
	run := func(context.Context, *onnxio.Tensor) (*onnxio.Tensor, error) { return p, nil }
	y, _ := vision.AsLogits(run, vision.Probabilities)(t.Context(), nil)
	if v := y.Float32s(); math.Abs(float64(v[0])+math.Log(3)) > 1e-6 || math.IsInf(float64(v[1]), 0) ||
		math.IsInf(float64(v[2]), 0) {
		t.Errorf("logits %v", v)
	}
	y, _ = vision.AsLogarithms(run, vision.Probabilities)(t.Context(), nil)
	if v := y.Float32s(); math.Abs(float64(v[0])-math.Log(0.25)) > 1e-6 || math.IsInf(float64(v[1]), 0) ||
		v[2] != 0 {
		t.Errorf("logarithms %v", v)
	}
}
