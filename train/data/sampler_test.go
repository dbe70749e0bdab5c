package data

import (
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/train/data/transforms"
)

// Draws are binomial, as torch.multinomial's with replacement: each sample's number lies within
// five deviations of its share.
func TestSamplerDrawsInProportion(t *testing.T) {
	weights := []float64{3, 0, 1, 0.25, 5, 0}
	s, err := NewSampler(weights)
	if err != nil {
		t.Fatal(err)
	}
	const n = 200_000
	drawn := s.Draw(n, 7, 3)
	if len(drawn) != n {
		t.Fatalf("%d draws of %d", len(drawn), n)
	}
	counts := make([]float64, len(weights))
	for _, i := range drawn {
		counts[i]++
	}
	for i, w := range weights {
		p := w / 9.25
		if d := math.Abs(counts[i] - n*p); d > 5*math.Sqrt(n*p*(1-p)) {
			t.Errorf("sample %d of weight %v was drawn %v times of %v", i, w, counts[i], n*p)
		}
	}
	if !slices.Equal(drawn, s.Draw(n, 7, 3)) {
		t.Error("the same seed and epoch draw other samples")
	}
	for _, other := range [][]int{s.Draw(n, 8, 3), s.Draw(n, 7, 4)} {
		if slices.Equal(drawn, other) {
			t.Error("another seed or epoch draws the same samples")
		}
	}
}

func TestSamplerRefuses(t *testing.T) {
	for says, weights := range map[string][]float64{
		"above 0":     {0, 0},
		"sample 1":    {1, -1},
		"sample 2":    {1, 2, math.NaN()},
		"sample 0":    {math.Inf(1)},
		"not finite":  {math.MaxFloat64, math.MaxFloat64},
		"nothing to ": {},
	} {
		if _, err := NewSampler(weights); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v: %v", weights, err)
		}
	}
}

// nineToOne has 90 images of one class and 10 of another.
func nineToOne(t *testing.T) *Images {
	t.Helper()
	labels := make([]uint8, 100)
	for i := range 10 {
		labels[10*i+3] = 1
	}
	d, err := NewImages([3]int{1, 2, 2}, make([]uint8, 400), labels, []string{"often", "seldom"},
		[]float32{0}, []float32{1})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Of 9:1 classes balanced weights make even draws: within five deviations of half.
func TestBalancedWeights(t *testing.T) {
	d := nineToOne(t)
	weights, err := BalancedWeights(Subset{Dataset: d, Indices: Sequence(80)})
	if err != nil || len(weights) != 80 {
		t.Fatal(len(weights), err)
	}
	s, err := NewSampler(weights)
	if err != nil {
		t.Fatal(err)
	}
	seldom := 0
	for _, i := range s.Draw(10_000, 1, 1) {
		seldom += d.Label(i)
	}
	if math.Abs(float64(seldom)-5000) > 250 {
		t.Errorf("the class of 8 in 80 was drawn %d times of 10000", seldom)
	}
	d.Masks = make([]uint8, 400)
	if _, err := BalancedWeights(d); err == nil {
		t.Error("masks have no balanced weights")
	}
}

// record writes down the random numbers that a sample's transform gets.
type record struct{ seen chan [2]uint64 }

func (r record) Apply(s *transforms.Sample, random *rand.Rand) error {
	r.seen <- [2]uint64{s.Key, random.Uint64()}
	return nil
}

// An epoch of a loader has as many samples as are asked for, in the sampler's order, and a sample that comes
// twice is augmented in two ways.
func TestLoaderSampler(t *testing.T) {
	d := nineToOne(t)
	weights := make([]float64, d.Len())
	weights[4], weights[50] = 1, 3
	s, err := NewSampler(weights)
	if err != nil {
		t.Fatal(err)
	}
	for _, workers := range []int{1, 4} {
		seen := make(chan [2]uint64, 1000)
		l, err := NewLoader(d, LoaderConfig{Batch: 16, Workers: workers, Seed: 5, Sampler: s, Draws: 250,
			Transforms: transforms.Compose{record{seen}}})
		if err != nil {
			t.Fatal(err)
		}
		if l.Steps() != 16 {
			t.Errorf("%d steps of 250 images in batches of 16", l.Steps())
		}
		var got []int
		for b, err := range l.Epoch(t.Context(), 2, 0) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, b.Indices...)
		}
		if !slices.Equal(got, s.Draw(250, 5, 2)) {
			t.Error("the loader's order is not the sampler's")
		}
		close(seen)
		ways := map[[2]uint64]bool{}
		keys := map[uint64]bool{}
		for w := range seen {
			ways[w], keys[w[0]] = true, true
		}
		if len(ways) != 250 || len(keys) != 2 {
			t.Errorf("250 draws of 2 samples had %d keys and were augmented in %d ways", len(keys), len(ways))
		}
	}
	for says, cfg := range map[string]LoaderConfig{"a sampler": {Batch: 1, Draws: 3},
		"a sampler of 100": {Batch: 1, Sampler: s}} {
		if _, err := NewLoader(Subset{Dataset: d, Indices: Sequence(9)}, cfg); err == nil ||
			!strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
}

// Weights go through subsets, other views and memory, and belong to what a checkpoint compares.
func TestWeightsOfDataSets(t *testing.T) {
	d := nineToOne(t)
	if Weights(d) != nil {
		t.Error("weights from nowhere")
	}
	weights := make([]float64, d.Len())
	for i := range weights {
		weights[i] = float64(i)
	}
	w, err := WithWeights(d, weights)
	if err != nil {
		t.Fatal(err)
	}
	sub := Subset{Dataset: w, Indices: []int{7, 3}}
	src, err := SourceOf(sub)
	if err != nil {
		t.Fatal(err)
	}
	for _, ds := range []Dataset{sub, &sub, src, sized{src, src.Shape()}} {
		if got := Weights(ds); !slices.Equal(got, []float64{7, 3}) {
			t.Errorf("%T: %v", ds, got)
		}
	}
	if in, err := InMemory(t.Context(), sub, 1); err != nil || !slices.Equal(Weights(in), []float64{7, 3}) {
		t.Errorf("in memory: %v, %v", Weights(in), err)
	}
	a, _ := Digest(w)
	b, _ := Digest(d)
	weights[9] = 1
	c, _ := Digest(w)
	if a == b || a == c || a == "" {
		t.Errorf("digests %q, without weights %q, with others %q", a, b, c)
	}
	if _, err := WithWeights(d, weights[:3]); err == nil {
		t.Error("three weights of a hundred samples")
	}
	weights[3] = -1
	if _, err := WithWeights(d, weights); err == nil || !strings.Contains(err.Error(), "image 3") {
		t.Error(err)
	}
}

// A column of weights is no target, and its numbers are checked.
func TestCSVWeights(t *testing.T) {
	read := func(text string, task Task, column string) (table, error) {
		return readCSV(strings.NewReader(text), filepath.Join("set", "table.csv"), task, column)
	}
	for _, c := range []struct {
		task    Task
		text    string
		classes []string
	}{
		{Classification, "path,label,Weight\na.png,x,0.5\nb.png,y,2\n", []string{"x", "y"}},
		{Regression, "path;Weight;size\na.png;0.5;3\nb.png;2;4\n", []string{"size"}},
		{MultiLabel, "Weight,path,x,y\n0.5,a.png,1,0\n2,b.png,0,1\n", []string{"x", "y"}},
	} {
		got, err := read(c.text, c.task, "weight")
		if err != nil || got.train[0].Weight != 0.5 || got.train[1].Weight != 2 ||
			!slices.Equal(got.classes, c.classes) {
			t.Errorf("%s: %+v, %v", c.task, got, err)
		}
	}
	for says, text := range map[string]string{
		`column "weight": "-1"`:  "path,label,weight\na.png,x,-1\nb.png,y,2\n",
		`column "weight": "NaN"`: "path,label,weight\na.png,x,NaN\nb.png,y,2\n",
		`called "weight"`:        "path,label\na.png,x\nb.png,y\n",
	} {
		if _, err := read(text, Classification, "weight"); err == nil ||
			!strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
	if _, err := read("path,label\na.png,x\n", Classification, "label"); err == nil {
		t.Error("the labels taken for weights")
	}
	if _, err := OpenWith("mnist", Options{WeightColumn: "w"}); err == nil ||
		!strings.Contains(err.Error(), "csv:FILE") {
		t.Error(err)
	}
}
