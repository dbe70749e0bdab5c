package onnxio

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/cnnkit/cnnkit/internal/pages"
)

// scanner walks the wire format of a message before anything is made of it. It runs twice over the input:
// first checking, allocating nothing and adding up the memory that decoding would take; then copying
// everything except the elements of large tensors, which go straight from the file into their own aligned
// memory. So a model of weights is held once, not once as file and once as tensors.
//
// In the copy a tensor's elements are replaced by a token: the same field number with a varint, the index of
// the piece left out. Since the first pass refuses wrong wire types of known fields, no input can forge a
// token, and the protobuf runtime hands it on among the unknown fields.
type scanner struct {
	r      io.ReaderAt
	size   int64
	lim    Limits
	window []byte // r's bytes from windowAt on
	start  int64  // offset of window
	reach  int64  // bytes to read at once: it grows where one window follows the other
	path   []string
	noCut  int // > 0 inside training_info, which is kept encoded

	cost int64 // memory of what decoding makes, tensor elements left out included
	kept int64 // bytes of the copy
	copy bool
	out  []byte
	cuts [][]byte

	left int64  // bytes of the elements that are still to be left out and share memory, in cache lines
	room []byte // where the next ones go
}

// Small tensors share memory, so that weights lie in few pages. Larger ones have their own.
const (
	sharedBytes = 64 << 20
	ownBytes    = 16 << 20
)

// minWindow is what is read at once behind elements that were left out.
const minWindow = 4 << 10

// cutBytes is the length from which elements are left out of the copy.
const cutBytes = 1024

// scan checks the message of type m that r holds and gives its bytes with the elements
// of large tensors left out.
func scan(r io.ReaderAt, size int64, m *message, lim Limits) (out []byte, cuts [][]byte, err error) {
	if size < 0 {
		return nil, nil, &FormatError{Format: "onnx", Msg: "negative size"}
	}
	if size > lim.FileBytes {
		return nil, nil, &LimitError{What: "bytes of the file", Got: size, Limit: lim.FileBytes}
	}
	s := &scanner{r: r, size: size, lim: lim, window: make([]byte, 0, min(size, 64<<10)), cost: m.cost}
	if err := s.message(m, 0, size, 0); err != nil {
		return nil, nil, err
	}
	if err := s.afford(0); err != nil {
		return nil, nil, err
	}
	s.copy, s.out = true, make([]byte, 0, s.kept)
	if err := s.message(m, 0, size, 0); err != nil {
		return nil, nil, err
	}
	return s.out, s.cuts, nil
}

// afford refuses when decoding would take more than twice the file and the overhead that the limits grant.
func (s *scanner) afford(more int64) error {
	if s.copy {
		return nil
	}
	s.cost += more
	if limit := 2*s.size + s.lim.Overhead; s.cost+s.kept > limit {
		return &LimitError{What: "memory to decode a file of " + fmt.Sprint(s.size) + " bytes",
			Got: s.cost + s.kept, Limit: limit}
	}
	return nil
}

func (s *scanner) errorf(off int64, format string, args ...any) error {
	return &FormatError{Format: "onnx", Where: strings.Join(s.path, "."),
		Msg: fmt.Sprintf(format, args...) + fmt.Sprintf(" at byte %d", off)}
}

// peek gives up to n bytes at off, fewer only where end comes first.
func (s *scanner) peek(off, end int64, n int) ([]byte, error) {
	n = int(min(int64(n), end-off))
	if off < s.start || off+int64(n) > s.start+int64(len(s.window)) {
		if s.reach *= 2; off < s.start || off > s.start+int64(len(s.window)) {
			s.reach = minWindow
		}
		s.reach = min(max(s.reach, minWindow), int64(cap(s.window)))
		want := int(min(max(s.reach, int64(n)), s.size-off))
		got, err := s.r.ReadAt(s.window[:want], off)
		if got < n {
			s.window = s.window[:0]
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, &FormatError{Format: "onnx", Msg: fmt.Sprintf("reading at byte %d", off), Err: err}
		}
		s.window, s.start = s.window[:got], off
	}
	return s.window[off-s.start:][:n], nil
}

// varint reads a varint of at most 10 bytes and gives the offset after it.
func (s *scanner) varint(off, end int64) (v uint64, next int64, err error) {
	b, err := s.peek(off, end, 10)
	if err != nil {
		return 0, 0, err
	}
	v, n := protowire.ConsumeVarint(b)
	if n < 0 {
		if len(b) < 10 {
			return 0, 0, s.errorf(off, "truncated varint")
		}
		return 0, 0, s.errorf(off, "varint longer than 10 bytes")
	}
	return v, off + int64(n), nil
}

// tag reads a field number and wire type.
func (s *scanner) tag(off, end int64) (num protowire.Number, typ protowire.Type, next int64, err error) {
	v, next, err := s.varint(off, end)
	if err != nil {
		return 0, 0, 0, err
	}
	if n := v >> 3; n < 1 || n > uint64(protowire.MaxValidNumber) {
		return 0, 0, 0, s.errorf(off, "field number %d", n)
	}
	if v&7 > 5 {
		return 0, 0, 0, s.errorf(off, "wire type %d", v&7)
	}
	return protowire.Number(v >> 3), protowire.Type(v & 7), next, nil
}

// length reads the length of a field and checks it against what remains.
func (s *scanner) length(off, end int64) (n, next int64, err error) {
	v, next, err := s.varint(off, end)
	if err != nil {
		return 0, 0, err
	}
	if v > uint64(end-next) {
		return 0, 0, s.errorf(off, "length %d where %d bytes remain", v, end-next)
	}
	return int64(v), next, nil
}

// message walks the fields of m in [off, end).
func (s *scanner) message(m *message, off, end int64, depth int) error {
	if depth > s.lim.Depth {
		return &LimitError{What: "nesting of messages", Got: int64(depth), Limit: int64(s.lim.Depth)}
	}
	for off < end {
		num, typ, next, err := s.tag(off, end)
		if err != nil {
			return err
		}
		f := m.get(num)
		if f == nil {
			if next, err = s.skip(num, typ, next, end, depth); err != nil {
				return err
			}
			if err = s.keep(off, next); err == nil {
				// the runtime collects them in a slice that grows field by field
				err = s.afford((growth + 1) * (next - off))
			}
		} else {
			s.path = append(s.path, f.name)
			next, err = s.field(f, num, typ, off, next, end, depth)
			s.path = s.path[:len(s.path)-1]
		}
		if err != nil {
			return err
		}
		off = next
	}
	return nil
}

// field walks one field whose tag is at off and whose value is at val, and gives the offset after it.
func (s *scanner) field(f *field, num protowire.Number, typ protowire.Type, off, val, end int64,
	depth int) (int64, error) {
	packed := f.repeated && typ == protowire.BytesType && f.wire != protowire.BytesType
	if typ != f.wire && !packed {
		return 0, s.errorf(off, "field %s has wire type %d", f.name, typ)
	}
	if typ != protowire.BytesType {
		next, err := s.skip(num, typ, val, end, depth)
		if err != nil {
			return 0, err
		}
		if err := s.keep(off, next); err != nil {
			return 0, err
		}
		return next, s.afford(growth*8 + 8)
	}
	n, body, err := s.length(val, end)
	if err != nil {
		return 0, err
	}
	next := body + n
	switch {
	case f.sub != nil:
		return next, s.submessage(f, off, val, body, next, depth)
	case packed:
		if err := s.packed(f, body, next); err != nil {
			return 0, err
		}
	default:
		if err := s.afford(n + growth*24 + 24); err != nil { // a string or []byte, in a slice at worst
			return 0, err
		}
	}
	if f.cut && n >= cutBytes && s.noCut == 0 {
		return next, s.leaveOut(num, body, n)
	}
	return next, s.keep(off, next)
}

// packed checks the elements of a packed field and charges for them.
func (s *scanner) packed(f *field, off, end int64) error {
	switch f.wire {
	case protowire.Fixed32Type, protowire.Fixed64Type:
		width := int64(4)
		if f.wire == protowire.Fixed64Type {
			width = 8
		}
		if (end-off)%width != 0 {
			return s.errorf(off, "%d bytes of packed elements of %d", end-off, width)
		}
		return s.afford(end - off + 32)
	}
	count := int64(0)
	for off < end {
		b, err := s.peek(off, end, 4096)
		if err != nil {
			return err
		}
		for used := 0; used < len(b); count++ {
			_, n := protowire.ConsumeVarint(b[used:])
			if n < 0 {
				if int64(len(b)) < end-off && len(b)-used < 10 { // it goes on after this piece
					b = b[:used]
					break
				}
				return s.errorf(off+int64(used), "broken varint")
			}
			used += n
		}
		off += int64(len(b))
	}
	return s.afford(8*count + 32)
}

// submessage walks a message field; in the copy its length shrinks by what its tensors leave out. The new
// length is written in as many bytes as the old one took.
func (s *scanner) submessage(f *field, off, val, body, end int64, depth int) error {
	if err := s.afford(f.sub.cost); err != nil {
		return err
	}
	if f.sub.name == "TrainingInfoProto" {
		s.noCut++
		if err := s.afford(2 * (end - body)); err != nil { // encoded again
			return err
		}
		defer func() { s.noCut-- }()
	}
	if err := s.keep(off, body); err != nil {
		return err
	}
	at := len(s.out)
	if err := s.message(f.sub, body, end, depth+1); err != nil {
		return err
	}
	if s.copy {
		n, width := len(s.out)-at, int(body-val)
		for i := range width {
			s.out[at-width+i] = byte(n>>(7*i))&0x7f | 0x80
		}
		s.out[at-1] &= 0x7f
	}
	return nil
}

// keep takes [off, end) into the copy.
func (s *scanner) keep(off, end int64) error {
	if !s.copy {
		s.kept += end - off
		return nil
	}
	for off < end {
		b, err := s.peek(off, end, cap(s.window))
		if err != nil {
			return err
		}
		s.out = append(s.out, b...)
		off += int64(len(b))
	}
	return nil
}

// leaveOut reads n bytes of elements at off into memory of their own and puts a token in their place.
func (s *scanner) leaveOut(num protowire.Number, off, n int64) error {
	if !s.copy {
		s.kept += 8
		if n < ownBytes {
			s.left += roundUp(n)
		}
		return nil
	}
	data := s.memory(n)
	if got, err := s.r.ReadAt(data, off); int64(got) < n {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return &FormatError{Format: "onnx", Msg: fmt.Sprintf("reading at byte %d", off), Err: err}
	}
	s.out = protowire.AppendTag(s.out, num, protowire.VarintType)
	s.out = protowire.AppendVarint(s.out, uint64(len(s.cuts)))
	s.cuts = append(s.cuts, data)
	return nil
}

// memory gives n bytes for elements.
func (s *scanner) memory(n int64) []byte {
	if n >= ownBytes {
		return pages.Aligned(int(n))
	}
	if int64(len(s.room)) < roundUp(n) { // at least n: the file may have changed since it was checked
		s.room = pages.Aligned(int(max(roundUp(n), min(sharedBytes, s.left))))
	}
	data := s.room[:n:n]
	s.room = s.room[roundUp(n):]
	s.left -= roundUp(n)
	return data
}

// roundUp rounds n up to whole cache lines.
func roundUp(n int64) int64 { return (n + pages.Line - 1) &^ (pages.Line - 1) }

// skip passes over the value of a field of type typ, groups included, and gives the offset after it.
func (s *scanner) skip(num protowire.Number, typ protowire.Type, off, end int64, depth int) (int64, error) {
	switch typ {
	case protowire.VarintType:
		_, next, err := s.varint(off, end)
		return next, err
	case protowire.BytesType:
		n, next, err := s.length(off, end)
		return next + n, err
	case protowire.Fixed32Type, protowire.Fixed64Type:
		width := int64(4)
		if typ == protowire.Fixed64Type {
			width = 8
		}
		if end-off < width {
			return 0, s.errorf(off, "truncated field %d", num)
		}
		return off + width, nil
	case protowire.StartGroupType:
		return s.group(num, off, end, depth+1)
	}
	return 0, s.errorf(off, "end of a group that did not start")
}

// group passes over the fields of group num up to its end.
func (s *scanner) group(num protowire.Number, off, end int64, depth int) (int64, error) {
	if depth > s.lim.Depth {
		return 0, &LimitError{What: "nesting of groups", Got: int64(depth), Limit: int64(s.lim.Depth)}
	}
	for off < end {
		n, typ, next, err := s.tag(off, end)
		if err != nil {
			return 0, err
		}
		if typ == protowire.EndGroupType {
			if n != num {
				return 0, s.errorf(off, "group %d ends as %d", num, n)
			}
			return next, nil
		}
		if off, err = s.skip(n, typ, next, end, depth); err != nil {
			return 0, err
		}
	}
	return 0, s.errorf(off, "group %d does not end", num)
}
