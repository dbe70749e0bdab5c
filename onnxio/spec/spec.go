// Package spec says what a model means: how an image becomes its input, what its output numbers are, and the
// names of its classes. A graph says none of it. Set stores it in the model's metadata; Get reads it from
// there, and infers from the graph what is not there.
package spec

import (
	"encoding/json"
	"fmt"
	"math"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Spec is what a model means.
type Spec struct {
	Input  Input    `json:"input"`
	Output Output   `json:"output"`
	Labels []string `json:"labels,omitempty"` // of the classes, in their order
	// Inferred lists what Get took from the graph, in words, since the metadata does not say it.
	Inferred []string `json:"inferred,omitempty"`
}

// Input says how an image becomes the input, in torchvision's terms: Resize to Size, or the shorter
// side to Shorter and then CenterCrop to Size; to Channels; ToTensor, which divides by 255;
// Normalize with Mean and Std.
type Input struct {
	Size     [2]int    `json:"size"`     // height, width; 0: as large as the image
	Channels int       `json:"channels"` // 1: gray, 3: RGB
	Mean     []float32 `json:"mean"`     // one a channel
	Std      []float32 `json:"std"`
	// interpolation, always with antialias: bilinear (the default), bicubic, nearest
	Resize  string `json:"resize,omitempty"`
	Shorter int    `json:"shorter,omitempty"` // 0: resize to Size exactly

	Layout string `json:"layout,omitempty"` // NCHW (the default) or NHWC
	Type   string `json:"type,omitempty"`   // float32, float16 or uint8, whose values are bytes; the graph's
	Batch  int    `json:"batch,omitempty"`  // images at a time; 0: any; the graph's
}

// Output says what the numbers of the model's first output are.
type Output struct {
	Task  Task  `json:"task,omitempty"`
	Scale Scale `json:"scale"`
	// Thresholds of task MultiLabel are the probabilities above which an image has a label: one for all or
	// one for each, in their order; nil: 0.5.
	Thresholds []float64 `json:"thresholds,omitempty"`
}

// Task is what a model is asked.
type Task string

// The tasks. An output is [N,C], of masks [N,C,H,W] (one channel: foreground), and of boxes [n,4], with
// scores [n] and labels [n].
const (
	Classes    Task = "classes"
	MultiLabel Task = "multi-label"
	Masks      Task = "mask"
	Number     Task = "number"
	Boxes      Task = "boxes"
)

// Layouts of an input.
const (
	NCHW = "NCHW"
	NHWC = "NHWC"
)

// Keys of the metadata.
const (
	inputKey  = "preprocessing"
	outputKey = "output"
	labelsKey = "labels"
)

// Set stores s in the model's metadata. What the graph says itself, type and batch, is not stored.
func Set(m *onnxio.Model, s Spec) {
	in := s.Input
	in.Type, in.Batch = "", 0
	if in.Layout == NCHW {
		in.Layout = ""
	}
	put := func(key string, v any) {
		text, _ := json.Marshal(v) // numbers were checked, the rest always marshals
		m.SetProperty(key, string(text))
	}
	put(inputKey, in)
	put(outputKey, s.Output)
	if s.Labels != nil {
		put(labelsKey, s.Labels)
	}
}

// Get reads what the metadata says and infers the rest. It fails for a model that takes no images, and for
// metadata that make no sense.
func Get(m *onnxio.Model) (Spec, error) {
	s, err := Infer(m)
	if err != nil {
		return s, err
	}
	inferred := s.Input
	said, err := read(m, inputKey, &s.Input)
	if err != nil {
		return s, err
	}
	if !said {
		s.Inferred = append(s.Inferred, "how images are prepared: taking "+s.Input.values())
	}
	s.Input.Type, s.Input.Batch = inferred.Type, inferred.Batch
	if c := inferred.Channels; s.Input.Channels != c && known(m, s.Input.Layout) {
		return s, bad("%d channels, but the input has %d", s.Input.Channels, c)
	}
	if err := s.Input.complete(); err != nil {
		return s, err
	}
	if said, err = read(m, outputKey, &s.Output); err != nil {
		return s, err
	}
	switch s.Output.Scale {
	case Logits, LogProbabilities, Probabilities:
	default:
		return s, &onnxio.FormatError{Format: "onnx", Where: "metadata output",
			Msg: fmt.Sprintf("scale %q: %s, %s or %s is wanted", s.Output.Scale, Logits, LogProbabilities,
				Probabilities)}
	}
	if len(s.Output.Thresholds) > 0 {
		if err := s.Output.checkThresholds(m); err != nil {
			return s, err
		}
	}
	if !said {
		s.Inferred = append(s.Inferred,
			"the output: "+string(s.Output.Scale)+" of task "+string(s.Output.Task))
	}
	s.Labels = Labels(m)
	return s, nil
}

// Threshold is the probability above which an image has label i.
func (o Output) Threshold(i int) float64 {
	switch {
	case len(o.Thresholds) == 1:
		return o.Thresholds[0]
	case i < len(o.Thresholds):
		return o.Thresholds[i]
	}
	return 0.5
}

// checkThresholds compares the thresholds with the model's output [N,K].
func (o Output) checkThresholds(m *onnxio.Model) error {
	if o.Task != MultiLabel {
		return &onnxio.FormatError{Format: "onnx", Where: "metadata output",
			Msg: fmt.Sprintf("thresholds go with task %s, not with %q", MultiLabel, o.Task)}
	}
	if err := CheckThresholds(o.Thresholds, Width(m)); err != nil {
		return &onnxio.FormatError{Format: "onnx", Where: "metadata output", Msg: err.Error()}
	}
	return nil
}

// Width is the K of a model's first output [N,K]; 0 where it has another rank, or does not say it.
func Width(m *onnxio.Model) int {
	if y := m.Graph.Outputs[0].Type; y != nil && len(y.Shape) == 2 && y.Shape[1].Known() {
		return int(y.Shape[1].Value)
	}
	return 0
}

// CheckThresholds refuses thresholds of k labels (0: any number) that are no probabilities,
// or are neither one nor k.
func CheckThresholds(thresholds []float64, k int) error {
	for _, p := range thresholds {
		if !(p >= 0 && p <= 1) {
			return fmt.Errorf("threshold %v: a probability from 0 to 1 is wanted", p)
		}
	}
	if n := len(thresholds); k > 0 && n > 1 && n != k {
		return fmt.Errorf("%d thresholds of %d labels: one for all or one for each is wanted", n, k)
	}
	return nil
}

// Labels are the names of the classes, nil when the model has none.
func Labels(m *onnxio.Model) []string {
	var out []string
	if _, err := read(m, labelsKey, &out); err != nil {
		return nil
	}
	return out
}

func read(m *onnxio.Model, key string, v any) (bool, error) {
	text, ok := m.Property(key)
	if !ok {
		return false, nil
	}
	if err := json.Unmarshal([]byte(text), v); err != nil {
		return true, &onnxio.FormatError{Format: "onnx", Where: "metadata " + key, Msg: "not valid JSON",
			Err: err}
	}
	return true, nil
}

func bad(format string, args ...any) error {
	return &onnxio.FormatError{Format: "onnx", Where: "metadata " + inputKey,
		Msg: fmt.Sprintf(format, args...)}
}

func (in Input) values() string {
	if in.Type == "uint8" {
		return "bytes"
	}
	return "values from 0 to 1"
}

// maxSide bounds the size that metadata may ask for.
const maxSide = 1 << 14

// complete fills in the neutral mean and deviation and refuses what makes no sense.
func (in *Input) complete() error {
	if in.Channels != 1 && in.Channels != 3 {
		return fmt.Errorf("the model takes images of %d channels; gray (1) and RGB (3) can be made of a file",
			in.Channels)
	}
	if len(in.Mean) == 0 {
		in.Mean = make([]float32, in.Channels)
	}
	if len(in.Std) == 0 {
		in.Std = []float32{1, 1, 1}[:in.Channels]
	}
	if len(in.Mean) != in.Channels || len(in.Std) != in.Channels {
		return bad("mean %v and std %v for %d channels", in.Mean, in.Std, in.Channels)
	}
	for c, s := range in.Std {
		if !(s > 0) || math.IsInf(float64(s), 0) || math.IsNaN(float64(in.Mean[c])) ||
			math.IsInf(float64(in.Mean[c]), 0) {
			return bad("mean %v and std %v: finite numbers, the deviation above 0, are wanted",
				in.Mean, in.Std)
		}
		if in.Type == "uint8" && (in.Mean[c] != 0 || s != 1) {
			return bad("mean %v and std %v, but the model takes bytes, which it normalizes itself",
				in.Mean, in.Std)
		}
	}
	for _, side := range []int{in.Size[0], in.Size[1], in.Shorter} {
		if side < 0 || side > maxSide {
			return bad("sizes %v and %d: up to %d is possible", in.Size, in.Shorter, maxSide)
		}
	}
	switch {
	case in.Shorter > 0 && (in.Shorter < in.Size[0] || in.Shorter < in.Size[1]):
		return bad("a crop of %dx%d from a shorter side of %d", in.Size[0], in.Size[1], in.Shorter)
	case in.Shorter > 0 && (in.Size[0] == 0 || in.Size[1] == 0):
		return bad("a shorter side of %d and no size to crop", in.Shorter)
	case in.Resize != "" && in.Resize != "bilinear" && in.Resize != "bicubic" && in.Resize != "nearest":
		return bad("resize %q: bilinear, bicubic or nearest is wanted", in.Resize)
	case in.Layout != NCHW && in.Layout != NHWC && in.Layout != "":
		return bad("layout %q: %s or %s is wanted", in.Layout, NCHW, NHWC)
	}
	return nil
}

// Normal is the mean and the deviation by which pixels, divided by 255, become inputs: those of in, or of a
// model of bytes those that undo the division.
func (in Input) Normal() (mean, std []float32) {
	if in.Type != "uint8" {
		return in.Mean, in.Std
	}
	mean, std = make([]float32, in.Channels), make([]float32, in.Channels)
	for c := range std {
		std[c] = 1. / 255
	}
	return mean, std
}

// Sized is the height and the width that an image of h x w is resized to, before the crop
// to Size where there is one.
func (in Input) Sized(h, w int) (height, width int) {
	switch {
	case in.Shorter > 0 && w <= h:
		return in.Shorter * h / w, in.Shorter
	case in.Shorter > 0:
		return in.Shorter, in.Shorter * w / h
	}
	height, width = in.Size[0], in.Size[1]
	if height == 0 {
		height = h
	}
	if width == 0 {
		width = w
	}
	return height, width
}
