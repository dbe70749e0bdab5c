package spec

import (
	"fmt"
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Infer is what the graph alone says: the input's layout, type, batch and size, what the output's shape makes
// likely, and its scale. Inputs are values from 0 to 1, or bytes where the type is uint8.
func Infer(m *onnxio.Model) (Spec, error) {
	var s Spec
	in, err := image(m)
	if err != nil {
		return s, err
	}
	shape := in.Type.Shape
	s.Input = Input{Type: types[in.Type.Elem], Layout: NCHW, Channels: 3, Batch: number(shape[0], 1<<20)}
	first, last := number(shape[1], maxSide), number(shape[3], maxSide)
	if !isColor(first) && isColor(last) {
		s.Input.Layout = NHWC
	}
	s.Input.Size = [2]int{number(shape[2], maxSide), last}
	c := first
	if s.Input.Layout == NHWC {
		s.Input.Size, c = [2]int{first, number(shape[2], maxSide)}, last
	}
	if c != 0 {
		s.Input.Channels = c
	}
	end := End(m)
	s.Output = Output{Scale: end.Scale, Task: task(m, end)}
	return s, nil
}

var types = map[onnxio.DataType]string{onnxio.Float: "float32", onnxio.Float16: "float16",
	onnxio.Uint8: "uint8"}

func isColor(channels int) bool { return channels == 1 || channels == 3 }

// known says that the graph says how many channels there are.
func known(m *onnxio.Model, layout string) bool {
	in, err := image(m)
	if err != nil {
		return false
	}
	if layout == NHWC {
		return number(in.Type.Shape[3], maxSide) != 0
	}
	return number(in.Type.Shape[1], maxSide) != 0
}

// number is a known dimension up to a limit, else 0.
func number(d onnxio.Dim, limit int64) int {
	if d.Known() && d.Value > 0 && d.Value <= limit {
		return int(d.Value)
	}
	return 0
}

// image is the model's one input, which must be able to take images.
func image(m *onnxio.Model) (*onnxio.ValueInfo, error) {
	if m.Graph == nil {
		return nil, fmt.Errorf("the model has no graph")
	}
	weights := map[string]bool{}
	for _, t := range m.Graph.Initializers {
		weights[t.Name] = true
	}
	var in *onnxio.ValueInfo
	for _, v := range m.Graph.Inputs {
		if weights[v.Name] {
			continue
		}
		if in != nil {
			return nil, fmt.Errorf("the model takes more than one input (%q, %q, ...), so it takes no images",
				in.Name, v.Name)
		}
		in = v
	}
	if in == nil || in.Type == nil || types[in.Type.Elem] == "" || len(in.Type.Shape) != 4 {
		return nil, fmt.Errorf(
			"the model's input is no image: float32, float16 or uint8 [N,C,H,W] or [N,H,W,C] is wanted")
	}
	return in, nil
}

// task is what the shape and the end of the output make likely.
func task(m *onnxio.Model, end Ending) Task {
	if len(m.Graph.Outputs) == 0 || m.Graph.Outputs[0].Type == nil {
		return ""
	}
	shape := m.Graph.Outputs[0].Type.Shape
	one := func(i int) bool { return number(shape[i], 1<<20) == 1 }
	switch {
	case givesBoxes(m.Graph):
		return Boxes
	case len(shape) == 4 && !(one(2) && one(3)):
		return Masks
	case len(shape) != 2 && len(shape) != 4:
		return ""
	case one(1) && end.Op == "":
		return Number
	case end.Op == "Sigmoid" && !one(1):
		return MultiLabel
	}
	return Classes
}

// givesBoxes says that the outputs are called what detectors call theirs, the first being [n,4].
func givesBoxes(g *onnxio.Graph) bool {
	shape := g.Outputs[0].Type.Shape
	if len(shape) != 2 || number(shape[1], 4) != 4 || g.Outputs[0].Name != "boxes" {
		return false
	}
	has := func(name string) bool {
		return slices.ContainsFunc(g.Outputs, func(o *onnxio.ValueInfo) bool { return o.Name == name })
	}
	return has("scores") && has("labels")
}
