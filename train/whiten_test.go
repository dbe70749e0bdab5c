package train

import (
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/train/data"
)

// waves is a set of images whose neighboring pixels are alike.
func waves(t *testing.T, n, side int) data.Dataset {
	t.Helper()
	r := rand.New(rand.NewPCG(3, 4))
	px := make([]uint8, n*3*side*side)
	for i := range px {
		px[i] = uint8(128 + 40*math.Sin(float64(i)/9) + 30*r.Float64())
	}
	ds, err := data.NewImages([3]int{3, side, side}, px, make([]uint8, n), []string{"a", "b"},
		[]float32{0.5, 0.4, 0.5}, []float32{0.25, 0.2, 0.25})
	if err != nil {
		t.Fatal(err)
	}
	return ds
}

// What the first filters make of the patches is white: their second moments are the identity's, but for eps.
func TestWhiten(t *testing.T) {
	m, err := builders.Build("airbench", builders.Config{Width: 16})
	if err != nil {
		t.Fatal(err)
	}
	before := m.Graph.Initializer("whiten.weight")
	was := slices.Clone(before.Float32s())
	ds := waves(t, 20, 32)
	if err := whitenModel(m, ds, 12); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(before.Float32s(), was) {
		t.Error("the tensor that others may share was written to")
	}
	w := m.Graph.Initializer("whiten.weight").Float32s()
	const d = 12
	moments, err := patchMoments(ds, 12, 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 * d {
		for j := range 2 * d {
			sum := 0.0
			for a := range d {
				for b := range d {
					sum += float64(w[i*d+a]) * moments[a][b] * float64(w[j*d+b])
				}
			}
			want := 0.0
			if i%d == j%d {
				size := 0.0 // 1/(eigenvalue+eps)
				for a := range d {
					size += float64(w[i*d+a]) * float64(w[i*d+a])
				}
				want = 1 - whitenEps*size
				if i != j {
					want = -want
				}
			}
			if math.Abs(sum-want) > 1e-4 {
				t.Errorf("filters %d and %d: %v, want %v", i, j, sum, want)
			}
		}
	}
}

// Jacobi's method on a random symmetric matrix: A v = l v, in rising order, of unit length.
func TestEigen(t *testing.T) {
	const n = 17
	r := rand.New(rand.NewPCG(1, 2))
	a := make([][]float64, n)
	for i := range a {
		a[i] = make([]float64, n)
		for j := range i + 1 {
			a[i][j] = r.NormFloat64()
			a[j][i] = a[i][j]
		}
	}
	was := make([][]float64, n)
	for i := range a {
		was[i] = slices.Clone(a[i])
	}
	values, v := eigen(a)
	if !slices.IsSorted(values) {
		t.Errorf("%v is not in order", values)
	}
	for k, l := range values {
		length := 0.0
		for i := range n {
			sum := 0.0
			for j := range n {
				sum += was[i][j] * v[j][k]
			}
			if math.Abs(sum-l*v[i][k]) > 1e-10 {
				t.Errorf("eigenvector %d, row %d: %v, want %v", k, i, sum, l*v[i][k])
			}
			length += v[i][k] * v[i][k]
		}
		if math.Abs(length-1) > 1e-12 {
			t.Errorf("eigenvector %d has length %v", k, length)
		}
	}
}

// Networks and images that cannot be whitened are refused.
func TestWhitenRefuses(t *testing.T) {
	for name, cfg := range map[string]builders.Config{"resnet9": {Width: 8}, "vit_b_16": {}} {
		m, err := builders.Outline(name, cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := whitenModel(m, waves(t, 2, 32), 2); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := NewTrainer(&onnxio.Model{Graph: &onnxio.Graph{}}, Config{Whiten: 5}); err == nil {
		t.Error("a Trainer whitens: no error")
	}
}

// airbenchRecipe has what the recipe airbench-cifar10 has, for a small set.
func airbenchRecipe(t *testing.T) Recipe {
	t.Helper()
	fields := Fields{"model": "airbench", "epochs": 3, "batch": 8, "loss": "cross-entropy", "whiten": 16,
		"optimizer": "muon", "lr": 0.1, "momentum": 0.6,
		"unit_norm": true, "ns_steps": 3, "schedule": map[string]any{"kind": "polynomial", "by": "step"},
		"groups": []any{map[string]any{"params": "whiten.weight", "freeze": true},
			map[string]any{"params": "whiten.bias", "optimizer": "sgd", "epochs": 1},
			map[string]any{"params": "norm", "optimizer": "sgd"}, map[string]any{"params": "head.weight",
				"optimizer": "sgd"}},
		"augment": []any{map[string]any{"name": "AlternatingFlip"}}}
	recipe, err := fields.Recipe("airbench")
	if err != nil {
		t.Fatal(err)
	}
	return recipe
}

// Frozen parameters stay: the first filters as they were whitened, the bias of a
// group from its last epoch on.
func TestAirbenchRecipe(t *testing.T) {
	recipe := airbenchRecipe(t)
	m, err := builders.Build("airbench", builders.Config{Width: 8, Classes: 2})
	if err != nil {
		t.Fatal(err)
	}
	ds := waves(t, 24, 32)
	white := withOwnInitializers(m)
	if err := whitenModel(white, ds, 16); err != nil {
		t.Fatal(err)
	}
	get := func(m *onnxio.Model, name string) []float32 {
		return slices.Clone(m.Graph.Initializer(name).Float32s())
	}
	var biases [][]float32
	obs := Observer{OnEpoch: func(at Moment) error {
		now, err := at.Trainer.Export()
		if err == nil {
			if slices.Contains(at.Trainer.Params(), "whiten.bias") != (at.Epoch == 1) {
				t.Errorf("epoch %d trains %v", at.Epoch, at.Trainer.Params())
			}
			biases = append(biases, get(now, "whiten.bias"))
			if !slices.Equal(get(now, "whiten.weight"), get(white, "whiten.weight")) {
				t.Errorf("epoch %d: the frozen filters have changed", at.Epoch)
			}
			if w := get(now, "layers.1.norm1.weight"); slices.Max(w) != 1 || slices.Min(w) != 1 {
				t.Errorf("epoch %d: a scale of 1 is %v", at.Epoch, w)
			}
		}
		return err
	}}
	if _, err := recipe.Run(t.Context(), m, data.Splits{Name: "smooth", Train: ds, Validation: ds,
		Mean: []float32{0.5, 0.4, 0.5}, Std: []float32{0.25, 0.2, 0.25}}, "", obs); err != nil {
		t.Fatal(err)
	}
	if start := make([]float32, 24); slices.Equal(biases[0], start) || !slices.Equal(biases[0], biases[1]) ||
		!slices.Equal(biases[0], biases[2]) {
		t.Errorf("the bias of the first epoch alone: %v", biases)
	}
}

// A run that is resumed behind the last epoch of a group, or before it, ends with the
// same weights to the bit.
func TestAirbenchResumes(t *testing.T) {
	ds := waves(t, 24, 32)
	splits := data.Splits{Name: "waves", Train: ds, Validation: ds, Mean: []float32{0.5, 0.4, 0.5},
		Std: []float32{0.25, 0.2, 0.25}}
	recipe := airbenchRecipe(t)
	recipe.Keep = 3
	m, err := builders.Build("airbench", builders.Config{Width: 8, Classes: 2})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := recipe.Run(t.Context(), m, splits, dir, Observer{}); err != nil {
		t.Fatal(err)
	}
	for epoch := range 2 {
		_, file := EpochFiles(epoch + 1)
		from, err := LoadCheckpoint(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		r, err := recipe.Resume(t.Context(), from, splits, "", Observer{})
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range m.Graph.Initializers {
			if got := r.Model.Graph.Initializer(w.Name); !slices.Equal(got.Raw, w.Raw) {
				t.Errorf("from epoch %d: %q differs", epoch+1, w.Name)
			}
		}
	}
}
