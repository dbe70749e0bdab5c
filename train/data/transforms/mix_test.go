package transforms

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// batch is three samples of 2x3x4, the values of sample n being n+1, with labels 0, 2, 1.
func batch(t *testing.T) (x, y *onnxio.Tensor) {
	x, y = onnxio.NewTensor(onnxio.Float, 3, 2, 3, 4), onnxio.NewTensor(onnxio.Float, 3, 3)
	for i := range x.Float32s() {
		x.Float32s()[i] = float32(1 + i/24)
	}
	if err := OneHot(y, onnxio.FromSlice(onnxio.Int64, []int64{0, 2, 1})); err != nil {
		t.Fatal(err)
	}
	return x, y
}

// Each sample keeps a share of itself and gets the rest from the one before it, as its target does.
func TestMixUp(t *testing.T) {
	labels, before := []int{0, 2, 1}, []int{1, 0, 2}
	mean := 0.0
	const n = 5000
	for i := range n {
		x, y := batch(t)
		if err := (MixUp{Alpha: 0.4, P: 1}).ApplyBatch(x, y, NewRand(0, 0, i)); err != nil {
			t.Fatal(err)
		}
		own := y.Float32s()[labels[0]]
		mean += float64(own) / n
		for s := range 3 {
			target := y.Float32s()[3*s:][:3]
			for c, v := range target {
				want := float32(0)
				if c == labels[s] {
					want = own
				} else if c == before[s] {
					want = 1 - own
				}
				if v != want {
					t.Fatalf("target %v of sample %d, share %v", target, s, own)
				}
			}
			want := float32(s+1)*own + float32((s+2)%3+1)*(1-own)
			for _, v := range x.Float32s()[24*s:][:24] {
				if math.Abs(float64(v-want)) > 1e-6 {
					t.Fatalf("sample %d: %v, want %v", s, v, want)
				}
			}
		}
	}
	if math.Abs(mean-0.5) > 0.03 {
		t.Error("the mean share is", mean)
	}
}

// The target's share is the area's that is left.
func TestCutMix(t *testing.T) {
	whole, cut := 0, 0
	for i := range 2000 {
		x, y := batch(t)
		if err := (CutMix{P: 1}).ApplyBatch(x, y, NewRand(1, 0, i)); err != nil {
			t.Fatal(err)
		}
		for s := range 3 {
			foreign := 0
			for _, v := range x.Float32s()[24*s:][:24] {
				switch v {
				case float32(s + 1):
				case float32((s+2)%3 + 1):
					foreign++
				default:
					t.Fatalf("sample %d holds %v", s, v)
				}
			}
			own := y.Float32s()[3*s+[]int{0, 2, 1}[s]]
			if math.Abs(float64(own)-(1-float64(foreign)/24)) > 1e-6 || foreign%2 != 0 {
				t.Fatalf("%d of 24 values are foreign, the share is %v", foreign, own)
			}
			if foreign == 0 {
				whole++
			} else {
				cut++
			}
		}
	}
	if cut < 1500 || whole == 0 {
		t.Errorf("%d whole, %d cut", whole, cut)
	}
}

// Beta(a, a) has mean 1/2 and variance 1/(8a+4), also where its gammas vanish.
func TestBeta(t *testing.T) {
	for _, a := range []float64{0.001, 0.05, 0.2, 1, 3, 100} {
		r := rand.New(rand.NewPCG(7, 7))
		const n = 50000
		sum, squares := 0.0, 0.0
		for range n {
			v := beta(r, a)
			if !(v >= 0 && v <= 1) {
				t.Fatalf("Beta(%g) gives %v", a, v)
			}
			sum, squares = sum+v, squares+(v-0.5)*(v-0.5)
		}
		variance := 1 / (8*a + 4)
		if math.Abs(sum/n-0.5) > 5*math.Sqrt(variance/n) || math.Abs(squares/n/variance-1) > 0.04 {
			t.Errorf("Beta(%g): mean %v, variance %v, want 0.5 and %v", a, sum/n, squares/n, variance)
		}
	}
}

func TestMixErrors(t *testing.T) {
	x, y := batch(t)
	r := NewRand(0, 0, 0)
	for name, err := range map[string]error{
		"alpha":   MixUp{Alpha: -1, P: 1}.ApplyBatch(x, y, r),
		"p":       CutMix{P: 1.5}.ApplyBatch(x, y, r),
		"labels":  MixUp{P: 1}.ApplyBatch(x, onnxio.NewTensor(onnxio.Int64, 3), r),
		"size":    CutMix{P: 1}.ApplyBatch(x, onnxio.NewTensor(onnxio.Float, 2, 3), r),
		"pixels":  CutMix{P: 1}.ApplyBatch(onnxio.NewTensor(onnxio.Float, 3, 1, 0, 4), y, r),
		"one-hot": OneHot(y, onnxio.FromSlice(onnxio.Int64, []int64{0, 3, 1})),
		"shape":   OneHot(y, onnxio.FromSlice(onnxio.Int64, []int64{0, 1})),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	before := slices.Clone(x.Float32s())
	if err := (BatchCompose{MixUp{P: 0}, CutMix{P: 0}}).ApplyBatch(x, y, r); err != nil ||
		!slices.Equal(before, x.Float32s()) {
		t.Error("p 0 mixes", err)
	}
	empty, none := onnxio.NewTensor(onnxio.Float, 0, 1, 2, 2), onnxio.NewTensor(onnxio.Float, 0, 3)
	if err := (BatchCompose{MixUp{P: 1}, CutMix{P: 1}}).ApplyBatch(empty, none, r); err != nil {
		t.Error("an empty batch:", err)
	}
}
