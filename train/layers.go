package train

import (
	"math"
	"strings"

	"github.com/cnnkit/cnnkit/onnxio"
)

// layerScales gives each parameter its factor of the learning rate: 1 in the last layer, LRDecayPerLayer
// times that of the layer above in each one below (Howard and Ruder, Universal Language Model Fine-tuning for
// Text Classification, arXiv:1801.06146, section 3.1). Frozen layers count. nil where all have the same rate.
func (c Config) layerScales(m *onnxio.Model) (map[string]float64, error) {
	if c.LRDecayPerLayer == 0 || c.LRDecayPerLayer == 1 {
		return nil, nil
	}
	of, n, err := layers(m)
	if err != nil {
		return nil, err
	}
	scales := map[string]float64{}
	for name, i := range of {
		scales[name] = math.Pow(c.LRDecayPerLayer, float64(n-1-i))
	}
	return scales, nil
}

// layers numbers the layers in the order in which the graph reads their parameters, and gives
// each parameter its own. A layer is a block of PyTorch's module tree ("layer1.0",
// "features.3", "encoder.layers.encoder_layer_2"), else a module; one of normalisations alone
// belongs to the layer before it.
func layers(m *onnxio.Model) (of map[string]int, n int, err error) {
	names, err := parametersOf(m)
	if err != nil {
		return nil, 0, err
	}
	parameter := map[string]bool{}
	for _, name := range names {
		parameter[name] = true
	}
	role, alone := roles(m), map[string]bool{}
	var order []string
	members := map[string][]string{}
	for _, node := range m.Graph.Nodes {
		for _, in := range node.Inputs {
			if !parameter[in] {
				continue
			}
			parameter[in] = false
			layer := layerOf(in)
			if members[layer] == nil {
				order, alone[layer] = append(order, layer), true
			}
			members[layer] = append(members[layer], in)
			alone[layer] = alone[layer] && role[in] == "norm"
		}
	}
	of = map[string]int{}
	for i, layer := range order {
		if !alone[layer] || i == 0 {
			n++
		}
		for _, name := range members[layer] {
			of[name] = n - 1
		}
	}
	return of, n, nil
}

// layerOf is the module that a parameter's layer is: up to the first part that is a number or ends in _ and
// one, else without the parameter's own name.
func layerOf(name string) string {
	parts := strings.Split(name, ".")
	for i, p := range parts {
		if digits := p[strings.LastIndexByte(p, '_')+1:]; digits != "" &&
			strings.Trim(digits, "0123456789") == "" {
			return strings.Join(parts[:i+1], ".")
		}
	}
	if end := strings.LastIndexAny(name, "./"); end > 0 {
		return name[:end]
	}
	return name
}
