//go:build cgo && (linux || darwin || windows)

package ort

import (
	"bytes"
	"errors"
	"fmt"
	"math"

	onnxruntime "github.com/yalue/onnxruntime_go"

	"github.com/cnnkit/cnnkit/onnxio"
)

// empty stands for the elements of a tensor that has none, since ONNX Runtime's Go bindings want an address.
var empty [16]byte

// wrap makes an ONNX Runtime value that reads and, for outputs, writes t's memory. Scalars and strings are
// copied.
func wrap(t *onnxio.Tensor) (onnxruntime.Value, error) {
	switch {
	case !t.Type.Valid():
		return nil, fmt.Errorf("element type %v cannot be handed over", t.Type)
	case len(t.Dims) == 0:
		return wrapScalar(t)
	case t.Type == onnxio.String:
		return wrapStrings(t)
	}
	raw := t.Raw
	if len(raw) == 0 {
		raw = empty[:]
	}
	// ONNX Runtime numbers element types as ONNX does.
	v, err := onnxruntime.NewCustomDataTensor(t.Dims, raw, onnxruntime.TensorElementDataType(t.Type))
	if err != nil {
		return nil, err // and no Value that holds a nil pointer
	}
	return v, nil
}

// wrapScalar is wrap for rank 0, for which the bindings have another type.
func wrapScalar(t *onnxio.Tensor) (onnxruntime.Value, error) {
	switch t.Type {
	case onnxio.Float:
		return scalar[float32](t)
	case onnxio.Double:
		return scalar[float64](t)
	case onnxio.Bool:
		return scalar[bool](t)
	case onnxio.Int8:
		return scalar[int8](t)
	case onnxio.Int16:
		return scalar[int16](t)
	case onnxio.Int32:
		return scalar[int32](t)
	case onnxio.Int64:
		return scalar[int64](t)
	case onnxio.Uint8:
		return scalar[uint8](t)
	case onnxio.Uint16:
		return scalar[uint16](t)
	case onnxio.Uint32:
		return scalar[uint32](t)
	case onnxio.Uint64:
		return scalar[uint64](t)
	}
	return nil, fmt.Errorf("a scalar of type %v cannot be handed over", t.Type)
}

func scalar[T element](t *onnxio.Tensor) (onnxruntime.Value, error) {
	v, err := onnxruntime.NewScalar(onnxio.Data[T](t)[0])
	if err != nil {
		return nil, err
	}
	return v, nil
}

// wrapStrings is wrap for strings, which the bindings hand over as C does: up to the first byte of zero.
func wrapStrings(t *onnxio.Tensor) (onnxruntime.Value, error) {
	texts := make([]string, len(t.Strings))
	for i, s := range t.Strings {
		if bytes.IndexByte(s, 0) >= 0 {
			return nil, fmt.Errorf("string %d has a byte of zero, behind which it would be cut off", i)
		}
		texts[i] = string(s)
	}
	v, err := onnxruntime.NewStringTensor(t.Dims)
	if err != nil {
		return nil, err
	}
	if err := v.SetContents(texts); err != nil {
		return nil, errors.Join(err, v.Destroy())
	}
	return v, nil
}

// element is what both sides take for one.
type element interface {
	onnxio.Element
	onnxruntime.TensorData
}

// unwrap takes over what ONNX Runtime has allocated for an output. The bindings have copied
// it to Go's memory already.
func unwrap(v onnxruntime.Value) (*onnxio.Tensor, error) {
	switch v := v.(type) {
	case *onnxruntime.Tensor[float32]:
		return taken(onnxio.Float, v), nil
	case *onnxruntime.Tensor[float64]:
		return taken(onnxio.Double, v), nil
	case *onnxruntime.Tensor[bool]:
		return taken(onnxio.Bool, v), nil
	case *onnxruntime.Tensor[int8]:
		return taken(onnxio.Int8, v), nil
	case *onnxruntime.Tensor[int16]:
		return taken(onnxio.Int16, v), nil
	case *onnxruntime.Tensor[int32]:
		return taken(onnxio.Int32, v), nil
	case *onnxruntime.Tensor[int64]:
		return taken(onnxio.Int64, v), nil
	case *onnxruntime.Tensor[uint8]:
		return taken(onnxio.Uint8, v), nil
	case *onnxruntime.Tensor[uint16]:
		return taken(onnxio.Uint16, v), nil
	case *onnxruntime.Tensor[uint32]:
		return taken(onnxio.Uint32, v), nil
	case *onnxruntime.Tensor[uint64]:
		return taken(onnxio.Uint64, v), nil
	case *onnxruntime.CustomDataTensor:
		return nil, fmt.Errorf("element type %v cannot be handed back", onnxio.DataType(v.DataType()))
	case *onnxruntime.StringTensor:
		texts, err := v.GetContents()
		if err != nil {
			return nil, err
		}
		t := onnxio.NewTensor(onnxio.String, v.GetShape()...)
		for i, s := range texts {
			t.Strings[i] = []byte(s)
		}
		return t, nil
	}
	return nil, fmt.Errorf("it is %v, no tensor: RunValues gives sequences and maps", v.GetONNXType())
}

// valueOf is unwrap for values of every kind.
func valueOf(v onnxruntime.Value) (onnxio.Value, error) {
	switch v := v.(type) {
	case *onnxruntime.Sequence:
		items, err := v.GetValues()
		if err != nil {
			return nil, err
		}
		s := &onnxio.Sequence{}
		for i, item := range items {
			x, err := valueOf(item)
			if err != nil {
				return nil, fmt.Errorf("item %d: %w", i, err)
			}
			s.Items = append(s.Items, x)
		}
		return s, nil
	case *onnxruntime.Map:
		keys, values, err := v.GetKeysAndValues()
		if err != nil {
			return nil, err
		}
		m := &onnxio.Map{}
		if m.Keys, err = unwrap(keys); err != nil {
			return nil, fmt.Errorf("keys: %w", err)
		}
		if m.Values, err = valueOf(values); err != nil {
			return nil, fmt.Errorf("values: %w", err)
		}
		return m, nil
	}
	return unwrap(v)
}

func taken[T element](typ onnxio.DataType, v *onnxruntime.Tensor[T]) *onnxio.Tensor {
	dims := v.GetShape() // never empty: the bindings refuse scalars
	return onnxio.FromSlice(typ, v.GetData(), dims...)
}

// narrowed turns float32 numbers that Cast has made from 16-bit ones back into those, exactly.
func narrowed(typ onnxio.DataType, x *onnxio.Tensor, dims []int64) *onnxio.Tensor {
	t := onnxio.NewTensor(typ, dims...)
	to := onnxio.Data[uint16](t)
	for i, v := range x.Float32s() {
		if typ == onnxio.BFloat16 {
			to[i] = uint16(math.Float32bits(v) >> 16)
		} else {
			to[i] = half(v)
		}
	}
	return t
}

// half is the bits of a float16 whose value is v; v must be one.
func half(v float32) uint16 {
	b := math.Float32bits(v)
	sign, exp, mant := uint16(b>>16&0x8000), int(b>>23&0xff), b&0x7fffff
	switch {
	case exp == 255: // infinite, or not a number, whose first bit Cast sets
		return sign | 0x7c00 | uint16(mant>>13)
	case exp >= 113:
		return sign | uint16(exp-112)<<10 | uint16(mant>>13)
	case exp >= 103: // subnormal: a multiple of 2^-24
		return sign | uint16((mant|1<<23)>>(126-exp))
	}
	return sign
}
