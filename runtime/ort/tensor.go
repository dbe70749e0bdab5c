//go:build cgo && (linux || darwin || windows)

package ort

import (
	"fmt"

	onnxruntime "github.com/yalue/onnxruntime_go"

	"github.com/cnnkit/cnnkit/onnxio"
)

// wrap makes an ONNX Runtime value that reads t's memory.
func wrap(t *onnxio.Tensor) (onnxruntime.Value, error) {
	switch t.Type {
	case onnxio.Float:
		return typed[float32](t)
	case onnxio.Double:
		return typed[float64](t)
	case onnxio.Int8:
		return typed[int8](t)
	case onnxio.Int16:
		return typed[int16](t)
	case onnxio.Int32:
		return typed[int32](t)
	case onnxio.Int64:
		return typed[int64](t)
	case onnxio.Uint8:
		return typed[uint8](t)
	case onnxio.Uint16:
		return typed[uint16](t)
	case onnxio.Uint32:
		return typed[uint32](t)
	case onnxio.Uint64:
		return typed[uint64](t)
	case onnxio.Bool, onnxio.Float16, onnxio.BFloat16:
		if len(t.Dims) == 0 || len(t.Raw) == 0 {
			return nil, fmt.Errorf("a %v tensor of shape %v cannot be handed over", t.Type, t.Dims)
		}
		return onnxruntime.NewCustomDataTensor(t.Dims, t.Raw, onnxruntime.TensorElementDataType(t.Type))
	}
	return nil, fmt.Errorf("element type %v cannot be handed over", t.Type)
}

func typed[T interface {
	onnxio.Element
	onnxruntime.TensorData
}](t *onnxio.Tensor) (onnxruntime.Value, error) {
	data := onnxio.Data[T](t)
	if len(t.Dims) == 0 {
		return onnxruntime.NewScalar(data[0])
	}
	return onnxruntime.NewTensor(t.Dims, data)
}

// unwrap copies a value out of ONNX Runtime's hands.
func unwrap(v onnxruntime.Value) (*onnxio.Tensor, error) {
	switch v := v.(type) {
	case *onnxruntime.Tensor[float32]:
		return copied(onnxio.Float, v)
	case *onnxruntime.Tensor[float64]:
		return copied(onnxio.Double, v)
	case *onnxruntime.Tensor[int8]:
		return copied(onnxio.Int8, v)
	case *onnxruntime.Tensor[int16]:
		return copied(onnxio.Int16, v)
	case *onnxruntime.Tensor[int32]:
		return copied(onnxio.Int32, v)
	case *onnxruntime.Tensor[int64]:
		return copied(onnxio.Int64, v)
	case *onnxruntime.Tensor[uint8]:
		return copied(onnxio.Uint8, v)
	case *onnxruntime.Tensor[uint16]:
		return copied(onnxio.Uint16, v)
	case *onnxruntime.Tensor[uint32]:
		return copied(onnxio.Uint32, v)
	case *onnxruntime.Tensor[uint64]:
		return copied(onnxio.Uint64, v)
	case *onnxruntime.Scalar[float32]:
		return onnxio.Scalar(onnxio.Float, v.GetData()), nil
	case *onnxruntime.Scalar[float64]:
		return onnxio.Scalar(onnxio.Double, v.GetData()), nil
	case *onnxruntime.Scalar[int64]:
		return onnxio.Scalar(onnxio.Int64, v.GetData()), nil
	case *onnxruntime.Scalar[int32]:
		return onnxio.Scalar(onnxio.Int32, v.GetData()), nil
	case *onnxruntime.CustomDataTensor:
		t := onnxio.NewTensor(onnxio.DataType(v.DataType()), v.GetShape()...)
		copy(t.Raw, v.GetData())
		return t, nil
	}
	return nil, fmt.Errorf("ONNX Runtime gave a %T", v)
}

func copied[T interface {
	onnxio.Element
	onnxruntime.TensorData
}](typ onnxio.DataType, v *onnxruntime.Tensor[T]) (*onnxio.Tensor, error) {
	t := onnxio.NewTensor(typ, v.GetShape()...)
	copy(onnxio.Data[T](t), v.GetData())
	return t, nil
}
