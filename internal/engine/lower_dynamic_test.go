package engine

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cnnkit/cnnkit/internal/parallel"
	"github.com/cnnkit/cnnkit/onnxio"
)

// levelsOf are random bytes.
func levelsOf(r *rand.Rand, t onnxio.DataType, dims ...int64) *onnxio.Tensor {
	out := onnxio.NewTensor(t, dims...)
	for i := range out.Raw {
		out.Raw[i] = uint8(r.Uint32())
	}
	return out
}

// quantizedInput appends DynamicQuantizeLinear of x.
func quantizedInput(b *net, x string) {
	b.m.Graph.Nodes = append(b.m.Graph.Nodes, &onnxio.Node{Name: "q", OpType: "DynamicQuantizeLinear",
		Inputs:  []string{x},
		Outputs: []string{"levels", "scale", "zero"}})
}

// dynamicNets are what quantize_dynamic of ONNX Runtime writes for a product and a convolution, and what else
// the operators may be given: zero points of weights by output, groups, strides, padding, dilations.
func dynamicNets(r *rand.Rand) map[string]func(b *net) {
	conv := func(t onnxio.DataType, o, c, k int64, zero *onnxio.Tensor,
		attrs ...*onnxio.Attribute) func(b *net) {
		return func(b *net) {
			quantizedInput(b, "input")
			in := []string{"levels", b.init("w", levelsOf(r, t, o, c, k, k)), "zero"}
			if zero != nil {
				in = append(in, b.init("wz", zero))
			}
			sums := b.node("Cast", []string{b.node("ConvInteger", in, attrs...)},
				onnxio.IntAttr("to", int64(onnxio.Float)))
			b.node("Mul", []string{sums, "scale"})
		}
	}
	pads := onnxio.IntsAttr("pads", 1, 2, 1, 0)
	return map[string]func(b *net){
		"3x3": conv(onnxio.Int8, 9, 6, 3, nil, pads),
		"unsigned": conv(onnxio.Uint8, 40, 6, 3, levelsOf(r, onnxio.Uint8), pads,
			onnxio.IntsAttr("strides", 2, 3)),
		"zeros by output": conv(onnxio.Uint8, 5, 6, 1, levelsOf(r, onnxio.Uint8, 5)),
		"dilated":         conv(onnxio.Int8, 5, 6, 3, nil, pads, onnxio.IntsAttr("dilations", 2, 2)),
		"depthwise":       conv(onnxio.Int8, 6, 1, 3, nil, pads, onnxio.IntAttr("group", 6)),
		"groups": conv(onnxio.Uint8, 4, 3, 3, levelsOf(r, onnxio.Uint8), onnxio.IntAttr("group", 2),
			onnxio.IntsAttr("strides", 2, 1), pads),
		"product": func(b *net) {
			quantizedInput(b, b.node("Reshape",
				[]string{"input", b.init("shape", onnxio.Int64s([]int64{0, -1, 21}, 3))}))
			b.node("MatMulInteger", []string{"levels", b.init("w", levelsOf(r, onnxio.Uint8, 21, 70)), "zero",
				b.init("wz", levelsOf(r, onnxio.Uint8, 70))})
			b.node("Cast", []string{b.last}, onnxio.IntAttr("to", int64(onnxio.Float)))
		},
		"product of int8": func(b *net) {
			quantizedInput(b, b.node("Reshape",
				[]string{"input", b.init("shape", onnxio.Int64s([]int64{0, -1, 21}, 3))}))
			b.node("MatMulInteger", []string{"levels", b.init("w", levelsOf(r, onnxio.Int8, 21, 33)), "zero"})
			b.node("Cast", []string{b.last}, onnxio.IntAttr("to", int64(onnxio.Float)))
		},
	}
}

// Dynamically quantized operators by integer kernels have the bits of the reference kernels,
// with any number of threads.
func TestDynamicQuantization(t *testing.T) {
	r := rand.New(rand.NewPCG(81, 1))
	pool := parallel.New(3)
	defer pool.Close()
	for name, build := range dynamicNets(r) {
		t.Run(name, func(t *testing.T) {
			b := newNet(82, "N", 6, 21, 30)
			build(b)
			m := b.output()
			for _, scale := range []float32{2, 0} {
				in := map[string]*onnxio.Tensor{"input": b.random(scale, 2, 6, 21, 30)}
				var want []byte
				for i, opt := range []Options{{Reference: true}, {}, {Pool: pool}} {
					opt.Dims = map[string]int64{"N": 2}
					p, err := Compile(m, opt)
					if err != nil {
						t.Fatal(err)
					}
					out, err := p.Run(context.Background(), in)
					if err != nil {
						t.Fatal(err)
					}
					got := out[m.Graph.Outputs[0].Name].Raw
					if i == 0 {
						want = got
						continue
					}
					if !bytes.Equal(got, want) {
						t.Fatalf("%s differs from the reference", fmt.Sprint(opt.Pool))
					}
					for _, s := range p.Steps() {
						if s.Kernel == "reference" && (s.Op == "ConvInteger" || s.Op == "MatMulInteger" ||
							s.Op == "DynamicQuantizeLinear") {
							t.Errorf("%s by its reference kernel", s.Op)
						}
					}
				}
			}
		})
	}
}
