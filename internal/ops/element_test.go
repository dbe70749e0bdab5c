package ops

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"os"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// TestNarrowFloats compares every code of every narrow float, and the rounding of what lies between them,
// with ml_dtypes: testdata/ops/elements.py.
func TestNarrowFloats(t *testing.T) {
	b, err := os.ReadFile("../../testdata/ops/elements.json")
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]struct {
		Values []uint32
		Casts  [][3]uint32
	}
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	for typ := onnxio.Float; typ.Valid(); typ++ {
		if !narrowFloats.Has(typ) {
			continue
		}
		want := all[typ.String()]
		if len(want.Values) != 1<<typ.Bits() {
			t.Fatalf("%v: %d values", typ, len(want.Values))
		}
		for code, bits := range want.Values {
			got := casted(t, packOne(typ, byte(code)), onnxio.Float, true).Float32s()[0]
			if w := math.Float32frombits(bits); math.Float32bits(got) != bits && !(got != got && w != w) {
				t.Errorf("%v code %#x is %g, want %g", typ, code, got, w)
			}
		}
		for _, c := range want.Casts {
			x := onnxio.Scalar(onnxio.Float, math.Float32frombits(c[0]))
			for i, saturate := range []bool{true, false} {
				got, w := casted(t, x, typ, saturate).Raw[0], byte(c[i+1])
				if got != w && !(isNaNCode(typ, got) && isNaNCode(typ, w)) {
					t.Errorf("%g to %v, saturate %t: got %#x, want %#x", x.Float32s()[0], typ,
						saturate, got, w)
				}
			}
		}
	}
}

func isNaNCode(t onnxio.DataType, code byte) bool {
	f := narrowFormats[t]
	return f.values[code] != f.values[code]
}

// packOne is a scalar of a narrow type.
func packOne(t onnxio.DataType, code byte) *onnxio.Tensor {
	return &onnxio.Tensor{Type: t, Dims: []int64{}, Raw: []byte{code}}
}

// casted runs Cast.
func casted(t *testing.T, x *onnxio.Tensor, to onnxio.DataType, saturate bool,
	attrs ...*onnxio.Attribute) *onnxio.Tensor {
	t.Helper()
	attrs = append(attrs, onnxio.IntAttr("to", int64(to)), flagAttr("saturate", saturate))
	return evalNode(t, "Cast", 25, []*onnxio.Tensor{x}, attrs...)
}

// evalNode binds, infers and runs one node with one output.
func evalNode(t *testing.T, op string, opset int64, in []*onnxio.Tensor,
	attrs ...*onnxio.Attribute) *onnxio.Tensor {
	t.Helper()
	data, values := map[string]*onnxio.Tensor{}, map[string]*Value{}
	n := &onnxio.Node{OpType: op, Outputs: []string{"y"}, Attrs: attrs}
	for i, x := range in {
		name := ""
		if x != nil {
			name = fmt.Sprint("x", i)
			data[name], values[name] = x, constValue(x)
		}
		n.Inputs = append(n.Inputs, name)
	}
	bound, err := Bind(n, opset)
	if err == nil {
		err = runNode(bound, data, values)
	}
	if err != nil {
		t.Fatal(err)
	}
	return data["y"]
}

// TestScales casts to float8e8m0 in its three roundings; the ends and what has no power of two follow the
// tables of Cast.
func TestScales(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	least := float32(math.Ldexp(1, -127))
	for _, c := range []struct {
		x                 float32
		up, down, nearest byte
		wrapped           byte // nearest, saturate 0
	}{
		{1, 127, 127, 127, 127}, {1.5, 128, 127, 128, 128}, {1.4999999, 128, 127, 127, 127}, {3, 129,
			128, 129, 129},
		{0.124, 124, 123, 124, 124}, {0, 0, 0, 0, 255}, {least, 0, 0, 0, 0}, {least * 1.25, 1, 0, 0,
			0}, {least / 2, 0, 0, 0, 255},
		{1.7014118e38, 254, 254, 254, 254}, {math.MaxFloat32, 254, 254, 254, 255}, {inf, 254, 254, 254,
			255}, {nan, 255, 255, 255, 255},
	} {
		x := onnxio.Scalar(onnxio.Float, c.x)
		for mode, want := range map[string]byte{"up": c.up, "down": c.down, "nearest": c.nearest} {
			if got := casted(t, x, onnxio.Float8E8M0, true, onnxio.StringAttr("round_mode",
				mode)).Raw[0]; got != want {
				t.Errorf("%g rounded %s: got %d, want %d", c.x, mode, got, want)
			}
		}
		if got := casted(t, x, onnxio.Float8E8M0, false, onnxio.StringAttr("round_mode",
			"nearest")).Raw[0]; got != c.wrapped {
			t.Errorf("%g without saturate: got %d, want %d", c.x, got, c.wrapped)
		}
	}
}

// TestHalvesFromDoubles rounds once: float32 in between would round these ties twice.
func TestHalvesFromDoubles(t *testing.T) {
	for _, c := range []struct {
		x    float64
		to   onnxio.DataType
		want float64
	}{
		{1 + math.Ldexp(1, -11) + math.Ldexp(1, -40), onnxio.Float16, 1 + math.Ldexp(1, -10)},
		{1 + math.Ldexp(1, -11) - math.Ldexp(1, -40), onnxio.Float16, 1},
		{1 + math.Ldexp(1, -11), onnxio.Float16, 1},
		{-1 - math.Ldexp(1, -8) - math.Ldexp(1, -40), onnxio.BFloat16, -1 - math.Ldexp(1, -7)},
		{1e-30, onnxio.Float16, 0}, {1e300, onnxio.Float16, math.Inf(1)}, {65519.999, onnxio.Float16, 65504},
	} {
		got := casted(t, onnxio.Scalar(onnxio.Double, c.x), c.to, true)
		if v := halfValue(onnxio.Data[uint16](got)[0], c.to); v != c.want {
			t.Errorf("%v to %v: got %v, want %v", c.x, c.to, v, c.want)
		}
	}
}

// bitsOf packs codes independently of the code under test: as one number whose lowest bits are the first
// element.
func bitsOf(t onnxio.DataType, codes []byte) []byte {
	sum := new(big.Int)
	for i, c := range codes {
		sum.Or(sum, new(big.Int).Lsh(big.NewInt(int64(c)), uint(i*t.Bits())))
	}
	out := sum.FillBytes(make([]byte, (len(codes)*t.Bits()+7)/8))
	for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
		out[i], out[j] = out[j], out[i]
	}
	return out
}

// TestNarrowIntegers casts every code of the integers below a byte to int32 and back, and what is beyond them
// to its low bits.
func TestNarrowIntegers(t *testing.T) {
	for _, typ := range []onnxio.DataType{onnxio.Int4, onnxio.Uint4, onnxio.Int2, onnxio.Uint2} {
		n := 1 << typ.Bits()
		codes, numbers := make([]byte, 5*n+1), make([]int32, 5*n+1)
		for i := range codes {
			codes[i], numbers[i] = byte(i%n), int32(i%n)
			if (typ == onnxio.Int4 || typ == onnxio.Int2) && i%n >= n/2 {
				numbers[i] -= int32(n)
			}
		}
		x := &onnxio.Tensor{Type: typ, Dims: []int64{int64(len(codes))}, Raw: bitsOf(typ, codes)}
		if err := compareTensors(casted(t, x, onnxio.Int32, true), onnxio.FromSlice(onnxio.Int32, numbers), 0,
			0); err != nil {
			t.Errorf("%v to int32: %v", typ, err)
		}
		for i := range numbers {
			numbers[i] += int32((i%5 - 2) * n)
		}
		if err := compareTensors(casted(t, onnxio.FromSlice(onnxio.Int32, numbers), typ, true), x, 0,
			0); err != nil {
			t.Errorf("int32 to %v: %v", typ, err)
		}
	}
}

// TestCastStages casts more elements than one stage holds: float32 to each narrow type and back keeps its
// numbers.
func TestCastStages(t *testing.T) {
	x := onnxio.NewTensor(onnxio.Float, 2*stage+3)
	for i := range x.Float32s() {
		x.Float32s()[i] = float32(i * 7 % 2) // 0 and 1 are in every type but float8e8m0
	}
	for typ := onnxio.Float; typ.Valid(); typ++ {
		if !narrows.Has(typ) && !isHalf(typ) && typ != onnxio.String || typ == onnxio.Float8E8M0 {
			continue
		}
		y := casted(t, x, typ, true)
		if typ == onnxio.Int2 { // 1 is its greatest
			y = casted(t, y, onnxio.Float4E2M1, true)
		}
		if err := compareTensors(casted(t, y, onnxio.Float, true), x, 0, 0); err != nil {
			t.Errorf("%v: %v", typ, err)
		}
	}
}

// TestCastText casts numbers to strings as NumPy prints them, and strings to numbers.
func TestCastText(t *testing.T) {
	text := func(x *onnxio.Tensor) (out []string) {
		for _, s := range casted(t, x, onnxio.String, true).Strings {
			out = append(out, string(s))
		}
		return out
	}
	inf := float32(math.Inf(1))
	for _, c := range []struct {
		x    *onnxio.Tensor
		want string
	}{
		{onnxio.Floats([]float32{0.47892547, 1, -1.5, 100, 1e-7, 1e16, 123456.79, 0, inf, -inf,
			float32(math.NaN())}),
			"[0.47892547 1.0 -1.5 100.0 1e-07 1e+16 123456.79 0.0 inf -inf nan]"},
		{onnxio.FromSlice(onnxio.Double, []float64{0.1, 314.15926, 0.0001, 1e300}),
			"[0.1 314.15926 0.0001 1e+300]"},
		{onnxio.FromSlice(onnxio.Float16, []uint16{0x2e66, 0x3c00, 0x7bff}), "[0.1 1.0 65500.0]"},
		{onnxio.FromSlice(onnxio.Uint64, []uint64{math.MaxUint64}), "[18446744073709551615]"},
		{onnxio.FromSlice(onnxio.Int8, []int8{-128, 7}), "[-128 7]"},
		{onnxio.FromSlice(onnxio.Bool, []bool{true, false}), "[True False]"},
		{&onnxio.Tensor{Type: onnxio.Int4, Dims: []int64{3}, Raw: []byte{0xf8, 0x07}}, "[-8 -1 7]"},
	} {
		if got := fmt.Sprint(text(c.x)); got != c.want {
			t.Errorf("%v: got %s, want %s", c.x.Type, got, c.want)
		}
	}
	words := func(s ...string) *onnxio.Tensor {
		x := onnxio.NewTensor(onnxio.String, int64(len(s)))
		for i := range s {
			x.Strings[i] = []byte(s[i])
		}
		return x
	}
	for _, c := range []struct {
		x, want *onnxio.Tensor
	}{
		{words("3.14", "1e-5", "+INF", "-inf", "nan", "1E8"),
			onnxio.Floats([]float32{3.14, 1e-5, inf, -inf, float32(math.NaN()), 1e8})},
		{words("100.5", "-7", "9007199254740993"), onnxio.FromSlice(onnxio.Int64,
			[]int64{100, -7, 9007199254740993})},
		{words("18446744073709551615"), onnxio.FromSlice(onnxio.Uint64, []uint64{math.MaxUint64})},
		{words("1", "-2", "3", "-4", "5"), &onnxio.Tensor{Type: onnxio.Int4, Dims: []int64{5},
			Raw: []byte{0xe1, 0xc3, 0x05}}},
		{words("0", "2.5"), onnxio.FromSlice(onnxio.Bool, []bool{false, true})},
	} {
		if err := compareTensors(casted(t, c.x, c.want.Type, true), c.want, 0, 0); err != nil {
			t.Errorf("to %v: %v", c.want.Type, err)
		}
	}
	n, err := Bind(&onnxio.Node{OpType: "Cast", Inputs: []string{"x"}, Outputs: []string{"y"},
		Attrs: []*onnxio.Attribute{onnxio.IntAttr("to", 1)}}, 25)
	if err != nil {
		t.Fatal(err)
	}
	if n.Def.Eval(&Eval{Node: n, In: []*onnxio.Tensor{words("Hello")}}) == nil {
		t.Error("a word became a number")
	}
}
