package onnxio

import (
	"fmt"
	"slices"
	"unsafe"
)

// DataType is TensorProto.DataType of the ONNX IR: the element type of a tensor.
type DataType int32

// The element types, with ONNX's numbers.
const (
	Undefined      DataType = 0
	Float          DataType = 1
	Uint8          DataType = 2
	Int8           DataType = 3
	Uint16         DataType = 4
	Int16          DataType = 5
	Int32          DataType = 6
	Int64          DataType = 7
	String         DataType = 8
	Bool           DataType = 9
	Float16        DataType = 10
	Double         DataType = 11
	Uint32         DataType = 12
	Uint64         DataType = 13
	Complex64      DataType = 14
	Complex128     DataType = 15
	BFloat16       DataType = 16
	Float8E4M3FN   DataType = 17
	Float8E4M3FNUZ DataType = 18
	Float8E5M2     DataType = 19
	Float8E5M2FNUZ DataType = 20
	Uint4          DataType = 21
	Int4           DataType = 22
	Float4E2M1     DataType = 23
	Float8E8M0     DataType = 24
	Uint2          DataType = 25
	Int2           DataType = 26
	Float6E2M3     DataType = 27
	Float6E3M2     DataType = 28
)

// dataTypes describes every element type: its ONNX name and its width in bits (0: no fixed width).
var dataTypes = [...]struct {
	name string
	bits int
}{
	Undefined: {"undefined", 0}, Float: {"float32", 32}, Uint8: {"uint8", 8}, Int8: {"int8", 8},
	Uint16: {"uint16", 16}, Int16: {"int16", 16}, Int32: {"int32", 32}, Int64: {"int64", 64},
	String: {"string", 0}, Bool: {"bool", 8}, Float16: {"float16", 16}, Double: {"float64", 64},
	Uint32: {"uint32", 32}, Uint64: {"uint64", 64}, Complex64: {"complex64",
		64}, Complex128: {"complex128", 128},
	BFloat16: {"bfloat16", 16}, Float8E4M3FN: {"float8e4m3fn", 8}, Float8E4M3FNUZ: {"float8e4m3fnuz", 8},
	Float8E5M2: {"float8e5m2", 8}, Float8E5M2FNUZ: {"float8e5m2fnuz", 8}, Uint4: {"uint4",
		4}, Int4: {"int4", 4},
	Float4E2M1: {"float4e2m1", 4}, Float8E8M0: {"float8e8m0", 8}, Uint2: {"uint2", 2}, Int2: {"int2", 2},
	Float6E2M3: {"float6e2m3", 6}, Float6E3M2: {"float6e3m2", 6},
}

// Valid reports whether d is a type this package knows, Undefined excluded.
func (d DataType) Valid() bool { return d > Undefined && int(d) < len(dataTypes) }

// Bits is the width of one element, 0 for String and unknown types.
func (d DataType) Bits() int {
	if d < 0 || int(d) >= len(dataTypes) {
		return 0
	}
	return dataTypes[d].bits
}

// String names the type as NumPy does: float32, int64, bfloat16.
func (d DataType) String() string {
	if d < 0 || int(d) >= len(dataTypes) {
		return fmt.Sprintf("data type %d", int32(d))
	}
	return dataTypes[d].name
}

// Tensor is a dense tensor, row-major. Elements are held as little-endian bytes, the layout of
// TensorProto.raw_data; Data gives them as a Go slice without a copy. Types below a byte are packed, the
// first element in the low bits. Complex numbers are pairs (real, imaginary).
type Tensor struct {
	Name string
	Type DataType
	// Dims is the shape; empty for a scalar.
	Dims []int64
	// Raw holds Size()*Type.Bits()/8 bytes (rounded up), aligned to the element; nil for String.
	Raw []byte
	// Strings holds the elements of a String tensor.
	Strings [][]byte
	// External says where the elements are when they are in another file and have not been read: the keys
	// location, offset and length of external_data. Decode leaves it set, Load resolves it into Raw.
	External []Property
	Doc      string
	// Metadata is metadata_props, in order.
	Metadata []Property
	// Unknown holds protobuf fields of a newer schema, written back as they were read.
	Unknown []byte
}

// Element lists the Go types that can view a tensor's bytes. Float16, BFloat16 and the float8 types are
// viewed as their bits (uint16, uint8), Bool as bool or uint8.
type Element interface {
	~float32 | ~float64 | ~int8 | ~int16 | ~int32 | ~int64 | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~bool |
		~complex64 | ~complex128
}

// NewTensor allocates a zero tensor. It panics on negative dims or an unknown type: shapes from outside go
// through CheckedBytes first.
func NewTensor(t DataType, dims ...int64) *Tensor {
	out := &Tensor{Type: t, Dims: append([]int64(nil), dims...)}
	if t == String {
		out.Strings = make([][]byte, out.Size())
		return out
	}
	n, err := CheckedBytes(t, dims)
	if err != nil {
		panic(err)
	}
	out.Raw = make([]byte, n)
	return out
}

// FromSlice wraps data, not copied, as a tensor of shape dims (none: a vector of len(data)).
func FromSlice[T Element](t DataType, data []T, dims ...int64) *Tensor {
	if len(dims) == 0 {
		dims = []int64{int64(len(data))}
	}
	out := &Tensor{Type: t, Dims: append([]int64(nil), dims...), Raw: bytesOf(data)}
	if out.Size() != int64(len(data)) || int(unsafe.Sizeof(*new(T)))*8 != t.Bits() {
		panic(fmt.Sprintf("onnxio: FromSlice: %d elements of %T do not make %v %v", len(data),
			*new(T), t, dims))
	}
	return out
}

// Floats wraps data, not copied, as a float32 tensor.
func Floats(data []float32, dims ...int64) *Tensor { return FromSlice(Float, data, dims...) }

// Int64s wraps data, not copied, as an int64 tensor.
func Int64s(data []int64, dims ...int64) *Tensor { return FromSlice(Int64, data, dims...) }

// Scalar is a rank-0 tensor.
func Scalar[T Element](t DataType, v T) *Tensor {
	out := FromSlice(t, []T{v})
	out.Dims = []int64{}
	return out
}

// Data views the elements of t as a slice of T, sharing memory. It panics when the widths differ, since the
// caller has looked at t.Type: a wrong T is a mistake in the program.
func Data[T Element](t *Tensor) []T {
	size := int(unsafe.Sizeof(*new(T)))
	if t.Type.Bits() != size*8 {
		panic(fmt.Sprintf("onnxio: tensor %q of %v viewed as %T", t.Name, t.Type, *new(T)))
	}
	if len(t.Raw) < size {
		return nil
	}
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(t.Raw))), len(t.Raw)/size)
}

// Float32s is Data[float32].
func (t *Tensor) Float32s() []float32 { return Data[float32](t) }

// Size is the number of elements: the product of Dims, 1 for a scalar.
func (t *Tensor) Size() int64 {
	n := int64(1)
	for _, d := range t.Dims {
		n *= d
	}
	return n
}

// Clone copies t and its elements.
func (t *Tensor) Clone() *Tensor {
	c := *t
	c.Dims = append([]int64(nil), t.Dims...)
	if t.Raw != nil {
		c.Raw = make([]byte, len(t.Raw))
		copy(c.Raw, t.Raw)
	}
	if t.Strings != nil {
		c.Strings = make([][]byte, len(t.Strings))
		copy(c.Strings, t.Strings)
	}
	c.External = append([]Property(nil), t.External...)
	c.Metadata = append([]Property(nil), t.Metadata...)
	return &c
}

// CopyFrom copies the elements of another tensor, which must have the type and shape of t, into t's memory.
func (t *Tensor) CopyFrom(x *Tensor) error {
	if t.Type != x.Type || !slices.Equal(t.Dims, x.Dims) {
		return fmt.Errorf("%v %v does not fit into a tensor of %v %v", x.Type, x.Dims, t.Type, t.Dims)
	}
	if len(t.Raw) != len(x.Raw) || len(t.Strings) != len(x.Strings) {
		return fmt.Errorf("the tensor of %v %v has memory for other than its elements", t.Type, t.Dims)
	}
	copy(t.Raw, x.Raw)
	copy(t.Strings, x.Strings)
	return nil
}

// Check reports whether the elements of t agree with its type and shape, which every function of this
// package takes for granted; a tensor whose External is set must have none, and a reference that Load would
// follow. Errors are *FormatError.
func (t *Tensor) Check() error {
	if !t.Type.Valid() {
		return malformed("the element type is %v", t.Type)
	}
	n, err := elementCount(t.Dims)
	if err != nil {
		return malformed("%v", err)
	}
	switch {
	case t.Type == String && len(t.External)+len(t.Raw) > 0:
		return malformed("strings must be in Strings")
	case t.Type == String:
		if n != int64(len(t.Strings)) {
			return malformed("holds %d strings where the shape %v asks for %d", len(t.Strings), t.Dims, n)
		}
		return nil
	case len(t.Strings) > 0:
		return malformed("strings in a tensor of type %v", t.Type)
	case len(t.External) > 0:
		if len(t.Raw) > 0 {
			return malformed("has both elements and a reference to external data")
		}
		_, err := t.reference()
		return err
	}
	if n, err = CheckedBytes(t.Type, t.Dims); err != nil {
		return malformed("%v", err)
	}
	if n != int64(len(t.Raw)) {
		return malformed("holds %d bytes where type %v and shape %v ask for %d", len(t.Raw),
			t.Type, t.Dims, n)
	}
	return t.checkBools()
}

func bytesOf[T Element](s []T) []byte {
	if len(s) == 0 {
		return []byte{}
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(s))), len(s)*int(unsafe.Sizeof(*new(T))))
}

// CheckedBytes is the number of bytes a tensor of this type and shape takes; an error for negative dims, an
// unknown type, a String or an overflow of int64.
func CheckedBytes(t DataType, dims []int64) (int64, error) {
	bits := int64(t.Bits())
	if bits == 0 {
		return 0, fmt.Errorf("a tensor of type %v has no byte size", t)
	}
	n := int64(1)
	zero := false
	for _, d := range dims {
		switch {
		case d < 0:
			return 0, fmt.Errorf("negative dimension in shape %v", dims)
		case d == 0:
			zero = true
		case n > (1<<62)/bits/d:
			return 0, fmt.Errorf("shape %v overflows", dims)
		default:
			n *= d
		}
	}
	if zero {
		return 0, nil
	}
	return (n*bits + 7) / 8, nil
}
