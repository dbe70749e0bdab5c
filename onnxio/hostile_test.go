package onnxio

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// isTyped says whether err is one of the package's error types.
func isTyped(err error) bool {
	var f *FormatError
	var u *UnsupportedError
	var l *LimitError
	return errors.As(err, &f) || errors.As(err, &u) || errors.As(err, &l)
}

// TestTruncation cuts files at every byte: a typed error or, where a message happens to end there, a model.
func TestTruncation(t *testing.T) {
	for _, name := range []string{"fields.onnx", "raw.onnx", "external.onnx", "valid.onnx"} {
		b := readFixture(t, name)
		step := 1
		if testing.Short() && len(b) > 10000 {
			step = 7
		}
		whole := 0
		for n := 0; n < len(b); n += step {
			m, err := decodeBytes(b[:n:n])
			switch {
			case err == nil && m != nil:
				whole++
			case !isTyped(err):
				t.Fatalf("%s cut at %d: %T %v", name, n, err, err)
			}
		}
		if whole > 60 {
			t.Errorf("%s: %d prefixes of %d decode", name, whole, len(b))
		}
	}
	for d := Float; d.Valid(); d++ {
		b := readFixture(t, "tensors/"+onnxName(d)+".pb")
		for n := range b {
			if x, err := DecodeTensor(b[:n]); err != nil && !isTyped(err) || err == nil && x.Check() != nil {
				t.Fatalf("%v cut at %d: %T %v", d, n, err, err)
			}
		}
	}
}

// TestShortReader gives a size that the reader does not have.
func TestShortReader(t *testing.T) {
	b := readFixture(t, "raw.onnx")
	for _, n := range []int{0, 1, 100, len(b) - 1} {
		_, err := Decode(bytes.NewReader(b[:n]), int64(len(b)), Limits{})
		if !isTyped(err) || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if _, err := Decode(bytes.NewReader(nil), -1, Limits{}); !isTyped(err) {
		t.Errorf("negative size: %v", err)
	}
}

// field is a length-delimited field.
func bytesField(num protowire.Number, body ...byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), body)
}

func cat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// tensorBytes is a TensorProto of the given type and dims with more fields behind.
func tensorBytes(typ DataType, dims []int64, more ...[]byte) []byte {
	var b []byte
	for _, d := range dims {
		b = protowire.AppendVarint(protowire.AppendTag(b, 1, protowire.VarintType), uint64(d))
	}
	b = protowire.AppendVarint(protowire.AppendTag(b, 2, protowire.VarintType), uint64(typ))
	return cat(append([][]byte{b}, more...)...)
}

func model(tensor []byte) []byte { return bytesField(7, bytesField(5, tensor...)...) }

func raw(n int) []byte { return bytesField(9, make([]byte, n)...) }

func external(kv ...string) []byte {
	var b []byte
	for i := 0; i < len(kv); i += 2 {
		b = append(b, bytesField(13, cat(bytesField(1, []byte(kv[i])...),
			bytesField(2, []byte(kv[i+1])...))...)...)
	}
	return append(b, 14<<3, 1)
}

type wireCase struct {
	name string
	b    []byte
	want string // what the error must say; "" when either verdict will do
}

// brokenWire lists messages that break the rules of protobuf or of TensorProto.
func brokenWire() []wireCase {
	nested := func(num protowire.Number, n int) []byte {
		var b []byte
		for range n {
			b = bytesField(num, b...)
		}
		return b
	}
	groups := func(n int) []byte {
		return cat(bytes.Repeat(protowire.AppendTag(nil, 100, protowire.StartGroupType), n),
			bytes.Repeat(protowire.AppendTag(nil, 100, protowire.EndGroupType), n))
	}
	graphs := []byte{}
	for range 40 { // graph > node > attribute > graph ...
		graphs = bytesField(6, bytesField(1, bytesField(5, graphs...)...)...)
	}
	return []wireCase{
		{"varint of 11 bytes", append(bytes.Repeat([]byte{0x80}, 10), 1), "varint longer than 10 bytes"},
		{"value of 11 bytes", cat([]byte{8}, bytes.Repeat([]byte{0xff}, 10), []byte{1}),
			"varint longer than 10 bytes"},
		{"field number 0", []byte{0, 0}, "field number 0"},
		{"huge field number", protowire.AppendVarint(nil, 1<<40), "field number"},
		{"wire type 6", []byte{14}, "wire type 6"},
		{"wire type 7", []byte{15}, "wire type 7"},
		{"length beyond the end", []byte{0x12, 5, 'a'}, "length 5 where 1 bytes remain"},
		{"length of 2^64-1", cat([]byte{0x12}, protowire.AppendVarint(nil, 1<<64-1)), "bytes remain"},
		{"ir_version as bytes", bytesField(1, 1), "wire type 2"},
		{"graph as varint", []byte{7 << 3, 1}, "wire type 0"},
		{"producer_name as fixed32", []byte{2<<3 | 5, 0, 0, 0, 0}, "wire type 5"},
		{"end of no group", protowire.AppendTag(nil, 100, protowire.EndGroupType), "did not start"},
		{"group without end", protowire.AppendTag(nil, 100, protowire.StartGroupType), "does not end"},
		{"group ends as another", cat(protowire.AppendTag(nil, 100, protowire.StartGroupType),
			protowire.AppendTag(nil, 101, protowire.EndGroupType)), "group 100 ends as 101"},
		{"groups too deep", groups(1000), "nesting of groups"},
		{"graphs too deep", bytesField(7, bytesField(1, bytesField(5, graphs...)...)...),
			"nesting of messages"},
		{"types too deep", bytesField(7, bytesField(11, bytesField(2, nested(4, 0)...)...)...), ""},
		{"token forged by wire type", model(tensorBytes(Float, []int64{1}, []byte{9 << 3, 0})),
			"wire type 0"},
		{"float_data token forged", model(tensorBytes(Float, []int64{1}, []byte{4 << 3, 0})), "wire type 0"},
		{"packed floats of 5 bytes", model(tensorBytes(Float, []int64{1}, bytesField(4, 0, 0, 0, 0, 0))),
			"packed elements"},
		{"packed varints cut", model(tensorBytes(Int64, []int64{1}, bytesField(7, 0x80))), "broken varint"},
		{"negative dim", model(tensorBytes(Float, []int64{-1}, raw(4))), "negative dimension"},
		{"dims overflow", model(tensorBytes(Float, []int64{1 << 40, 1 << 40}, raw(4))), "overflows"},
		{"too few bytes", model(tensorBytes(Float, []int64{2, 3}, raw(20))), "raw_data holds 20"},
		{"too many bytes", model(tensorBytes(Float, []int64{2, 3}, raw(28))), "raw_data holds 28"},
		{"huge dims, no data", model(tensorBytes(Float, []int64{1 << 40})), "no elements"},
		{"two data fields", model(tensorBytes(Float, []int64{1}, raw(4), bytesField(4, 0, 0, 0, 0))),
			"both raw_data and float_data"},
		{"large raw_data twice", model(tensorBytes(Float, []int64{500}, raw(2000), raw(2000))),
			"both raw_data and raw_data"},
		{"large and small raw_data", model(tensorBytes(Float, []int64{1}, raw(2000), raw(4))),
			"both raw_data and raw_data"},
		{"float in double_data", model(tensorBytes(Float, []int64{1}, bytesField(10, make([]byte, 8)...))),
			"in double_data"},
		{"string in raw_data", model(tensorBytes(String, []int64{1}, raw(4))), "strings in raw_data"},
		{"undefined type", model(tensorBytes(Undefined, []int64{1}, raw(4))), "undefined"},
		{"unknown type", model(tensorBytes(99, []int64{1}, raw(4))), "data type 99"},
		{"negative type", model(tensorBytes(-1, []int64{1}, raw(4))), "data type -1"},
		{"int8 of 256", model(tensorBytes(Int8, []int64{1}, bytesField(5, 0x80, 2))), "beyond int8"},
		{"float16 of 65536", model(tensorBytes(Float16, []int64{1}, bytesField(5, 0x80, 0x80, 4))),
			"beyond float16"},
		{"float6 of 64", model(tensorBytes(Float6E2M3, []int64{1}, bytesField(5, 64))), "beyond float6e2m3"},
		{"uint32 of 2^32", model(tensorBytes(Uint32, []int64{1}, bytesField(11, 0x80, 0x80, 0x80, 0x80,
			0x10))), "beyond uint32"},
		{"bool of 2", model(tensorBytes(Bool, []int64{1}, bytesField(9, 2))), "bool tensor is 2"},
		{"bool of 2 in int32_data", model(tensorBytes(Bool, []int64{1}, bytesField(5, 2))),
			"bool tensor is 2"},
		{"segment", model(tensorBytes(Float, []int64{1}, bytesField(3))), "segments"},
		{"external and raw", model(tensorBytes(Float, []int64{1}, raw(4), external("location", "x"))),
			"both external_data and raw_data"},
		{"external_data without location type",
			model(tensorBytes(Float, []int64{1}, external("location", "x")[:15])), ""},
	}
}

// TestWire: each broken message is refused with a word about what is wrong.
func TestWire(t *testing.T) {
	for _, c := range brokenWire() {
		t.Run(c.name, func(t *testing.T) {
			_, err := decodeBytes(c.b)
			if c.want == "" {
				if err != nil && !isTyped(err) {
					t.Errorf("%T %v", err, err)
				}
				return
			}
			if !isTyped(err) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// TestUnpackedTyped: repeated numbers may come one by one too.
func TestUnpackedTyped(t *testing.T) {
	one := protowire.AppendTag(nil, 7, protowire.VarintType)
	x, err := DecodeTensor(tensorBytes(Int64, []int64{3}, append(one, 5), bytesField(7, 6, 7)))
	if err != nil {
		t.Fatal(err)
	}
	if got := Data[int64](x); len(got) != 3 || got[0] != 5 || got[1] != 6 || got[2] != 7 {
		t.Errorf("got %v", got)
	}
}

// TestLimits: each limit is kept and named.
func TestLimits(t *testing.T) {
	b := readFixture(t, "fields.onnx")
	for name, lim := range map[string]Limits{
		"bytes of the file":   {FileBytes: 1000},
		"nesting of messages": {Depth: 3},
		"memory to decode":    {Overhead: 1},
	} {
		_, err := Decode(bytes.NewReader(b), int64(len(b)), lim)
		var l *LimitError
		if !errors.As(err, &l) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// allocated is the number of bytes that f allocates, freed or not.
func allocated(f func()) int64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc)
}

// TestMemory decodes models of weights and small files that would grow: all that is ever allocated, garbage
// included, stays below twice the file's size plus what the limits grant.
func TestMemory(t *testing.T) {
	const size = 32 << 20
	floats := func(typ DataType, field protowire.Number, width int64) []byte {
		body := make([]byte, size)
		return model(tensorBytes(typ, []int64{size / width}, bytesField(field, body...)))
	}
	attribute := bytesField(7,
		bytesField(1, bytesField(5,
			bytesField(5, tensorBytes(Float, []int64{size / 4}, raw(size))...)...)...)...)
	for _, c := range []struct {
		name     string
		b        []byte
		overhead int64
		refused  bool
	}{
		{"raw_data", floats(Float, 9, 4), 1 << 20, false},
		{"float_data", floats(Float, 4, 4), 1 << 20, false},
		{"double_data", floats(Double, 10, 8), 1 << 20, false},
		{"attribute", attribute, 1 << 20, false},
		{"int64_data of one byte each", floats(Int64, 7, 1), 1 << 20, true},
		{"int32_data of one byte each", floats(Int8, 5, 1), 1 << 20, true},
		{"empty nodes", bytesField(7, bytes.Repeat([]byte{0x0a, 0}, 4<<20)...), 64 << 20, true},
		{"empty attributes", bytesField(7, bytesField(1, bytes.Repeat([]byte{0x2a, 0}, 4<<20)...)...),
			64 << 20, true},
		{"empty initializers", bytesField(7, bytes.Repeat([]byte{0x2a, 0}, 4<<20)...), 64 << 20, true},
		{"empty strings", bytesField(7, bytesField(1, bytes.Repeat([]byte{0x0a, 0}, 4<<20)...)...),
			64 << 20, true},
		{"opsets", bytes.Repeat([]byte{8<<3 | 2, 0}, 4<<20), 64 << 20, true},
		{"dims of a type", bytesField(7,
			bytesField(11, bytesField(2,
				bytesField(1, bytesField(2, bytes.Repeat([]byte{0x0a, 0}, 4<<20)...)...)...)...)...),
			64 << 20, true},
		{"unpacked ints", bytesField(7,
			bytesField(1, bytesField(5, bytes.Repeat([]byte{8 << 3, 0}, 4<<20)...)...)...), 64 << 20, true},
		{"unknown fields", bytes.Repeat([]byte{0xa0, 0x06, 1}, 8<<20), 64 << 20, true},
		{"a few unknown fields", bytes.Repeat([]byte{0xa0, 0x06, 1}, 1<<20), 64 << 20, false},
		{"65536 nodes", bytesField(7, bytes.Repeat([]byte{0x0a, 0}, 1<<16)...), 64 << 20, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var m *Model
			var err error
			got := allocated(func() {
				m, err = Decode(bytes.NewReader(c.b), int64(len(c.b)), Limits{Overhead: c.overhead})
			})
			limit := 2*int64(len(c.b)) + c.overhead + 1<<20
			t.Logf("%d bytes allocated for a file of %d", got, len(c.b))
			if got > limit {
				t.Errorf("allocated %d bytes for a file of %d, limit %d", got, len(c.b), limit)
			}
			var l *LimitError
			if c.refused != errors.As(err, &l) || !c.refused && err != nil {
				t.Errorf("error %v", err)
			}
			runtime.KeepAlive(m)
		})
	}
}

// TestMemoryEstimate: what the scanner charges for a message is at least what decoding allocates for it.
func TestMemoryEstimate(t *testing.T) {
	const n = 1 << 15
	many := func(b ...byte) []byte { return bytes.Repeat(b, n) }
	node := func(b []byte) []byte { return bytesField(7, bytesField(1, b...)...) }
	attr := func(b []byte) []byte { return node(bytesField(5, b...)) }
	typ := func(b []byte) []byte { return bytesField(7, bytesField(11, bytesField(2, b...)...)...) }
	for name, b := range map[string][]byte{
		"nodes":        bytesField(7, many(0x0a, 0)...),
		"initializers": bytesField(7, bytes.Repeat(bytesField(5, tensorBytes(Float, nil, raw(4))...), n)...),
		"inputs":       bytesField(7, many(0x5a, 0)...),
		"values": bytesField(7, bytes.Repeat(bytesField(13, bytesField(2, bytesField(1)...)...),
			n)...),
		"annotations":   bytesField(7, many(14<<3|2, 0)...),
		"sparse":        bytesField(7, many(15<<3|2, 0)...),
		"opsets":        many(8<<3|2, 0),
		"metadata":      many(14<<3|2, 0),
		"full metadata": bytes.Repeat(bytesField(14, cat(bytesField(1, 'a'), bytesField(2, 'b'))...), n),
		"node inputs":   node(many(0x0a, 0)),
		"attributes":    node(many(0x2a, 0)),
		"ints":          attr(many(8<<3, 0)),
		"floats":        attr(many(7<<3|5, 0, 0, 0, 0)),
		"strings":       attr(bytes.Repeat(bytesField(9, 'a'), n)),
		"tensors":       attr(bytes.Repeat(bytesField(10, tensorBytes(Float, []int64{1}, raw(4))...), n)),
		"graphs":        attr(many(11<<3|2, 0)),
		"types":         attr(many(15<<3|2, 0)),
		"dims":          typ(bytesField(1, bytesField(2, many(0x0a, 0)...)...)),
		"named dims": typ(bytesField(1,
			bytesField(2, bytes.Repeat(bytesField(1, bytesField(2, 'N')...), n)...)...)),
		"tensor dims": model(tensorBytes(Float, []int64{0}, bytes.Repeat([]byte{8, 1}, n))),
		"string data": model(tensorBytes(String, []int64{n}, bytes.Repeat(bytesField(6, 'a'), n))),
		"int32 data":  model(tensorBytes(Int8, []int64{n}, bytesField(5, make([]byte, n)...))),
		"functions":   bytes.Repeat([]byte{0xca, 1, 0}, n),
		"training":    bytes.Repeat([]byte{0xa2, 1, 0}, n),
		"unknown":     bytes.Repeat([]byte{0xa0, 0x06, 1}, n),
	} {
		t.Run(name, func(t *testing.T) {
			s := &scanner{r: bytes.NewReader(b), size: int64(len(b)), lim: DefaultLimits(),
				window: make([]byte, 0, 1<<16)}
			if err := s.message(schema()["cnnkit.onnx.ModelProto"], 0, s.size, 0); err != nil {
				t.Fatal(err)
			}
			got := allocated(func() {
				if _, err := decodeBytes(b); err != nil {
					t.Error(err)
				}
			})
			t.Logf("%d bytes allocated, %d charged", got, s.cost+s.kept)
			if got > s.cost+s.kept+1<<18 {
				t.Errorf("%d bytes allocated, %d charged", got, s.cost+s.kept)
			}
		})
	}
}

// TestModelIsHeldOnce: the elements of a large tensor are allocated once, behind up to 2 MB that nobody
// touches and that bring them to the start of a huge page; writing them copies nothing.
func TestModelIsHeldOnce(t *testing.T) {
	const size = 32 << 20
	b := model(tensorBytes(Float, []int64{size / 4}, raw(size)))
	var m *Model
	if got := allocated(func() { m, _ = decodeBytes(b) }); got > size+3<<20 {
		t.Errorf("decoding allocates %d bytes for %d of elements", got, size)
	}
	got := allocated(func() {
		e := &encoder{}
		if err := e.model(m); err != nil {
			t.Error(err)
		}
		if err := e.write(io.Discard); err != nil {
			t.Error(err)
		}
	})
	if got > 1<<20 {
		t.Errorf("writing allocates %d bytes", got)
	}
}
