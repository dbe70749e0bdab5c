package builders

import (
	"fmt"
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Classifier lists the parameters whose shapes follow from the number of classes: those of the last layer,
// and of the last layers of auxiliary classifiers. m must be a model that Build made.
func Classifier(m *onnxio.Model) ([]string, error) {
	name, cfg, ok := Arch(m)
	if !ok {
		return nil, fmt.Errorf(
			"the model is not one that a builder made, so that its classifier is not known")
	}
	if cfg.Classes == 0 {
		return nil, nil
	}
	cfg.Classes++
	other, err := Outline(name, cfg)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, t := range m.Graph.Initializers {
		if o := other.Graph.Initializer(t.Name); o != nil && t.Type == onnxio.Float &&
			!slices.Equal(o.Dims, t.Dims) {
			names = append(names, t.Name)
		}
	}
	return names, nil
}
