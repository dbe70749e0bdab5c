package ops

import (
	"fmt"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// benchNode is a node with inputs and outputs ready.
func benchNode(tb testing.TB, domain, op string, attrs []*onnxio.Attribute, outs int,
	in ...*onnxio.Tensor) *Eval {
	tb.Helper()
	n := &onnxio.Node{Name: "node", OpType: op, Domain: domain, Attrs: attrs}
	for i := range in {
		n.Inputs = append(n.Inputs, fmt.Sprint("in", i))
	}
	for i := 0; i < outs; i++ {
		n.Outputs = append(n.Outputs, fmt.Sprint("out", i))
	}
	bound, err := Bind(n, 21)
	if err != nil {
		tb.Fatal(err)
	}
	c := &Eval{Node: bound, In: in}
	if err := bound.Def.Eval(c); err != nil {
		tb.Fatal(err)
	}
	return c
}

// singles is random, in float32.
func singles(seed uint64, dims ...int64) *onnxio.Tensor {
	out := onnxio.NewTensor(onnxio.Float, dims...)
	for i, v := range onnxio.Data[float64](random(seed, dims...)) {
		out.Float32s()[i] = float32(v)
	}
	return out
}

// TestEvalAllocates: with outputs given, the float32 kernels of a training step allocate next to nothing.
func TestEvalAllocates(t *testing.T) {
	x, w, b := singles(1, 2, 8, 9, 9), singles(2, 8, 8, 3, 3), singles(3, 8)
	window := attrsOf(ints("kernel_shape", 2, 2), ints("strides", 2, 2))
	labels := onnxio.Int64s([]int64{1, 2}, 2)
	tests := []struct {
		c   *Eval
		max float64
	}{
		{benchNode(t, "", "Conv", nil, 1, x, w, b), 2},
		{benchNode(t, GradDomain, "ConvGradWeight", attrsOf(ints("kernel_shape", 3, 3)), 1, x,
			singles(4, 2, 8, 7, 7)), 2},
		{benchNode(t, GradDomain, "ConvGradInput", attrsOf(ints("input_shape", 2, 8, 9, 9)), 1,
			singles(4, 2, 8, 7, 7), w), 2},
		{benchNode(t, "", "MaxPool", window, 1, x), 2},
		{benchNode(t, "", "AveragePool", window, 1, x), 2},
		{benchNode(t, "", "Relu", nil, 1, x), 0},
		{benchNode(t, "", "Gemm", nil, 1, singles(1, 5, 7), singles(2, 7, 3), singles(3, 3)), 0},
		{benchNode(t, "", "MatMul", nil, 1, singles(1, 5, 7), singles(2, 7, 3)), 0},
		{benchNode(t, "", "LogSoftmax", nil, 1, singles(1, 5, 7)), 0},
		{benchNode(t, "", "NegativeLogLikelihoodLoss", nil, 1, singles(1, 2, 7), labels), 3},
		{benchNode(t, "", "BatchNormalization", attrsOf(onnxio.IntAttr("training_mode", 1)), 3, x,
			b, b, b, b), 0},
	}
	for _, c := range tests {
		t.Run(c.c.Node.OpType, func(t *testing.T) {
			n := testing.AllocsPerRun(10, func() {
				if err := c.c.Node.Def.Eval(c.c); err != nil {
					t.Fatal(err)
				}
			})
			if n > c.max {
				t.Errorf("%v allocations, at most %v expected", n, c.max)
			}
		})
	}
}

func BenchmarkConv(b *testing.B) {
	for _, s := range []struct{ n, c, h, m int64 }{{8, 1, 28, 6}, {4, 16, 32, 16}, {2, 64, 8, 64}} {
		b.Run(fmt.Sprint(s), func(b *testing.B) {
			x, w := singles(1, s.n, s.c, s.h, s.h), singles(2, s.m, s.c, 3, 3)
			c := benchNode(b, "", "Conv", attrsOf(ints("pads", 1, 1, 1, 1)), 1, x, w)
			for b.Loop() {
				if err := c.Node.Def.Eval(c); err != nil {
					b.Fatal(err)
				}
			}
			flops := float64(2 * s.n * s.m * s.c * s.h * s.h * 9)
			b.ReportMetric(flops*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
		})
	}
}
