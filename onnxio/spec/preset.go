package spec

import (
	"fmt"
	"strings"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Presets lists the names that Preset knows.
func Presets() []string { return []string{"imagenet", "half", "none"} }

// Preset changes how images are prepared to a way that has a name:
//
//	imagenet  torchvision's for its networks trained on ImageNet: the shorter side to 256, the middle 224x224 (of models of
//	          another size in this proportion), ImageNet's mean and deviation; bicubic for EfficientNet
//	half      values from -1 to 1: mean and deviation 0.5
//	none      values from 0 to 1
func (s *Spec) Preset(name string, m *onnxio.Model) error {
	in := &s.Input
	same := func(mean, std float32) {
		in.Mean, in.Std = make([]float32, in.Channels), make([]float32, in.Channels)
		for c := range in.Channels {
			in.Mean[c], in.Std[c] = mean, std
		}
	}
	switch name {
	case "none":
		same(0, 1)
	case "half":
		same(0.5, 0.5)
	case "imagenet":
		in.Mean, in.Std = []float32{0.485, 0.456, 0.406}, []float32{0.229, 0.224, 0.225}
		if in.Channels == 1 {
			in.Mean, in.Std = []float32{0.449}, []float32{0.226}
		}
		if in.Size == [2]int{} {
			in.Size = [2]int{224, 224}
		}
		in.Shorter = (max(in.Size[0], in.Size[1])*256 + 112) / 224
		in.Resize = "bilinear"
		if arch, _ := m.Property("cnnkit.arch"); strings.HasPrefix(arch, "efficientnet") {
			in.Resize = "bicubic"
		}
	default:
		return fmt.Errorf("no preset %q: known are %s", name, strings.Join(Presets(), ", "))
	}
	return in.complete()
}

// Check completes the input and refuses what makes no sense, as Get does.
func (in *Input) Check() error { return in.complete() }
