package convert

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"sort"
	"strconv"
	"unicode/utf8"

	"github.com/cnnkit/cnnkit/onnxio"
)

// maxHeader is the safetensors format's own cap on the JSON header.
const maxHeader = 100_000_000

var safeTypes = map[string]onnxio.DataType{
	"F64": onnxio.Double, "F32": onnxio.Float, "F16": onnxio.Float16, "BF16": onnxio.BFloat16,
	"I64": onnxio.Int64, "I32": onnxio.Int32, "I16": onnxio.Int16, "I8": onnxio.Int8,
	"U64": onnxio.Uint64, "U32": onnxio.Uint32, "U16": onnxio.Uint16, "U8": onnxio.Uint8, "BOOL": onnxio.Bool,
	"F8_E4M3": onnxio.Float8E4M3FN, "F8_E5M2": onnxio.Float8E5M2, "F8_E8M0": onnxio.Float8E8M0,
	"F8_E4M3FNUZ": onnxio.Float8E4M3FNUZ, "F8_E5M2FNUZ": onnxio.Float8E5M2FNUZ, "C64": onnxio.Complex64,
}

var safeNames = func() map[onnxio.DataType]string {
	m := map[onnxio.DataType]string{}
	for name, t := range safeTypes {
		m[t] = name
	}
	return m
}()

type safeEntry struct {
	name       string
	typ        string
	dims       []int64
	begin, end int64
}

// loadSafetensors reads: uint64 header length, JSON header, elements. Entries keep the header's order.
func loadSafetensors(r io.ReaderAt, size int64, lim Limits, key string) (*StateDict, error) {
	if key != "" {
		return nil, malformed(formatSafetensors, "", "holds one state dict, so there is no %q to choose", key)
	}
	var b [8]byte
	if err := readAt(r, b[:], 0, formatSafetensors, ""); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint64(b[:])
	if n > maxHeader {
		return nil, &onnxio.LimitError{What: "bytes of a safetensors header", Got: int64(min(n, 1<<62)),
			Limit: maxHeader}
	}
	if n > uint64(size-8) {
		return nil, malformed(formatSafetensors, "header", "%d bytes where %d remain", n, size-8)
	}
	head := make([]byte, n)
	if err := readAt(r, head, 8, formatSafetensors, "header"); err != nil {
		return nil, err
	}
	entries, err := parseHeader(head, lim)
	if err != nil {
		return nil, err
	}
	base := 8 + int64(n)
	if err := checkOffsets(entries, size-base); err != nil {
		return nil, err
	}
	if size-base > lim.MaxBytes {
		return nil, &onnxio.LimitError{What: "bytes of tensors", Got: size - base, Limit: lim.MaxBytes}
	}
	sd := &StateDict{}
	for _, e := range entries {
		t := &onnxio.Tensor{Name: e.name, Type: safeTypes[e.typ], Dims: e.dims,
			Raw: make([]byte, e.end-e.begin)}
		if err := readAt(r, t.Raw, base+e.begin, formatSafetensors, e.name); err != nil {
			return nil, err
		}
		if err := t.Check(); err != nil {
			return nil, &onnxio.FormatError{Format: formatSafetensors, Where: e.name, Msg: "tensor", Err: err}
		}
		sd.Set(e.name, t)
	}
	return sd, nil
}

// checkOffsets wants the tensors to fill the buffer, one after another.
func checkOffsets(entries []safeEntry, length int64) error {
	order := append([]safeEntry(nil), entries...)
	sort.SliceStable(order, func(i, j int) bool {
		if order[i].begin != order[j].begin {
			return order[i].begin < order[j].begin
		}
		return order[i].end < order[j].end
	})
	at := int64(0)
	for _, e := range order {
		t, ok := safeTypes[e.typ]
		if !ok {
			return &onnxio.UnsupportedError{Op: "safetensors dtype " + strconv.Quote(e.typ), Node: e.name}
		}
		want, err := onnxio.CheckedBytes(t, e.dims)
		switch {
		case err != nil:
			return malformed(formatSafetensors, e.name, "%v", err)
		case e.begin != at || e.end < e.begin:
			return malformed(formatSafetensors, e.name,
				"offsets [%d, %d] where %d must follow: a gap or an overlap", e.begin, e.end, at)
		case e.end-e.begin != want:
			return malformed(formatSafetensors, e.name, "%d bytes where %v %v asks for %d", e.end-e.begin,
				t, e.dims, want)
		}
		at = e.end
	}
	if at != length {
		return malformed(formatSafetensors, "", "tensors end at %d of %d bytes", at, length)
	}
	return nil
}

func parseHeader(head []byte, lim Limits) ([]safeEntry, error) {
	if len(head) == 0 || head[0] != '{' {
		return nil, malformed(formatSafetensors, "header", "does not start with {")
	}
	if !utf8.Valid(head) {
		return nil, malformed(formatSafetensors, "header", "is not UTF-8")
	}
	p := newJSON(head, formatSafetensors, "header")
	var out []safeEntry
	err := p.object(func(key string) error {
		if key == "__metadata__" {
			return p.metadata()
		}
		if int64(len(out)) >= lim.MaxEntries {
			return &onnxio.LimitError{What: "tensors of a state dict", Got: lim.MaxEntries + 1,
				Limit: lim.MaxEntries}
		}
		e, err := p.entry(key)
		out = append(out, e)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, p.end(head)
}

func (p *jsonParser) entry(name string) (safeEntry, error) {
	e := safeEntry{name: name}
	fields := 0
	err := p.object(func(key string) (err error) {
		fields++
		switch key {
		case "dtype":
			e.typ, err = p.str()
		case "shape":
			e.dims, err = p.ints(64)
		case "data_offsets":
			var o []int64
			if o, err = p.ints(2); err == nil && len(o) != 2 {
				err = p.bad("%q: data_offsets must be two numbers", name)
			}
			if err == nil {
				e.begin, e.end = o[0], o[1]
			}
		default:
			err = p.bad("%q: unknown field %.40q", name, key)
		}
		return err
	})
	if err == nil && fields != 3 {
		err = p.bad("%q: must have dtype, shape and data_offsets", name)
	}
	return e, err
}

// WriteSafetensors writes a state dict as safetensors: keys sorted, elements ordered by width (widest first)
// and then by key, so that each is aligned, metadata format=pt. Tied weights are written once for each key.
func WriteSafetensors(w io.Writer, sd *StateDict) error {
	if err := sd.check(); err != nil {
		return err
	}
	entries := append([]Entry(nil), sd.entries...)
	sort.Slice(entries, func(i, j int) bool { return entries[i].Name < entries[j].Name })
	layout := append([]Entry(nil), entries...)
	sort.SliceStable(layout, func(i, j int) bool {
		return layout[i].Tensor.Type.Bits() > layout[j].Tensor.Type.Bits()
	})
	offset, at := map[string]int64{}, int64(0)
	for _, e := range layout {
		offset[e.Name] = at
		at += int64(len(e.Tensor.Raw))
	}
	head := []byte(`{"__metadata__":{"format":"pt"}`)
	for _, e := range entries {
		typ, ok := safeNames[e.Tensor.Type]
		if !ok {
			return &onnxio.UnsupportedError{Op: "safetensors dtype " + e.Tensor.Type.String(), Node: e.Name}
		}
		if e.Name == "__metadata__" || !utf8.ValidString(e.Name) {
			return fmt.Errorf("safetensors: %q cannot be a key", e.Name)
		}
		name, err := json.Marshal(e.Name)
		if err != nil {
			return err
		}
		dims, err := json.Marshal(append([]int64{}, e.Tensor.Dims...))
		if err != nil {
			return err
		}
		o := offset[e.Name]
		head = fmt.Appendf(head, `,%s:{"dtype":"%s","shape":%s,"data_offsets":[%d,%d]}`, name, typ, dims, o,
			o+int64(len(e.Tensor.Raw)))
	}
	head = append(head, '}')
	for len(head)%8 != 0 {
		head = append(head, ' ')
	}
	if len(head) > maxHeader {
		return &onnxio.LimitError{What: "bytes of a safetensors header", Got: int64(len(head)),
			Limit: maxHeader}
	}
	out := bufio.NewWriterSize(w, 1<<16)
	out.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(head))))
	out.Write(head)
	for _, e := range layout {
		out.Write(e.Tensor.Raw)
	}
	return out.Flush() // a bufio.Writer keeps its first error
}
