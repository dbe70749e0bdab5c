package engine

import (
	"context"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/internal/kernels"
	"github.com/cnnkit/cnnkit/internal/parallel"
	"github.com/cnnkit/cnnkit/onnxio"
)

var inferenceNets = map[string]func() *net{
	"lenet":     func() *net { return lenet(1) },
	"residual":  func() *net { return residual(2, false) },
	"unet16":    func() *net { return unet(3, 16) },
	"unet8":     func() *net { return unet(4, 8) },
	"unet5":     func() *net { return unet(5, 5) },
	"one pixel": func() *net { b := newNet(6, "N", 17, 1, 1); b.conv(17, 33, 1, 1, 0); return b },
	"stride > kernel": func() *net {
		b := newNet(7, "N", 5, 11, 13)
		b.conv(5, 7, 2, 3, 0)
		b.conv(7, 16, 2, 3, 1)
		return b
	},
	"relu first": func() *net {
		b := newNet(8, "N", 16, 6, 6)
		x := b.node("Relu", []string{b.last})
		b.conv(16, 16, 3, 1, 1)
		b.node("Add", []string{b.last, x})
		b.node("Relu", []string{b.last})
		b.node("GlobalAveragePool", []string{b.last})
		return b
	},
}

// A plan with fast kernels, fusion and blocked layouts computes what the reference kernels do. The tolerance
// is for sums in another order: 1e-5 relative to 1 + |y|.
func TestFastPlansEqualReference(t *testing.T) {
	for name, make := range inferenceNets {
		for _, batch := range []int64{1, 3} {
			t.Run(name, func(t *testing.T) {
				b := make()
				m := b.output()
				dims := []int64{batch}
				for _, d := range m.Graph.Inputs[0].Type.Shape[1:] {
					dims = append(dims, d.Value)
				}
				in := map[string]*onnxio.Tensor{"input": b.random(1, dims...)}
				var got [3]*onnxio.Tensor
				for i, opt := range []Options{{}, {Reference: true}, {Keep: true}} {
					opt.Dims = map[string]int64{"N": batch}
					p, err := Compile(m, opt)
					if err != nil {
						t.Fatal(err)
					}
					for range 2 { // the second run finds the arena used
						out, err := p.Run(context.Background(), in)
						if err != nil {
							t.Fatal(err)
						}
						got[i] = out[b.last]
					}
				}
				near(t, "fast", got[0], got[1], 1e-5)
				near(t, "keep", got[2], got[1], 1e-5)
			})
		}
	}
}

// steps trains for n steps on fixed random batches and gives the losses and the exported parameters.
func steps(t *testing.T, m *onnxio.Model, b *net, opt TrainOptions, n int,
	in ...map[string]*onnxio.Tensor) ([]float64, map[string]*onnxio.Tensor) {
	t.Helper()
	opt.Loss = m.Graph.Outputs[len(m.Graph.Outputs)-1].Name
	tr, err := NewTrainer(m, opt)
	if err != nil {
		t.Fatal(err)
	}
	var losses []float64
	for i := range n {
		if err := tr.Step(context.Background(), in[i%len(in)]); err != nil {
			t.Fatal(err)
		}
		losses = append(losses, float64(tr.Output(opt.Loss).Float32s()[0]))
	}
	g := *m.Graph
	out := *m
	out.Graph = &g
	g.Initializers = append([]*onnxio.Tensor{}, g.Initializers...)
	if err := tr.Export(&out); err != nil {
		t.Fatal(err)
	}
	params := map[string]*onnxio.Tensor{}
	for _, p := range g.Initializers {
		params[p.Name] = p
	}
	for _, name := range tr.Params() {
		if opt.Update != nil && tr.params[name].size() >= earlySize { // used up
			if _, err := tr.Gradient(name); err == nil {
				t.Errorf("the gradient of %s outlived its update", name)
			}
			continue
		}
		grad, err := tr.Gradient(name)
		if err != nil {
			t.Fatal(err)
		}
		params["grad "+name] = grad
	}
	return losses, params
}

// plainSGD is the simplest Update, with a momentum slot.
type plainSGD struct{ lr, momentum float32 }

func (plainSGD) Slots() int  { return 1 }
func (plainSGD) Begin(int64) {}
func (u plainSGD) Apply(p, g []float32, slots [][]float32) {
	for i := range p {
		slots[0][i] = u.momentum*slots[0][i] + g[i]
		p[i] -= u.lr * slots[0][i]
	}
}

func classes(b *net, batch int64) *onnxio.Tensor {
	t := onnxio.NewTensor(onnxio.Int64, batch)
	for i := range onnxio.Data[int64](t) {
		onnxio.Data[int64](t)[i] = int64(b.r.IntN(10))
	}
	return t
}

type trainCase struct {
	make func() (*onnxio.Model, *net)
	in   func(b *net, batch int64) map[string]*onnxio.Tensor
}

var trainCases = map[string]trainCase{
	"lenet": {
		func() (*onnxio.Model, *net) { b := lenet(11); return b.nll(0), b },
		func(b *net, n int64) map[string]*onnxio.Tensor {
			return map[string]*onnxio.Tensor{"input": b.random(1, n, 1, 28, 28), "target": classes(b, n)}
		},
	},
	"deep": {
		func() (*onnxio.Model, *net) { b := deep(15); return b.nll(0), b },
		func(b *net, n int64) map[string]*onnxio.Tensor {
			return map[string]*onnxio.Tensor{"input": b.random(1, n, 3, 20, 20), "target": classes(b, n)}
		},
	},
	"pooled": {
		func() (*onnxio.Model, *net) { b := pooled(16); return b.nll(0), b },
		func(b *net, n int64) map[string]*onnxio.Tensor {
			return map[string]*onnxio.Tensor{"input": b.random(1, n, 3, 20, 20), "target": classes(b, n)}
		},
	},
	"residual": {
		func() (*onnxio.Model, *net) { b := residual(12, true); return b.nll(0), b },
		func(b *net, n int64) map[string]*onnxio.Tensor {
			return map[string]*onnxio.Tensor{"input": b.random(1, n, 3, 16, 16), "target": classes(b, n)}
		},
	},
	"residual16": {
		func() (*onnxio.Model, *net) { b := residualOf(19, true, 16, 32); return b.nll(0), b },
		func(b *net, n int64) map[string]*onnxio.Tensor {
			return map[string]*onnxio.Tensor{"input": b.random(1, n, 3, 16, 16), "target": classes(b, n)}
		},
	},
	"residual32": {
		func() (*onnxio.Model, *net) { b := residualOf(19, true, 32, 48); return b.nll(0), b },
		func(b *net, n int64) map[string]*onnxio.Tensor {
			return map[string]*onnxio.Tensor{"input": b.random(1, n, 3, 16, 16), "target": classes(b, n)}
		},
	},
	"tanh32": {
		func() (*onnxio.Model, *net) {
			b := newNet(20, "N", 3, 12, 12)
			b.conv(3, 32, 3, 1, 1)
			b.node("Tanh", []string{b.last})
			b.conv(32, 40, 3, 2, 1)
			b.node("Tanh", []string{b.last})
			b.bn(40, true)
			b.conv(40, 10, 6, 1, 0)
			b.node("Flatten", []string{b.last})
			return b.nll(0), b
		},
		func(b *net, n int64) map[string]*onnxio.Tensor {
			return map[string]*onnxio.Tensor{"input": b.random(1, n, 3, 12, 12), "target": classes(b, n)}
		},
	},
	"unet16": {
		func() (*onnxio.Model, *net) { b := unet(13, 16); return b.mse("N", 1, 12, 12), b },
		func(b *net, n int64) map[string]*onnxio.Tensor {
			return map[string]*onnxio.Tensor{"input": b.random(1, n, 3, 12, 12),
				"target": b.random(1, n, 1, 12, 12)}
		},
	},
	"unet32": {
		func() (*onnxio.Model, *net) { b := unet(18, 32); return b.mse("N", 1, 12, 12), b },
		func(b *net, n int64) map[string]*onnxio.Tensor {
			return map[string]*onnxio.Tensor{"input": b.random(1, n, 3, 12, 12),
				"target": b.random(1, n, 1, 12, 12)}
		},
	},
	"unet5": {
		func() (*onnxio.Model, *net) { b := unet(14, 5); return b.mse("N", 1, 12, 12), b },
		func(b *net, n int64) map[string]*onnxio.Tensor {
			return map[string]*onnxio.Tensor{"input": b.random(1, n, 3, 12, 12),
				"target": b.random(1, n, 1, 12, 12)}
		},
	},
	"upsampled": {
		func() (*onnxio.Model, *net) { b := upsampled(17); return b.mse("N", 1, 12, 12), b },
		func(b *net, n int64) map[string]*onnxio.Tensor {
			return map[string]*onnxio.Tensor{"input": b.random(1, n, 3, 12, 12),
				"target": b.random(1, n, 1, 12, 12)}
		},
	},
}

// Training with fast kernels follows training with reference kernels: losses, gradients, parameters
// and running statistics, over batches of two sizes. After a few steps rounding has been amplified
// by the updates, hence 1e-4.
func TestTrainingEqualsReference(t *testing.T) {
	for name, c := range trainCases {
		t.Run(name, func(t *testing.T) {
			m, b := c.make()
			in := []map[string]*onnxio.Tensor{c.in(b, 4), c.in(b, 3), c.in(b, 4)}
			fastLoss, fast := steps(t, m, b, TrainOptions{Update: plainSGD{0.01, 0.5}}, 5, in...)
			refLoss, ref := steps(t, m, b, TrainOptions{Update: plainSGD{0.01, 0.5}, Reference: true}, 5,
				in...)
			for i := range refLoss {
				if d := math.Abs(fastLoss[i] - refLoss[i]); !(d <= 1e-4*(1+math.Abs(refLoss[i]))) {
					t.Errorf("loss of step %d: %v, reference %v", i, fastLoss[i], refLoss[i])
				}
			}
			for name, want := range ref {
				near(t, name, fast[name], want, 1e-4)
			}
		})
	}
}

// The cases take the ways that they are there for.
func TestTrainingTakesTheFastWays(t *testing.T) {
	for _, c := range []struct {
		name         string
		want, direct map[string]int
	}{
		{"deep", map[string]int{"winograd": 2, "winograd backward-data": 2, "winograd backward-weights": 2,
			"gemm update": 1, "update": 1, "relu backward": 0},
			map[string]int{"winograd": 0, "conv": 3, "gemm update": 1, "update": 1}},
		// 5x5: along rows
		{"lenet", map[string]int{"winograd": 1, "winograd backward-data": 1, "winograd backward-weights": 1},
			map[string]int{"winograd": 0, "conv": 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, b := trainCases[c.name].make()
			tr, err := NewTrainer(m, TrainOptions{Loss: m.Graph.Outputs[len(m.Graph.Outputs)-1].Name,
				Update: plainSGD{0.01, 0.5}})
			if err != nil {
				t.Fatal(err)
			}
			if err := tr.Step(context.Background(), trainCases[c.name].in(b, 4)); err != nil {
				t.Fatal(err)
			}
			found := map[string]int{}
			for _, s := range tr.Plan().Steps() {
				kernel, _, _ := strings.Cut(s.Kernel, " "+kernels.Level())
				found[kernel]++
			}
			want := c.want
			if os.Getenv("CNNKIT_WINOGRAD") == "off" {
				want = c.direct
			}
			for kernel, n := range want {
				if found[kernel] != n {
					t.Errorf("%d steps of %q, want %d; the plan has %v", found[kernel], kernel, n, found)
				}
			}
		})
	}
}

// One thread or several give the same bits.
func TestSameBitsForAnyNumberOfThreads(t *testing.T) {
	for name, c := range trainCases {
		t.Run(name, func(t *testing.T) {
			var want map[string]*onnxio.Tensor
			for _, threads := range []int{1, 2, 4} {
				m, b := c.make()
				pool := parallel.New(threads)
				defer pool.Close()
				_, got := steps(t, m, b, TrainOptions{Pool: pool, Update: plainSGD{0.01, 0.9}}, 4,
					c.in(b, 5), c.in(b, 2))
				for name, w := range want {
					if string(got[name].Raw) != string(w.Raw) {
						t.Errorf("%d threads: %s differs", threads, name)
					}
				}
				want = got
			}
		})
	}
}

// A training step allocates nothing where every operator has a kernel of its own: the reference kernels
// of Resize and Pad allocate.
func TestStepAllocatesNothing(t *testing.T) {
	for name, c := range trainCases {
		if name == "upsampled" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			m, b := c.make()
			tr, err := NewTrainer(m, TrainOptions{Loss: m.Graph.Outputs[len(m.Graph.Outputs)-1].Name,
				Update: plainSGD{0.01, 0.5}})
			if err != nil {
				t.Fatal(err)
			}
			in := c.in(b, 4)
			ctx := context.Background()
			if n := testing.AllocsPerRun(10, func() {
				if err := tr.Step(ctx, in); err != nil {
					t.Fatal(err)
				}
			}); n != 0 {
				t.Errorf("%v allocations a step", n)
			}
		})
	}
}

func TestContextEndsARun(t *testing.T) {
	b := lenet(1)
	m := b.output()
	p, err := Compile(m, Options{Dims: map[string]int64{"N": 1}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := p.Run(ctx,
		map[string]*onnxio.Tensor{"input": b.random(1, 1, 1, 28, 28)}); err != context.Canceled {
		t.Errorf("got %v", err)
	}
}

// Buffers that are alive at the same time never overlap.
func TestAllocateKeepsBuffersApart(t *testing.T) {
	b := newNet(9)
	for range 200 {
		var bufs []*buffer
		for range 30 {
			first := b.r.IntN(20)
			bufs = append(bufs, &buffer{floats: roundUp(1 + b.r.IntN(200)), first: first,
				last: first + b.r.IntN(6)})
		}
		at, size := allocate(bufs)
		for i, p := range bufs {
			if at[p]%unit != 0 || at[p]+p.floats > size {
				t.Fatalf("buffer at %d of %d floats in an arena of %d", at[p], p.floats, size)
			}
			for _, q := range bufs[:i] {
				if p.last >= q.first && q.last >= p.first && at[p] < at[q]+q.floats &&
					at[q] < at[p]+p.floats {
					t.Fatalf("overlap: %+v at %d and %+v at %d", *p, at[p], *q, at[q])
				}
			}
		}
	}
}
