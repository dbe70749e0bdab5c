package infer

import "github.com/cnnkit/cnnkit/onnxio"

// FLOPs counts the floating-point operations of a node, two for each multiply-add of convolutions
// and matrix products; the rest counts nothing, as in the figures that authors publish. It is 0
// where shapes are not known.
func (r *Result) FLOPs(n *onnxio.Node) int64 {
	if len(n.Outputs) == 0 || len(n.Inputs) < 2 || n.Domain != "" {
		return 0
	}
	x, w, y := r.dims(n.Inputs[0]), r.dims(n.Inputs[1]), r.dims(n.Outputs[0])
	if len(x) < 1 || len(w) < 2 {
		return 0
	}
	switch n.OpType {
	case "Conv":
		return 2 * product(y) * product(w[1:])
	case "ConvTranspose":
		return 2 * product(x) * product(w[1:])
	case "Gemm":
		if n.Int("transB", 0) != 0 {
			return 2 * product(y) * w[1]
		}
		return 2 * product(y) * w[0]
	case "MatMul":
		return 2 * product(y) * w[len(w)-2]
	}
	return 0
}

// TotalFLOPs is the sum of the nodes that the graph's outputs need.
func (r *Result) TotalFLOPs(g *onnxio.Graph) int64 {
	needed := map[string]bool{}
	for _, o := range g.Outputs {
		needed[o.Name] = true
	}
	total := int64(0)
	for i := len(g.Nodes) - 1; i >= 0; i-- {
		n, used := g.Nodes[i], false
		for _, o := range n.Outputs {
			used = used || needed[o]
		}
		if !used {
			continue
		}
		for _, in := range n.Inputs {
			needed[in] = true
		}
		total += r.FLOPs(n)
	}
	return total
}

// dims are the sizes of a value, nil where one is not known.
func (r *Result) dims(name string) []int64 {
	v := r.values[name]
	if v == nil {
		return nil
	}
	if dims, ok := v.Dims(); ok {
		return dims
	}
	return nil
}

func product(dims []int64) int64 {
	n := int64(1)
	for _, d := range dims {
		n *= d
	}
	return n
}
