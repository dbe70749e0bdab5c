package onnxio

import (
	"errors"
	"fmt"
	"math"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/cnnkit/cnnkit/onnxio/internal/onnxpb"
)

// The numbers of the TensorProto fields whose elements scan may leave out.
const (
	floatDataField  protowire.Number = 4
	rawDataField    protowire.Number = 9
	doubleDataField protowire.Number = 10
)

func (d *decoder) tensors(ps []*onnxpb.TensorProto) ([]*Tensor, error) {
	if len(ps) == 0 {
		return nil, nil
	}
	out := make([]*Tensor, len(ps))
	for i, p := range ps {
		ps[i] = nil
		t, err := d.tensor(p)
		if err != nil {
			return nil, err
		}
		out[i] = t
	}
	return out, nil
}

func (d *decoder) sparse(p *onnxpb.SparseTensorProto) (*SparseTensor, error) {
	s := &SparseTensor{Dims: p.Dims, Unknown: unknown(p)}
	var err error
	if p.Values != nil {
		if s.Values, err = d.tensor(p.Values); err != nil {
			return nil, inside(err, "sparse tensor values")
		}
	}
	if p.Indices != nil {
		if s.Indices, err = d.tensor(p.Indices); err != nil {
			return nil, inside(err, "sparse tensor indices")
		}
	}
	return s, nil
}

// tensor brings the elements of p, in whichever field they are, into Tensor.Raw.
func (d *decoder) tensor(p *onnxpb.TensorProto) (*Tensor, error) {
	t := &Tensor{
		Name:     p.GetName(),
		Type:     DataType(p.GetDataType()),
		Dims:     p.Dims,
		Doc:      p.GetDocString(),
		Metadata: properties(p.MetadataProps),
	}
	fail := func(err error) (*Tensor, error) { return nil, inside(err, "tensor "+quote(t.Name)) }
	if p.Segment != nil {
		return fail(&UnsupportedError{Op: "TensorProto", Reason: "a tensor in segments"})
	}
	if t.Type != Undefined && !t.Type.Valid() {
		return fail(&UnsupportedError{Op: "TensorProto", Reason: t.Type.String()})
	}
	fields, err := d.elements(p, t)
	if err != nil {
		return fail(err)
	}
	switch {
	case p.GetDataLocation() == onnxpb.TensorProto_EXTERNAL:
		err = t.external(p, fields)
	case len(p.ExternalData) > 0:
		err = malformed("external_data of a tensor whose data_location is not EXTERNAL")
	default:
		err = t.fill(fields)
	}
	if err != nil {
		return fail(err)
	}
	return t, nil
}

// element is one data field of a TensorProto that is set.
type element struct {
	field string
	count int64
	bytes []byte                 // elements already in their final form
	put   func(raw []byte) error // otherwise: writes them
}

// elements lists the data fields that are set, with what scan left out put back in place.
func (d *decoder) elements(p *onnxpb.TensorProto, t *Tensor) ([]element, error) {
	var out []element
	rest := p.ProtoReflect().GetUnknown()
	for len(rest) > 0 {
		num, typ, n := protowire.ConsumeField(rest)
		if n < 0 {
			return nil, malformed("broken unknown field")
		}
		if typ == protowire.VarintType && (num == rawDataField || num == floatDataField ||
			num == doubleDataField) {
			_, _, tagLen := protowire.ConsumeTag(rest)
			i, _ := protowire.ConsumeVarint(rest[tagLen:])
			out = append(out, cutElement(num, d.cuts[i]))
			d.cuts[i] = nil
		} else {
			t.Unknown = append(t.Unknown, rest[:n]...)
		}
		rest = rest[n:]
	}
	if p.RawData != nil {
		out = append(out, cutElement(rawDataField, p.RawData))
	}
	if p.FloatData != nil {
		out = append(out, cutElement(floatDataField, bytesOf(p.FloatData)))
	}
	if p.DoubleData != nil {
		out = append(out, cutElement(doubleDataField, bytesOf(p.DoubleData)))
	}
	if v := p.Int64Data; v != nil {
		out = append(out, element{field: "int64_data", count: int64(len(v)), bytes: bytesOf(v)})
	}
	if v := p.Int32Data; v != nil {
		e := element{field: "int32_data", count: int64(len(v))}
		if t.Type == Int32 {
			e.bytes = bytesOf(v)
		} else {
			e.put = func(raw []byte) error { return putInt32(raw, v, t.Type) }
		}
		out = append(out, e)
	}
	if v := p.Uint64Data; v != nil {
		e := element{field: "uint64_data", count: int64(len(v))}
		if t.Type == Uint64 {
			e.bytes = bytesOf(v)
		} else {
			e.put = func(raw []byte) error { return putUint32(raw, v) }
		}
		out = append(out, e)
	}
	if v := p.StringData; v != nil {
		t.Strings = v
		out = append(out, element{field: "string_data", count: int64(len(v))})
	}
	return out, nil
}

func cutElement(num protowire.Number, b []byte) element {
	switch num {
	case floatDataField:
		return element{field: "float_data", count: int64(len(b) / 4), bytes: b}
	case doubleDataField:
		return element{field: "double_data", count: int64(len(b) / 8), bytes: b}
	}
	return element{field: "raw_data", count: int64(len(b)), bytes: b}
}

// dataField is the typed field for elements of type t, and how many of its entries n elements take (the rules
// above float_data, int32_data, ... of TensorProto).
func dataField(t DataType, n int64) (field string, entries int64) {
	switch t {
	case Float:
		return "float_data", n
	case Complex64:
		return "float_data", 2 * n
	case Double:
		return "double_data", n
	case Complex128:
		return "double_data", 2 * n
	case Int64:
		return "int64_data", n
	case Uint32, Uint64:
		return "uint64_data", n
	case String:
		return "string_data", n
	case Uint4, Int4, Float4E2M1:
		return "int32_data", (n + 1) / 2
	case Uint2, Int2:
		return "int32_data", (n + 3) / 4
	}
	return "int32_data", n
}

// fill takes the elements over from the one field that is set.
func (t *Tensor) fill(fields []element) error {
	n, err := elementCount(t.Dims)
	if err != nil {
		return malformed("%v", err)
	}
	if len(fields) > 1 {
		return malformed("both %s and %s are set", fields[0].field, fields[1].field)
	}
	if t.Type == Undefined {
		return malformed("the element type is undefined")
	}
	size := int64(0) // of Raw
	if t.Type != String {
		if size, err = CheckedBytes(t.Type, t.Dims); err != nil {
			return malformed("%v", err)
		}
	}
	if len(fields) == 0 {
		if n != 0 {
			return malformed("no elements where the shape %v asks for %d", t.Dims, n)
		}
		if t.Type != String {
			t.Raw = []byte{}
		}
		return nil
	}
	want, entries := dataField(t.Type, n)
	f := fields[0]
	if f.field == "raw_data" {
		if t.Type == String {
			return malformed("strings in raw_data")
		}
		entries = size
	} else if f.field != want {
		return malformed("elements of type %v in %s", t.Type, f.field)
	}
	if f.count != entries {
		return malformed("%s holds %d where type %v and shape %v ask for %d", f.field, f.count, t.Type,
			t.Dims, entries)
	}
	switch {
	case t.Type == String:
		return nil
	case f.put != nil:
		t.Raw = make([]byte, size)
		if err := f.put(t.Raw); err != nil {
			return err
		}
	default:
		t.Raw = f.bytes
	}
	return t.checkBools()
}

// checkBools refuses a bool that is neither 0 nor 1: viewed as Go's bool it would break the language's rules.
func (t *Tensor) checkBools() error {
	if t.Type != Bool {
		return nil
	}
	for i, b := range t.Raw {
		if b > 1 {
			return malformed("element %d of a bool tensor is %d", i, b)
		}
	}
	return nil
}

// putInt32 narrows int32_data. Bits above the element's may be zero or, for signed values, the sign.
func putInt32(raw []byte, v []int32, t DataType) error {
	bits := t.Bits()
	lo, hi := int32(math.MinInt8), int32(math.MaxUint8)
	switch {
	case bits == 16:
		lo, hi = math.MinInt16, math.MaxUint16
	case bits == 6:
		lo, hi = 0, 63
	}
	for i, x := range v {
		if x < lo || x > hi {
			return malformed("int32_data[%d] is %d, beyond %v", i, x, t)
		}
		switch bits {
		case 16:
			raw[2*i], raw[2*i+1] = byte(x), byte(x>>8)
		case 6: // a stream of bits, the first element lowest; each entry is one element
			at, shift := i*6/8, i*6%8
			raw[at] |= byte(x << shift)
			if shift > 2 {
				raw[at+1] |= byte(x >> (8 - shift))
			}
		default:
			raw[i] = byte(x)
		}
	}
	return nil
}

func putUint32(raw []byte, v []uint64) error {
	for i, x := range v {
		if x > math.MaxUint32 {
			return malformed("uint64_data[%d] is %d, beyond uint32", i, x)
		}
		raw[4*i], raw[4*i+1], raw[4*i+2], raw[4*i+3] = byte(x), byte(x>>8), byte(x>>16), byte(x>>24)
	}
	return nil
}

// elementCount multiplies dims with a check for overflow.
func elementCount(dims []int64) (int64, error) { return CheckedBytes(Uint8, dims) }

func malformed(format string, args ...any) error {
	return &FormatError{Format: "onnx", Msg: fmt.Sprintf(format, args...)}
}

func quote(s string) string { return strconv.Quote(s) }

// inside says where in the file an error is: the outermost place first.
func inside(err error, where string) error {
	var f *FormatError
	if errors.As(err, &f) {
		if f.Where != "" {
			where += ": " + f.Where
		}
		f.Where = where
		return err
	}
	return fmt.Errorf("%s: %w", where, err)
}
