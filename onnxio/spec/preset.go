package spec

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Presets lists the names that Preset knows.
func Presets() []string { return []string{"imagenet", "half", "none"} }

// Preset changes how images are prepared to a way that has a name:
//
//	imagenet  that of the published weights of the model's architecture, where they are known (Published); else torchvision's
//	          for most: the shorter side to 256, the middle 224x224, bilinear, ImageNet's mean and deviation
//	half      values from -1 to 1: mean and deviation 0.5
//	none      values from 0 to 1
//
// or the name of weights of the model's architecture, such as IMAGENET1K_V2. A model of another
// size gets it in proportion.
func (s *Spec) Preset(name string, m *onnxio.Model) error {
	in := &s.Input
	same := func(mean, std float32) {
		in.Mean, in.Std = make([]float32, in.Channels), make([]float32, in.Channels)
		for c := range in.Channels {
			in.Mean[c], in.Std[c] = mean, std
		}
	}
	arch, _ := m.Property("cnnkit.arch")
	weights, known := weightsFor(arch, name)
	switch {
	case name == "none":
		same(0, 1)
	case name == "half":
		same(0.5, 0.5)
	case known:
		in.prepareFor(weights)
	case name == "imagenet":
		in.prepareFor(Weights{Size: 224, Shorter: 256, Resize: "bilinear"})
	default:
		return fmt.Errorf("no preset %q: known are %s", name,
			strings.Join(append(Presets(), presetsOf(arch)...), ", "))
	}
	return in.complete()
}

// presetsOf are the names of an architecture's weights.
func presetsOf(arch string) []string {
	var out []string
	if arch != "" {
		for _, w := range Published(arch) {
			out = append(out, w.Name)
		}
	}
	return out
}

// prepareFor makes images as w wants them. Weights without a crop take the image whole.
func (in *Input) prepareFor(w Weights) {
	in.Mean, in.Std = []float32{0.485, 0.456, 0.406}, []float32{0.229, 0.224, 0.225}
	if len(w.Mean) > 0 {
		in.Mean, in.Std = slices.Clone(w.Mean), slices.Clone(w.Std)
	}
	if in.Channels == 1 {
		in.Mean, in.Std = []float32{(in.Mean[0] + in.Mean[1] + in.Mean[2]) / 3},
			[]float32{(in.Std[0] + in.Std[1] + in.Std[2]) / 3}
	}
	in.Resize, in.Shorter = w.Resize, 0
	if w.Size == 0 {
		return
	}
	if in.Size == [2]int{} {
		in.Size = [2]int{w.Size, w.Size}
	}
	in.Shorter = (max(in.Size[0], in.Size[1])*w.Shorter + w.Size/2) / w.Size
}

// Check completes the input and refuses what makes no sense, as Get does.
func (in *Input) Check() error { return in.complete() }
