package vision

import (
	"context"
	"math"
	"slices"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Each view of a small image, spelled out, with its weight.
func TestViews(t *testing.T) {
	x := onnxio.Floats([]float32{1, 2, 3, 4, 5, 6, 7, 8, 9}, 1, 1, 3, 3)
	var seen [][]float32
	record := func(_ context.Context, x *onnxio.Tensor) (*onnxio.Tensor, error) {
		seen = append(seen, slices.Clone(x.Float32s()))
		y := onnxio.NewTensor(onnxio.Float, 1, 8)
		y.Float32s()[len(seen)-1] = 1
		return y, nil
	}
	run, err := Augmented(record, []string{"mirror", "shift"}, false)
	if err != nil {
		t.Fatal(err)
	}
	y, err := run(t.Context(), x)
	if err != nil {
		t.Fatal(err)
	}
	for view, weight := range map[[9]float32]float32{
		{1, 2, 3, 4, 5, 6, 7, 8, 9}:     0.25,  // as it is
		{3, 2, 1, 6, 5, 4, 9, 8, 7}:     0.25,  // mirrored
		{5, 4, 5, 2, 1, 2, 5, 4, 5}:     0.125, // down and right
		{5, 4, 5, 2, 1, 2, 5, 4, 5 + 1}: 0,
		{5, 6, 5, 8, 9, 8, 5, 6, 5}:     0.125, // up and left
	} {
		got := float32(0)
		for i, s := range seen {
			if slices.Equal(s, view[:]) {
				got += y.Float32s()[i]
			}
		}
		want := weight
		if weight == 0.125 { // these two are their own mirror images
			want = 0.25
		}
		if got != want {
			t.Errorf("view %v weighs %v, want %v", view, got, want)
		}
	}
	if len(seen) != 6 {
		t.Errorf("%d views, want 6: %v", len(seen), seen)
	}
	if !slices.Equal(x.Float32s(), []float32{1, 2, 3, 4, 5, 6, 7, 8, 9}) {
		t.Errorf("the images were changed: %v", x.Float32s())
	}
}

// The mirror image of a moved image is taken after the move: the two do not commute.
func TestMirrorOfMoved(t *testing.T) {
	x := onnxio.Floats([]float32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, 1, 1, 3, 4)
	got := view{mirror: true, by: 1}.of(x).Float32s()
	if want := []float32{7, 6, 5, 6, 3, 2, 1, 2, 7, 6, 5, 6}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	one := onnxio.Floats([]float32{7}, 1, 1, 1, 1)
	if got := (view{by: -1}).of(one).Float32s(); got[0] != 7 {
		t.Errorf("an image of one pixel: %v", got)
	}
}

// Averaged log-probabilities are those of a distribution.
func TestViewsOfLogProbabilities(t *testing.T) {
	calls := 0
	run, err := Augmented(func(_ context.Context, x *onnxio.Tensor) (*onnxio.Tensor, error) {
		calls++
		p := []float64{0.9, 0.1}
		if calls == 2 {
			p = []float64{0.2, 0.8}
		}
		return onnxio.Floats([]float32{float32(math.Log(p[0])), float32(math.Log(p[1]))}, 1, 2), nil
	}, []string{"mirror"}, true)
	if err != nil {
		t.Fatal(err)
	}
	y, err := run(t.Context(), onnxio.NewTensor(onnxio.Float, 1, 3, 4, 4))
	if err != nil {
		t.Fatal(err)
	}
	a, b := math.Sqrt(0.9*0.2), math.Sqrt(0.1*0.8)
	if got := math.Exp(float64(y.Float32s()[0])); math.Abs(got-a/(a+b)) > 1e-6 {
		t.Errorf("probability %v, want %v", got, a/(a+b))
	}
}

// Unknown and doubled views are refused, and so are outputs that are maps.
func TestViewsRefuse(t *testing.T) {
	for _, names := range [][]string{{"turn"}, {"mirror", "mirror"}, {""}} {
		if _, err := Augmented(nil, names, false); err == nil {
			t.Errorf("%q: no error", names)
		}
	}
	run, err := Augmented(func(_ context.Context, x *onnxio.Tensor) (*onnxio.Tensor, error) { return x, nil },
		[]string{"mirror"}, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := run(t.Context(), onnxio.NewTensor(onnxio.Float, 1, 3, 4, 4)); err == nil {
		t.Error("maps: no error")
	}
}
