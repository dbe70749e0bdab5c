package serve

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
	"unsafe"

	"github.com/cnnkit/cnnkit/onnxio"
)

// fromJSON is a tensor from the array data of a request, valid JSON, flat or nested as the shape is.
func fromJSON(typ onnxio.DataType, dims []int64, data []byte) (*onnxio.Tensor, error) {
	if typ == onnxio.Float16 || typ == onnxio.BFloat16 {
		return nil, fmt.Errorf("%s has no form in JSON: send it as binary data", datatypeOf(typ))
	}
	t := &onnxio.Tensor{Type: typ, Dims: dims}
	bits := int64(8)
	if typ != onnxio.String {
		bits = int64(typ.Bits())
	}
	// An element and its comma take two bytes of text at least, so the text bounds what is allocated.
	n, err := onnxio.CheckedBytes(onnxio.Uint8, dims)
	if err != nil {
		return nil, err
	}
	if n > int64(len(data)+1)/2 {
		return nil, fmt.Errorf("the shape %v takes %d elements, which data cannot hold", dims, n)
	}
	if typ != onnxio.String {
		t.Raw = make([]byte, n*bits/8)
	} else {
		t.Strings = make([][]byte, 0, n)
	}
	r := elements{data: data, dims: dims, put: setter(t)}
	if err := r.read(); err != nil {
		return nil, err
	}
	if int64(r.n) != n {
		return nil, fmt.Errorf("data has %d elements: the shape %v takes %d", r.n, dims, n)
	}
	return t, t.Check()
}

// elements walks over the numbers of an array.
type elements struct {
	data   []byte
	dims   []int64
	put    func(i int, token []byte) error
	n      int     // elements so far
	counts []int64 // of the open arrays
	deep   int     // how many arrays the elements stand in; 0: not known yet
}

func (r *elements) read() error {
	for at := 0; at < len(r.data); {
		switch c := r.data[at]; c {
		case ' ', '\t', '\r', '\n', ',':
			at++
		case '[':
			if len(r.counts) > len(r.dims) {
				return fmt.Errorf("data is nested deeper than the shape %v", r.dims)
			}
			r.count()
			r.counts = append(r.counts, 0)
			at++
		case ']':
			if err := r.leave(); err != nil {
				return err
			}
			at++
		case '{':
			return fmt.Errorf("data holds an object")
		default:
			end := tokenEnd(r.data, at)
			if err := r.element(r.data[at:end]); err != nil {
				return err
			}
			at = end
		}
	}
	return nil
}

func (r *elements) count() {
	if k := len(r.counts); k > 0 {
		r.counts[k-1]++
	}
}

// leave closes an array; where data is nested as the shape is, it must have the dimension's length.
func (r *elements) leave() error {
	k := len(r.counts) - 1
	if k < 0 {
		return fmt.Errorf("data is no array")
	}
	n := r.counts[k]
	r.counts = r.counts[:k]
	if r.deep > 1 && k < len(r.dims) && n != r.dims[k] {
		return fmt.Errorf("data has an array of %d where the shape %v asks for %d", n, r.dims, r.dims[k])
	}
	return nil
}

func (r *elements) element(token []byte) error {
	deep := len(r.counts)
	if r.deep == 0 {
		if deep != 1 && deep != len(r.dims) {
			return fmt.Errorf("data is nested %d deep: flat, or %d deep as the shape %v, is wanted", deep,
				len(r.dims), r.dims)
		}
		r.deep = max(deep, 1)
	}
	if max(deep, 1) != r.deep {
		return fmt.Errorf("data is nested unevenly")
	}
	r.count()
	if err := r.put(r.n, token); err != nil {
		return fmt.Errorf("element %d: %w", r.n, err)
	}
	r.n++
	return nil
}

// between are the bytes that end a number or a word.
var between = [256]bool{' ': true, '\t': true, '\r': true, '\n': true, ',': true, '[': true, ']': true,
	'{': true, '}': true}

// tokenEnd is the end of the number, word or string that starts at a place of valid JSON.
func tokenEnd(data []byte, at int) int {
	if data[at] != '"' {
		for at < len(data) && !between[data[at]] {
			at++
		}
		return at
	}
	for at++; at < len(data) && data[at] != '"'; at++ {
		if data[at] == '\\' {
			at++
		}
	}
	return min(at+1, len(data))
}

// setter stores an element of t.
func setter(t *onnxio.Tensor) func(i int, token []byte) error {
	switch t.Type {
	case onnxio.Float:
		return numbers(t, func(s string) (float32, error) {
			v, err := strconv.ParseFloat(s, 32)
			return float32(v), err
		})
	case onnxio.Double:
		return numbers(t, func(s string) (float64, error) { return strconv.ParseFloat(s, 64) })
	case onnxio.Int8:
		return numbers(t, signed[int8](8))
	case onnxio.Int16:
		return numbers(t, signed[int16](16))
	case onnxio.Int32:
		return numbers(t, signed[int32](32))
	case onnxio.Int64:
		return numbers(t, signed[int64](64))
	case onnxio.Uint8:
		return numbers(t, unsigned[uint8](8))
	case onnxio.Uint16:
		return numbers(t, unsigned[uint16](16))
	case onnxio.Uint32:
		return numbers(t, unsigned[uint32](32))
	case onnxio.Uint64:
		return numbers(t, unsigned[uint64](64))
	case onnxio.Bool:
		return numbers(t, boolean)
	}
	return func(i int, token []byte) error {
		var s string
		if err := json.Unmarshal(token, &s); err != nil {
			return fmt.Errorf("BYTES wants strings, not %.40s", token)
		}
		if i >= cap(t.Strings) {
			return errSurplus
		}
		t.Strings = append(t.Strings, []byte(s))
		return nil
	}
}

var errSurplus = fmt.Errorf("one more than the shape holds")

func numbers[T onnxio.Element](t *onnxio.Tensor, parse func(string) (T, error)) func(int, []byte) error {
	to, name := onnxio.Data[T](t), datatypeOf(t.Type)
	return func(i int, token []byte) error {
		if i >= len(to) {
			return errSurplus
		}
		v, err := parse(unsafe.String(unsafe.SliceData(token), len(token))) // which keeps nothing of it
		if err != nil {
			return fmt.Errorf("%.40s is no %s", token, name)
		}
		to[i] = v
		return nil
	}
}

func signed[T ~int8 | ~int16 | ~int32 | ~int64](bits int) func(string) (T, error) {
	return func(s string) (T, error) { v, err := strconv.ParseInt(whole(s), 10, bits); return T(v), err }
}

func unsigned[T ~uint8 | ~uint16 | ~uint32 | ~uint64](bits int) func(string) (T, error) {
	return func(s string) (T, error) { v, err := strconv.ParseUint(whole(s), 10, bits); return T(v), err }
}

// whole spells a number without its fraction where that is 0 and the number exact: clients send
// 3.0 and 1e2 for integers.
func whole(s string) string {
	if !strings.ContainsAny(s, ".eE") {
		return s
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || v != math.Trunc(v) || math.Abs(v) > 1<<53 {
		return s
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

func boolean(s string) (bool, error) {
	if s != "true" && s != "false" {
		return false, strconv.ErrSyntax
	}
	return s == "true", nil
}

// appendJSON writes a tensor's elements as a flat array. Numbers that JSON cannot say are an error.
func appendJSON(b []byte, t *onnxio.Tensor) ([]byte, error) {
	switch t.Type {
	case onnxio.Float:
		return appendFloats(b, t, t.Float32s(), 32)
	case onnxio.Double:
		return appendFloats(b, t, onnxio.Data[float64](t), 64)
	case onnxio.Int8:
		return appendInts(b, onnxio.Data[int8](t)), nil
	case onnxio.Int16:
		return appendInts(b, onnxio.Data[int16](t)), nil
	case onnxio.Int32:
		return appendInts(b, onnxio.Data[int32](t)), nil
	case onnxio.Int64:
		return appendInts(b, onnxio.Data[int64](t)), nil
	case onnxio.Uint8:
		return appendInts(b, onnxio.Data[uint8](t)), nil
	case onnxio.Uint16:
		return appendInts(b, onnxio.Data[uint16](t)), nil
	case onnxio.Uint32:
		return appendInts(b, onnxio.Data[uint32](t)), nil
	case onnxio.Uint64:
		return appendArray(b, onnxio.Data[uint64](t), func(b []byte, v uint64) []byte {
			return strconv.AppendUint(b, v, 10)
		}), nil
	case onnxio.Bool:
		return appendArray(b, onnxio.Data[bool](t), strconv.AppendBool), nil
	case onnxio.String:
		for _, s := range t.Strings {
			if !utf8.Valid(s) {
				return nil, invalid(
					"output %q has strings that are not UTF-8, which JSON cannot say: ask for binary_data",
					t.Name)
			}
		}
		return appendArray(b, t.Strings, func(b []byte, s []byte) []byte {
			text, _ := json.Marshal(string(s))
			return append(b, text...)
		}), nil
	}
	return nil, invalid("output %q is %s, which has no form in JSON: ask for binary_data", t.Name,
		datatypeOf(t.Type))
}

func appendArray[T any](b []byte, values []T, one func([]byte, T) []byte) []byte {
	b = append(b, '[')
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = one(b, v)
	}
	return append(b, ']')
}

func appendInts[T ~int8 | ~int16 | ~int32 | ~int64 | ~uint8 | ~uint16 | ~uint32](b []byte,
	values []T) []byte {
	return appendArray(b, values, func(b []byte, v T) []byte { return strconv.AppendInt(b, int64(v), 10) })
}

func appendFloats[T float32 | float64](b []byte, t *onnxio.Tensor, values []T, bits int) ([]byte, error) {
	for _, v := range values {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return nil, invalid("output %q holds %v, which JSON cannot say: ask for binary_data", t.Name, v)
		}
	}
	return appendArray(b, values, func(b []byte, v T) []byte {
		return strconv.AppendFloat(b, float64(v), 'g', -1, bits)
	}), nil
}
