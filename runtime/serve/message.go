package serve

import (
	"fmt"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime/serve/internal/oip"
)

// requestOf reads a request of gRPC.
func requestOf(r *oip.ModelInferRequest) (*request, error) {
	ask := &request{id: r.Id, inputs: make(map[string]*onnxio.Tensor, len(r.Inputs)), binary: true}
	p := r.Parameters
	if err := ask.scheduled(natural(p["timeout"]), natural(p["priority"]),
		sequenceOf(p["sequence_id"])); err != nil {
		return nil, err
	}
	if n := len(r.RawInputContents); n > 0 && n != len(r.Inputs) {
		return nil, invalid("raw_input_contents has %d entries for %d inputs", n, len(r.Inputs))
	}
	for i, in := range r.Inputs {
		var data []byte
		if len(r.RawInputContents) > 0 {
			data = r.RawInputContents[i]
		}
		t, err := tensorOf(in, data, len(r.RawInputContents) > 0)
		if err != nil {
			return nil, invalid("input %q: %w", in.Name, err)
		}
		if err := ask.add(in.Name, t); err != nil {
			return nil, err
		}
	}
	for _, o := range r.Outputs {
		if o.Parameters["shared_memory_region"] != nil {
			return nil, invalid("output %q: shared memory is not served", o.Name)
		}
		classes := min(natural(o.Parameters["classification"]), 1<<30)
		ask.outputs = append(ask.outputs, wanted{name: o.Name, classes: int(classes)})
	}
	return ask, nil
}

// natural is a parameter's number; 0 where it has none.
func natural(p *oip.InferParameter) uint64 {
	if p.GetUint64Param() > 0 {
		return p.GetUint64Param()
	}
	return uint64(max(p.GetInt64Param(), 0))
}

// sequenceOf is a sequence's number or name as text; "" for none.
func sequenceOf(p *oip.InferParameter) string {
	if n := natural(p); n > 0 {
		return fmt.Sprint(n)
	}
	return p.GetStringParam()
}

// tensorOf reads an input, from data where the request has its elements apart.
func tensorOf(in *oip.ModelInferRequest_InferInputTensor, data []byte, apart bool) (*onnxio.Tensor, error) {
	if in.Parameters["shared_memory_region"] != nil {
		return nil, fmt.Errorf("shared memory is not served")
	}
	typ, err := parseDatatype(in.Datatype)
	if err != nil {
		return nil, err
	}
	if len(in.Shape) > maxRank {
		return nil, fmt.Errorf("a shape of %d dimensions", len(in.Shape))
	}
	if apart {
		if in.Contents != nil {
			return nil, fmt.Errorf("both contents and raw_input_contents")
		}
		return fromRaw(typ, in.Shape, data)
	}
	return fromContents(typ, in.Shape, in.Contents)
}

// fromContents is a tensor from the field of its element type.
func fromContents(typ onnxio.DataType, dims []int64, c *oip.InferTensorContents) (*onnxio.Tensor, error) {
	fields := map[string]int{"bool": len(c.GetBoolContents()), "int": len(c.GetIntContents()),
		"int64": len(c.GetInt64Contents()),
		"uint":  len(c.GetUintContents()), "uint64": len(c.GetUint64Contents()),
		"fp32": len(c.GetFp32Contents()),
		"fp64": len(c.GetFp64Contents()), "bytes": len(c.GetBytesContents())}
	t := &onnxio.Tensor{Type: typ, Dims: dims}
	var field string
	var err error
	switch typ {
	case onnxio.Bool:
		field, err = "bool", fill(t, c.GetBoolContents())
	case onnxio.Int8:
		field, err = "int", narrow[int8](t, c.GetIntContents())
	case onnxio.Int16:
		field, err = "int", narrow[int16](t, c.GetIntContents())
	case onnxio.Int32:
		field, err = "int", fill(t, c.GetIntContents())
	case onnxio.Int64:
		field, err = "int64", fill(t, c.GetInt64Contents())
	case onnxio.Uint8:
		field, err = "uint", narrow[uint8](t, c.GetUintContents())
	case onnxio.Uint16:
		field, err = "uint", narrow[uint16](t, c.GetUintContents())
	case onnxio.Uint32:
		field, err = "uint", fill(t, c.GetUintContents())
	case onnxio.Uint64:
		field, err = "uint64", fill(t, c.GetUint64Contents())
	case onnxio.Float:
		field, err = "fp32", fill(t, c.GetFp32Contents())
	case onnxio.Double:
		field, err = "fp64", fill(t, c.GetFp64Contents())
	case onnxio.String:
		field, t.Strings = "bytes", c.GetBytesContents()
	default:
		return nil, fmt.Errorf("%s has no field in contents: send it in raw_input_contents", datatypeOf(typ))
	}
	for f, n := range fields {
		if f != field && n > 0 {
			return nil, fmt.Errorf("%s is in %s_contents, not in %s_contents", datatypeOf(typ), field, f)
		}
	}
	if err != nil {
		return nil, err
	}
	return t, t.Check()
}

// fill takes elements over as they are.
func fill[T onnxio.Element](t *onnxio.Tensor, values []T) error {
	if err := counted(t, len(values)); err != nil {
		return err
	}
	t.Raw = onnxio.FromSlice(t.Type, values, int64(len(values))).Raw
	return nil
}

// narrow takes over elements that gRPC sends in a wider type.
func narrow[T int8 | int16 | uint8 | uint16, W int32 | uint32](t *onnxio.Tensor, values []W) error {
	if err := counted(t, len(values)); err != nil {
		return err
	}
	out := make([]T, len(values))
	for i, v := range values {
		if out[i] = T(v); W(out[i]) != v {
			return fmt.Errorf("element %d: %d is no %s", i, v, datatypeOf(t.Type))
		}
	}
	t.Raw = onnxio.FromSlice(t.Type, out, int64(len(out))).Raw
	return nil
}

func counted(t *onnxio.Tensor, n int) error {
	want, err := onnxio.CheckedBytes(onnxio.Uint8, t.Dims)
	if err != nil {
		return err
	}
	if want != int64(n) {
		return fmt.Errorf("%d elements: the shape %v takes %d", n, t.Dims, want)
	}
	return nil
}
