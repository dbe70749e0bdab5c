package engine

import (
	"math"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// TestAveragesBeyondThePadding: with ceil_mode, the last window may reach past the padding, and what lies
// there does not count, in the gradient neither.
func TestAveragesBeyondThePadding(t *testing.T) {
	for _, c := range []struct {
		name                  string
		height                int64
		kernel, strides, pads []int64
	}{
		{"beyond", 2, []int64{7, 3}, []int64{2, 2}, []int64{3, 1, 3, 1}},
		{"below", 5, []int64{2, 2}, []int64{2, 2}, []int64{0, 0, 0, 0}},
		{"within", 4, []int64{2, 2}, []int64{2, 2}, []int64{0, 0, 0, 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newNet(1, "N", 16, c.height, 6)
			b.conv(16, 16, 1, 1, 0)
			b.node("AveragePool", []string{b.last}, onnxio.IntsAttr("kernel_shape", c.kernel...),
				onnxio.IntsAttr("strides", c.strides...),
				onnxio.IntsAttr("pads", c.pads...), onnxio.IntAttr("ceil_mode", 1),
				onnxio.IntAttr("count_include_pad", 1))
			b.node("Mul", []string{b.last, b.last})
			b.node("ReduceSum", []string{b.last}, onnxio.IntAttr("keepdims", 0))
			b.m.Graph.Outputs = []*onnxio.ValueInfo{onnxio.TensorInfo(b.last, onnxio.Float)}
			in := map[string]*onnxio.Tensor{"input": b.random(1, 2, 16, c.height, 6)}
			_, got := steps(t, b.m, b, TrainOptions{}, 1, in)
			_, want := steps(t, b.m, b, TrainOptions{Reference: true}, 1, in)
			for name := range want {
				near(t, name, got[name], want[name], 1e-4)
			}
		})
	}
}

// TestStatisticsBehindFunctions: a BatchNormalization in training behind a convolution's fused function
// normalizes by the statistics of what the function gives, not of what it takes.
func TestStatisticsBehindFunctions(t *testing.T) {
	for _, c := range []struct {
		name            string
		channels, k, by int64 // by is the number of groups
	}{{"direct", 24, 1, 1}, {"tiles", 32, 3, 1}, {"rows", 32, 5, 1}, {"depthwise", 32, 3, 32},
		{"groups", 32, 3, 8}} {
		t.Run(c.name, func(t *testing.T) {
			b := newNet(4, "N", c.channels, 12, 12)
			w := b.init("w", b.random(1, c.channels, c.channels/c.by, c.k, c.k))
			b.node("Conv", []string{b.last, w}, onnxio.IntsAttr("pads", c.k/2, c.k/2, c.k/2, c.k/2),
				onnxio.IntAttr("group", c.by))
			b.node("Tanh", []string{b.last})
			b.bn(c.channels, true)
			m := b.mse("N", c.channels, 12, 12)
			in := map[string]*onnxio.Tensor{"input": b.random(1, 2, c.channels, 12, 12),
				"target": b.random(1, 2, c.channels, 12, 12)}
			_, got := steps(t, m, b, TrainOptions{Update: plainSGD{0.01, 0.5}}, 2, in)
			_, want := steps(t, m, b, TrainOptions{Update: plainSGD{0.01, 0.5}, Reference: true}, 2, in)
			for name := range want {
				near(t, name, got[name], want[name], 1e-4)
			}
		})
	}
}

// TestRowBehindBeta: beta scales the C of a Gemm alone; a row that is added behind a Gemm
// without one stays as it is.
func TestRowBehindBeta(t *testing.T) {
	b := newNet(7, 2, 17)
	b.node("Gemm", []string{"input", b.init("w", b.random(1, 17, 33))}, onnxio.FloatAttr("beta", 0.5))
	b.node("Add", []string{b.last, b.init("row", b.random(1, 1, 33))})
	m, in := b.mse(2, 33), map[string]*onnxio.Tensor{"input": b.random(1, 2, 17),
		"target": b.random(1, 2, 33)}
	gotLoss, got := steps(t, m, b, TrainOptions{}, 1, in)
	wantLoss, want := steps(t, m, b, TrainOptions{Reference: true}, 1, in)
	if math.Abs(gotLoss[0]-wantLoss[0]) > 1e-5 {
		t.Errorf("loss %v, want %v", gotLoss, wantLoss)
	}
	for name := range want {
		near(t, name, got[name], want[name], 1e-4)
	}
}
