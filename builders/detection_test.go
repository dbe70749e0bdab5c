package builders_test

import (
	"context"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime"
)

// detections is what testdata/builders/gen_detections.py says of a detector.
type detections struct {
	Size    [2]int             // of the images
	Smaller map[string]float64 // factors of the weights whose names have these parts
	Raised  float64            // what is added to every Step-th number of the Biases
	Step    int
	Biases  []string
	Images  []struct {
		Boxes, Scores []float32
		Labels        []int64
	}
}

// adjust does to weights what gen_detections.py does.
func (d detections) adjust(m *onnxio.Model) {
	for _, t := range stateDict(m) {
		for part, factor := range d.Smaller {
			if strings.Contains(t.Name, part) && len(t.Dims) > 1 {
				for i, v := range t.Float32s() {
					t.Float32s()[i] = float32(float64(v) * factor)
				}
			}
		}
		if slices.Contains(d.Biases, t.Name) {
			for i := 0; i < len(t.Float32s()); i += d.Step {
				t.Float32s()[i] += float32(d.Raised)
			}
		}
	}
}

// Detectors find in noise what torchvision's find: as many boxes, each with its label, in any order, to 1e-4
// of a score of 1 and of the image's longer side.
func TestDetections(t *testing.T) {
	var all map[string]detections
	read(t, "detections.json", &all)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if testing.Short() && name != "ssdlite320_mobilenet_v3_large" &&
			name != "fasterrcnn_mobilenet_v3_large_320_fpn" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			d := all[name]
			m, err := builders.Outline(name, builders.Config{Input: [3]int{3, d.Size[0], d.Size[1]}})
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range m.Graph.Initializers {
				if p.Raw == nil {
					p.Raw = make([]byte, 4*p.Size())
				}
			}
			refill(m, 6)
			d.adjust(m)
			s, err := runtime.OpenModel(m, runtime.WithEngine(runtime.Native))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			for i := range d.Images {
				// the others take seconds an image; make peers asks all
				if i == 0 || builders.Parameters(m) < 2e7 {
					d.compare(t, s, i)
				}
			}
		})
	}
}

// compare holds what the session finds in image i against what torchvision does.
func (d detections) compare(t *testing.T, s runtime.Session, i int) {
	t.Helper()
	h, w, want := d.Size[0], d.Size[1], d.Images[i]
	x := onnxio.NewTensor(onnxio.Float, 1, 3, int64(h), int64(w))
	uniform(x.Float32s(), uint64(1000+i), func(u float64) float64 { return (u + 1) / 2 })
	out, err := s.Run(context.Background(), map[string]*onnxio.Tensor{"input": x})
	if err != nil {
		t.Fatal(err)
	}
	boxes, scores, labels := out["boxes"].Float32s(), out["scores"].Float32s(),
		onnxio.Data[int64](out["labels"])
	if len(labels) != len(want.Labels) || len(scores) != len(labels) || len(boxes) != 4*len(labels) {
		t.Fatalf("image %d: %d boxes %v, want %d", i, len(labels), out["boxes"].Dims, len(want.Labels))
	}
	side, worst, taken := float64(max(h, w)), 0., map[int]bool{}
	for j, label := range want.Labels {
		nearest, at := math.Inf(1), -1
		for k := range labels {
			if taken[k] || labels[k] != label {
				continue
			}
			apart := math.Abs(float64(scores[k] - want.Scores[j]))
			for c := range 4 {
				apart = max(apart, math.Abs(float64(boxes[4*k+c]-want.Boxes[4*j+c]))/side)
			}
			if apart < nearest {
				nearest, at = apart, k
			}
		}
		worst, taken[at] = max(worst, nearest), true
	}
	t.Logf("image %d: %d boxes, largest difference %.1e", i, len(labels), worst)
	if !(worst <= 1e-4) {
		t.Errorf("image %d: differs by %.2g", i, worst)
	}
}
