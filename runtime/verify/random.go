package verify

import (
	"fmt"
	"math/rand/v2"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Random makes inputs: standard normal for floats, 0 or 1 for integers and booleans. A symbolic first
// dimension becomes batch; so does any of the same name.
func Random(inputs []*onnxio.ValueInfo, batch int64, seed uint64) (map[string]*onnxio.Tensor, error) {
	r := rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15))
	bound := map[string]int64{}
	for _, v := range inputs {
		if v.Type != nil && len(v.Type.Shape) > 0 && v.Type.Shape[0].Param != "" {
			bound[v.Type.Shape[0].Param] = batch
		}
	}
	out := map[string]*onnxio.Tensor{}
	for _, v := range inputs {
		if v.Type == nil || v.Type.Kind != onnxio.TensorType || !v.Type.HasShape {
			return nil, fmt.Errorf("input %q declares no shape, so none can be made up: give it with --input",
				v.Name)
		}
		dims := make([]int64, len(v.Type.Shape))
		for i, d := range v.Type.Shape {
			n, ok := bound[d.Param]
			switch {
			case d.Known() && d.Value >= 0:
				dims[i] = d.Value
			case d.Param != "" && ok:
				dims[i] = n
			case i == 0:
				dims[i] = batch
			default:
				return nil, fmt.Errorf(
					"input %q: dimension %d (%s) may be anything: give the input with --input",
					v.Name, i, d.Param)
			}
		}
		t, err := random(r, v.Type.Elem, dims)
		if err != nil {
			return nil, fmt.Errorf("input %q: %w", v.Name, err)
		}
		t.Name = v.Name
		out[v.Name] = t
	}
	return out, nil
}

// maxRandom bounds the bytes of one made-up input.
const maxRandom = 1 << 32

func random(r *rand.Rand, elem onnxio.DataType, dims []int64) (*onnxio.Tensor, error) {
	n, err := onnxio.CheckedBytes(elem, dims)
	if err != nil {
		return nil, err
	}
	if n > maxRandom {
		return nil, &onnxio.LimitError{What: "bytes of a made-up input", Got: n, Limit: maxRandom}
	}
	t := onnxio.NewTensor(elem, dims...)
	switch elem {
	case onnxio.Float:
		x := t.Float32s()
		for i := range x {
			x[i] = float32(r.NormFloat64())
		}
	case onnxio.Double:
		x := onnxio.Data[float64](t)
		for i := range x {
			x[i] = r.NormFloat64()
		}
	case onnxio.Bool, onnxio.Int8, onnxio.Uint8, onnxio.Int16, onnxio.Uint16, onnxio.Int32, onnxio.Uint32,
		onnxio.Int64, onnxio.Uint64:
		width := elem.Bits() / 8
		for i := 0; i < len(t.Raw); i += width {
			t.Raw[i] = byte(r.IntN(2))
		}
	default:
		return nil, fmt.Errorf("no values of type %s can be made up: give the input with --input", elem)
	}
	return t, nil
}
