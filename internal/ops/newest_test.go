package ops

import (
	"math"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// TestFloorMod takes floats of both signs, zeros and infinities, as Mod-28 says.
func TestFloorMod(t *testing.T) {
	inf, nan, minus := math.Inf(1), math.NaN(), math.Copysign(0, -1)
	for _, c := range [][3]float64{{-4.3, 2.1, 2}, {4.3, -2.1, -2}, {5, 3, 2}, {0, -3, minus}, {minus, 3, 0},
		{inf, 3, nan}, {3, 0, nan},
		{3, inf, 3}, {-3, inf, inf}, {3, -inf, -inf}, {nan, 1, nan}, {-6, 3, 0}} {
		got := evalNode(t, "Mod", 28, []*onnxio.Tensor{onnxio.Scalar(onnxio.Double, c[0]),
			onnxio.Scalar(onnxio.Double, c[1])})
		v := onnxio.Data[float64](got)[0]
		if math.Abs(v-c[2]) > 1e-12 || math.Signbit(v) != math.Signbit(c[2]) && v == v ||
			(v != v) != (c[2] != c[2]) {
			t.Errorf("%v mod %v is %v, want %v", c[0], c[1], v, c[2])
		}
	}
}

// TestBitShiftBeyond shifts by the width, by more and by less than nothing.
func TestBitShiftBeyond(t *testing.T) {
	x := onnxio.FromSlice(onnxio.Int8, []int8{-8, 4, -1, -128, 127})
	by := onnxio.FromSlice(onnxio.Int8, []int8{-1, -100, 8, 7, 100})
	for direction, want := range map[string][]int8{"LEFT": {0, 0, 0, 0, 0}, "RIGHT": {-1, 0, -1, -1, 0}} {
		got := evalNode(t, "BitShift", 28, []*onnxio.Tensor{x, by}, onnxio.StringAttr("direction", direction))
		if err := compareTensors(got, onnxio.FromSlice(onnxio.Int8, want), 0, 0); err != nil {
			t.Errorf("%s: %v", direction, err)
		}
	}
}

// TestSpaceToDepthCRD puts the places of a block behind its channel.
func TestSpaceToDepthCRD(t *testing.T) {
	x := onnxio.Floats([]float32{0, 1, 2, 3, 4, 5, 6, 7}, 1, 2, 2, 2)
	got := evalNode(t, "SpaceToDepth", 28, []*onnxio.Tensor{x}, onnxio.IntAttr("blocksize", 2),
		onnxio.StringAttr("mode", "CRD"))
	if err := compareTensors(got, onnxio.Floats([]float32{0, 1, 2, 3, 4, 5, 6, 7}, 1, 8, 1, 1), 0,
		0); err != nil {
		t.Error(err)
	}
}
