package serve

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime/serve/internal/oip"
)

// datatypes are the element types that the protocol has: its name, Triton's number in a
// configuration, ONNX's type.
var datatypes = []struct {
	name string
	oip  oip.DataType
	onnx onnxio.DataType
}{
	{"BOOL", oip.DataType_TYPE_BOOL, onnxio.Bool},
	{"UINT8", oip.DataType_TYPE_UINT8, onnxio.Uint8}, {"UINT16", oip.DataType_TYPE_UINT16, onnxio.Uint16},
	{"UINT32", oip.DataType_TYPE_UINT32, onnxio.Uint32}, {"UINT64", oip.DataType_TYPE_UINT64, onnxio.Uint64},
	{"INT8", oip.DataType_TYPE_INT8, onnxio.Int8}, {"INT16", oip.DataType_TYPE_INT16, onnxio.Int16},
	{"INT32", oip.DataType_TYPE_INT32, onnxio.Int32}, {"INT64", oip.DataType_TYPE_INT64, onnxio.Int64},
	{"FP16", oip.DataType_TYPE_FP16, onnxio.Float16}, {"FP32", oip.DataType_TYPE_FP32, onnxio.Float},
	{"FP64", oip.DataType_TYPE_FP64, onnxio.Double}, {"BF16", oip.DataType_TYPE_BF16, onnxio.BFloat16},
	{"BYTES", oip.DataType_TYPE_STRING, onnxio.String},
}

// datatypeOf is the protocol's name of an element type; "" where it has none.
func datatypeOf(t onnxio.DataType) string {
	for _, d := range datatypes {
		if d.onnx == t {
			return d.name
		}
	}
	return ""
}

func configType(t onnxio.DataType) oip.DataType {
	for _, d := range datatypes {
		if d.onnx == t {
			return d.oip
		}
	}
	return oip.DataType_TYPE_INVALID
}

// carried reports whether the protocol has the types of all inputs and outputs: it has tensors alone.
func carried(g *onnxio.Graph) error {
	for _, side := range []struct {
		name   string
		values []*onnxio.ValueInfo
	}{{"input", g.Inputs}, {"output", g.Outputs}} {
		for _, v := range side.values {
			if v.Type != nil && v.Type.Kind == onnxio.TensorType && datatypeOf(v.Type.Elem) != "" {
				continue
			}
			return &onnxio.UnsupportedError{Op: "model",
				Reason: fmt.Sprintf("%s %q is %s, which the Open Inference Protocol "+
					"does not have: 'cnnkit extract' cuts a model at values that are tensors", side.name,
					v.Name, typeText(v.Type))}
		}
	}
	return nil
}

// typeText says a type in words.
func typeText(t *onnxio.Type) string {
	if t == nil {
		return "of no declared type"
	}
	switch t.Kind {
	case onnxio.TensorType:
		return fmt.Sprintf("a tensor of %v", t.Elem)
	case onnxio.SparseTensorType:
		return fmt.Sprintf("a sparse tensor of %v", t.Elem)
	case onnxio.SequenceType:
		return "a sequence, each of it " + typeText(t.Of)
	case onnxio.OptionalType:
		return "optional, and else " + typeText(t.Of)
	case onnxio.MapType:
		return fmt.Sprintf("a map from %v, each value %s", t.Key, typeText(t.Of))
	}
	return "of a type that is no tensor"
}

func parseDatatype(name string) (onnxio.DataType, error) {
	for _, d := range datatypes {
		if d.name == name {
			return d.onnx, nil
		}
	}
	return onnxio.Undefined,
		fmt.Errorf("no datatype %q: the protocol has BOOL, UINT8 to UINT64, INT8 to INT64, FP16, BF16, "+
			"FP32, FP64 and BYTES", name)
}

// fromRaw is a tensor whose elements are data, little-endian; data is shared where its address allows that.
func fromRaw(typ onnxio.DataType, dims []int64, data []byte) (*onnxio.Tensor, error) {
	t := &onnxio.Tensor{Type: typ, Dims: dims}
	if typ == onnxio.String {
		var err error
		if t.Strings, err = splitStrings(data); err != nil {
			return nil, err
		}
		return t, t.Check()
	}
	n, err := onnxio.CheckedBytes(typ, dims)
	if err != nil {
		return nil, err
	}
	if n != int64(len(data)) {
		return nil, fmt.Errorf("%d bytes for %s %v, which takes %d", len(data), datatypeOf(typ), dims, n)
	}
	t.Raw = data
	if n > 0 && uintptr(unsafe.Pointer(unsafe.SliceData(data)))%8 != 0 {
		t.Raw = append(make([]byte, 0, n+8), data...)
	}
	return t, t.Check()
}

// splitStrings reads elements of BYTES: each has its length before it, in 4 bytes.
func splitStrings(data []byte) ([][]byte, error) {
	out := [][]byte{}
	for len(data) > 0 {
		if len(data) < 4 {
			return nil, fmt.Errorf("BYTES: %d bytes where the length of an element takes 4", len(data))
		}
		n := int64(binary.LittleEndian.Uint32(data))
		if data = data[4:]; n > int64(len(data)) {
			return nil, fmt.Errorf("BYTES: an element of %d bytes, but %d are left", n, len(data))
		}
		out = append(out, data[:n:n])
		data = data[n:]
	}
	return out, nil
}

// raw is a tensor's elements as the protocol's binary form.
func raw(t *onnxio.Tensor) []byte {
	if t.Type != onnxio.String {
		return t.Raw
	}
	out := []byte{}
	for _, s := range t.Strings {
		out = binary.LittleEndian.AppendUint32(out, uint32(len(s)))
		out = append(out, s...)
	}
	return out
}
