// Package npy reads and writes NumPy's .npy files (versions 1 to 3) as tensors: booleans, integers, float16,
// float32 and float64 of either byte order, row-major or Fortran order. A header is checked against the bytes
// there are before anything is allocated.
package npy

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cnnkit/cnnkit/onnxio"
)

const (
	magic     = "\x93NUMPY"
	maxHeader = 1 << 16
	maxRank   = 64
)

// types maps NumPy's type codes, without byte order, to element types.
var types = map[string]onnxio.DataType{
	"b1": onnxio.Bool, "i1": onnxio.Int8, "i2": onnxio.Int16, "i4": onnxio.Int32, "i8": onnxio.Int64,
	"u1": onnxio.Uint8, "u2": onnxio.Uint16, "u4": onnxio.Uint32, "u8": onnxio.Uint64,
	"f2": onnxio.Float16, "f4": onnxio.Float, "f8": onnxio.Double,
}

// Load reads a file.
func Load(path string) (*onnxio.Tensor, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &onnxio.FormatError{Format: "npy", Path: path, Msg: "not a regular file"}
	}
	t, err := Decode(f, info.Size())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

// Decode reads an array of a file of size bytes.
func Decode(r io.ReaderAt, size int64) (*onnxio.Tensor, error) {
	bad := func(format string, args ...any) (*onnxio.Tensor, error) {
		return nil, &onnxio.FormatError{Format: "npy", Msg: fmt.Sprintf(format, args...)}
	}
	in := io.NewSectionReader(r, 0, size)
	var start [12]byte
	n, err := io.ReadFull(in, start[:])
	if n < 10 || string(start[:6]) != magic {
		return bad("not a NumPy file")
	}
	length, offset := int64(binary.LittleEndian.Uint16(start[8:])), int64(10)
	switch start[6] {
	case 1:
	case 2, 3:
		if err != nil {
			return bad("the header is cut off")
		}
		length, offset = int64(binary.LittleEndian.Uint32(start[8:])), 12
	default:
		return bad("version %d.%d is unknown", start[6], start[7])
	}
	if length > maxHeader {
		return nil, &onnxio.LimitError{What: "bytes of a NumPy header", Got: length, Limit: maxHeader}
	}
	if length > size-offset {
		return bad("the header is cut off")
	}
	text := make([]byte, length)
	if _, err := r.ReadAt(text, offset); err != nil {
		return nil, &onnxio.FormatError{Format: "npy", Msg: "reading the header", Err: err}
	}
	h, err := parse(string(text))
	if err != nil {
		return nil, err
	}
	want, err := onnxio.CheckedBytes(h.elem, h.dims)
	if err != nil {
		return nil, &onnxio.FormatError{Format: "npy", Err: err}
	}
	if have := size - offset - length; have != want {
		return bad("shape %v of %s takes %d bytes, there are %d", h.dims, h.elem, want, have)
	}
	t := onnxio.NewTensor(h.elem, h.dims...)
	if _, err := io.ReadFull(io.NewSectionReader(r, offset+length, want), t.Raw); err != nil {
		return nil, &onnxio.FormatError{Format: "npy", Msg: "reading the elements", Err: err}
	}
	h.arrange(t)
	return t, nil
}

type header struct {
	elem    onnxio.DataType
	big     bool
	fortran bool
	dims    []int64
}

// The header is a Python dictionary; these are the three entries that every writer puts there.
var (
	descrEntry = regexp.MustCompile(`['"]descr['"]\s*:\s*['"]([<>=|]?)([a-zA-Z]\d+)['"]`)
	orderEntry = regexp.MustCompile(`['"]fortran_order['"]\s*:\s*(True|False)`)
	shapeEntry = regexp.MustCompile(`['"]shape['"]\s*:\s*\(([0-9L,\s]*)\)`)
)

func parse(text string) (h header, err error) {
	descr, order, shape := descrEntry.FindStringSubmatch(text), orderEntry.FindStringSubmatch(text),
		shapeEntry.FindStringSubmatch(text)
	if descr == nil || order == nil || shape == nil {
		return h, &onnxio.FormatError{Format: "npy",
			Msg: fmt.Sprintf("the header is not understood: %.100q", text)}
	}
	h.elem, h.big, h.fortran = types[descr[2]], descr[1] == ">", order[1] == "True"
	if h.elem == onnxio.Undefined {
		return h, &onnxio.FormatError{Format: "npy", Msg: fmt.Sprintf("element type %q is not supported",
			descr[1]+descr[2])}
	}
	for _, s := range strings.Split(shape[1], ",") {
		if s = strings.TrimRight(strings.TrimSpace(s), "L"); s == "" {
			continue
		}
		d, err := strconv.ParseInt(s, 10, 64)
		if err != nil || len(h.dims) == maxRank {
			return h, &onnxio.FormatError{Format: "npy", Msg: fmt.Sprintf("shape (%.100s)", shape[1])}
		}
		h.dims = append(h.dims, d)
	}
	return h, nil
}

// arrange puts elements that were big-endian or in Fortran order in place.
func (h header) arrange(t *onnxio.Tensor) {
	width := h.elem.Bits() / 8
	if h.big {
		for at := 0; at+width <= len(t.Raw); at += width {
			slices.Reverse(t.Raw[at : at+width])
		}
	}
	if h.elem == onnxio.Bool {
		for i, b := range t.Raw {
			if b != 0 {
				t.Raw[i] = 1
			}
		}
	}
	if !h.fortran || len(h.dims) < 2 || len(t.Raw) == 0 {
		return
	}
	src := bytes.Clone(t.Raw)
	index := make([]int64, len(h.dims))
	for at := 0; at < len(src); at += width { // source order: the first index runs fastest
		to := int64(0)
		for i, d := range h.dims {
			to = to*d + index[i]
		}
		copy(t.Raw[int(to)*width:int(to+1)*width], src[at:at+width])
		for i := range index {
			if index[i]++; index[i] < h.dims[i] {
				break
			}
			index[i] = 0
		}
	}
}

// Save writes a tensor, atomically.
func Save(path string, t *onnxio.Tensor) error {
	return onnxio.WriteFile(path, func(w io.Writer) error { return Encode(w, t) })
}

// Encode writes a tensor, little-endian and row-major, as numpy.save does.
func Encode(w io.Writer, t *onnxio.Tensor) error {
	code := ""
	for c, typ := range types {
		if typ == t.Type {
			code = c
		}
	}
	if code == "" {
		return &onnxio.UnsupportedError{Op: "npy",
			Reason: fmt.Sprintf("NumPy has no element type %s", t.Type)}
	}
	order := "<"
	if t.Type.Bits() == 8 {
		order = "|"
	}
	dims := make([]string, len(t.Dims))
	for i, d := range t.Dims {
		dims[i] = strconv.FormatInt(d, 10)
	}
	shape := strings.Join(dims, ", ")
	if len(dims) == 1 {
		shape += ","
	}
	text := fmt.Sprintf("{'descr': '%s%s', 'fortran_order': False, 'shape': (%s), }", order, code, shape)
	pad := 64 - (10+len(text)+1)%64
	text += strings.Repeat(" ", pad%64) + "\n"
	var start [10]byte
	copy(start[:], magic+"\x01\x00")
	binary.LittleEndian.PutUint16(start[8:], uint16(len(text)))
	for _, part := range [][]byte{start[:], []byte(text), t.Raw} {
		if _, err := w.Write(part); err != nil {
			return err
		}
	}
	return nil
}
