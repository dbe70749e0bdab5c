package builders

import (
	"encoding/json"
	"fmt"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/spec"
)

// A model file carries what is needed to predict with it: class labels and how an image becomes the input.

// Preprocessing says how an image becomes the input.
type Preprocessing = spec.Input

// SetLabels records the names of the classes.
func SetLabels(m *onnxio.Model, labels []string) {
	text, _ := json.Marshal(labels) // strings always marshal
	m.SetProperty("labels", string(text))
}

// Labels gives the names of the classes, nil when the model has none.
func Labels(m *onnxio.Model) []string {
	var out []string
	if text, ok := m.Property("labels"); ok && json.Unmarshal([]byte(text), &out) == nil {
		return out
	}
	return nil
}

// SetPreprocessing records p.
func SetPreprocessing(m *onnxio.Model, p Preprocessing) {
	text, _ := json.Marshal(p)
	m.SetProperty("preprocessing", string(text))
}

// GetPreprocessing gives what SetPreprocessing recorded; ok is false when there is nothing.
func GetPreprocessing(m *onnxio.Model) (p Preprocessing, ok bool, err error) {
	text, ok := m.Property("preprocessing")
	if !ok {
		return p, false, nil
	}
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return p, false, &onnxio.FormatError{Format: "onnx", Where: "metadata preprocessing",
			Msg: "not valid JSON", Err: err}
	}
	if len(p.Mean) != p.Channels || len(p.Std) != p.Channels || p.Size[0] <= 0 || p.Size[1] <= 0 {
		return p, false, &onnxio.FormatError{Format: "onnx", Where: "metadata preprocessing",
			Msg: fmt.Sprintf("size %v, %d channels, %d means and %d deviations do not go together", p.Size,
				p.Channels, len(p.Mean), len(p.Std))}
	}
	for _, s := range p.Std {
		if !(s > 0) {
			return p, false, &onnxio.FormatError{Format: "onnx", Where: "metadata preprocessing",
				Msg: fmt.Sprintf("a deviation is %v", s)}
		}
	}
	return p, true, nil
}

// Parameters counts a model's trainable numbers: those of ParameterNames.
func Parameters(m *onnxio.Model) int64 {
	total := int64(0)
	for _, name := range ParameterNames(m) {
		total += m.Graph.Initializer(name).Size()
	}
	return total
}

// ParameterNames lists a model's trainable initializers: those of floating point and of rank 1 and more,
// without the running statistics of BatchNormalization and other buffers.
func ParameterNames(m *onnxio.Model) []string {
	buffers := map[string]bool{}
	for _, n := range m.Graph.Nodes {
		if n.OpType == "BatchNormalization" && len(n.Inputs) >= 5 {
			buffers[n.Inputs[3]], buffers[n.Inputs[4]] = true, true
		}
		if n.OpType == "Cast" && len(n.Inputs) == 1 { // Buffer
			buffers[n.Inputs[0]] = true
		}
	}
	var names []string
	for _, t := range m.Graph.Initializers {
		if !buffers[t.Name] && len(t.Dims) > 0 && t.Type != onnxio.Int64 && t.Type != onnxio.Int32 &&
			t.Type != onnxio.Bool {
			names = append(names, t.Name)
		}
	}
	return names
}
