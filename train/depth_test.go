package train

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/internal/parallel"
	"github.com/cnnkit/cnnkit/onnxio"
)

// trainer trains m's graph, which it changes first.
func trainer(t *testing.T, m *onnxio.Model, loss string, opt engine.TrainOptions,
	change func(*onnxio.Graph)) *engine.Trainer {
	t.Helper()
	graph, _, err := TrainingGraph(m, loss)
	if err != nil {
		t.Fatal(err)
	}
	change(graph.Graph)
	opt.Loss = LossName
	tr, err := engine.NewTrainer(graph, opt)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// Two branches of one map, dropped with probabilities of 0.3 and 0.5 for 64 images in each of 100 steps.
// Every pixel of an image has the factor 0 or 1/(1-p). A share q of the n = 6400 draws strays by
// sqrt(q(1-q)/n); five times that is one failure in a million, and the seed is fixed.
func TestStochasticDepthDropsImages(t *testing.T) {
	const images, steps, channels, pixels = 64, 100, 3, 16
	drop := []float32{0.3, 0.5}
	b := builders.New("branches", 0, 1, 1, 4, 4)
	x := b.Conv2d("conv", b.Input(), channels, 1)
	m, err := b.Model(b.Concat("cat", x, b.StochasticDepth("a", x, drop[0]),
		b.StochasticDepth("b", x, drop[1])))
	if err != nil {
		t.Fatal(err)
	}
	tr := trainer(t, m, LossBCE, engine.TrainOptions{Seed: 1}, func(*onnxio.Graph) {})
	in := map[string]*onnxio.Tensor{"input": onnxio.NewTensor(onnxio.Float, images, 1, 4, 4),
		TargetName: onnxio.NewTensor(onnxio.Float, images, 3*channels, 4, 4)}
	copy(in["input"].Float32s(), uniform(images*pixels, 1))
	var kept [2]int
	both, first := 0, 0
	for range steps {
		if err := tr.Step(context.Background(), in); err != nil {
			t.Fatal(err)
		}
		out := tr.Output("output").Float32s()
		for n := range images {
			var is [2]bool
			image := out[n*3*channels*pixels:][:3*channels*pixels]
			branch := image[:channels*pixels]
			for k := range is {
				got, factor := image[(k+1)*channels*pixels:][:channels*pixels], float32(0)
				if is[k] = got[0] != 0; is[k] {
					factor = float32(1 / (1 - float64(drop[k])))
					kept[k]++
				}
				for i, v := range branch {
					if got[i] != v*factor {
						t.Fatalf("branch %d of image %d: pixel %d is %g, want %g times %g", k, n, i,
							got[i], v, factor)
					}
				}
			}
			if is[0] && is[1] {
				both++
			}
			if n == 0 && is[0] {
				first++
			}
		}
	}
	share := func(what string, count int, want float64) {
		const n = images * steps
		if got := float64(count) / n; math.Abs(got-want) > 5*math.Sqrt(want*(1-want)/n) {
			t.Errorf("%s: %.4f of the draws, want %.4f", what, got, want)
		}
	}
	share("kept with 0.7", kept[0], 0.7) // so that the factors' mean is 0.7/(1-0.3) = 1
	share("kept with 0.5", kept[1], 0.5)
	share("both kept", both, 0.35) // 0.5 if the two had one mask
	if first == 0 || first == steps {
		t.Errorf("the first image has one mask in all steps")
	}
}

// deep is a small residual network with stochastic depth.
func deep(t *testing.T) *onnxio.Model {
	t.Helper()
	m, err := builders.Build("resnet20", builders.Config{Blocks: []int{1, 2, 1}, Width: 8,
		StochasticDepth: 0.6})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// What a step draws becomes the input of a graph without draws, which reference kernels differentiate: loss
// and gradients are the same to 1e-4 of 1 + |g|, which is for sums in another order, amplified by the norms
// of small batches, and for one thread or three they are so to the bit. The weights stay as they are, and
// convolutions direct: a rounding more, and a pixel on the edge of a ReLU is on its other side.
func TestStochasticDepthEqualsReference(t *testing.T) {
	var masks []string
	shown := func(g *onnxio.Graph) {
		masks = nil
		for _, n := range g.Nodes {
			if n.OpType == "Dropout" {
				masks = append(masks, n.Outputs[0])
				g.Outputs = append(g.Outputs, onnxio.TensorInfo(n.Outputs[0], onnxio.Float,
					onnxio.Shape("N", 1, 1, 1)...))
			}
		}
	}
	given := func(g *onnxio.Graph) {
		g.Nodes = slices.DeleteFunc(g.Nodes, func(n *onnxio.Node) bool {
			return slices.Contains(masks, n.Outputs[0])
		})
		for _, name := range masks {
			g.Inputs = append(g.Inputs, onnxio.TensorInfo(name, onnxio.Float, onnxio.Shape("N", 1, 1, 1)...))
		}
	}
	opt := func(threads int, reference bool) engine.TrainOptions {
		pool := parallel.New(threads)
		t.Cleanup(pool.Close)
		return engine.TrainOptions{Pool: pool, Seed: 3, Reference: reference, NoWinograd: true}
	}
	fast, more := trainer(t, deep(t), LossAuto, opt(1, false), shown), trainer(t, deep(t), LossAuto,
		opt(3, false), shown)
	ref := trainer(t, deep(t), LossAuto, opt(1, true), given)
	step := func(tr *engine.Trainer, in map[string]*onnxio.Tensor) {
		if err := tr.Step(context.Background(), in); err != nil {
			t.Fatal(err)
		}
	}
	dropped := 0
	for i, n := range []int{6, 6, 5} { // the last batch is shorter
		x, target := NewBatch([3]int{3, 32, 32}, n)
		synthetic(7, x, onnxio.Data[int64](target), 6*i)
		in := map[string]*onnxio.Tensor{"input": x, TargetName: target}
		step(fast, in)
		step(more, in)
		for _, name := range masks {
			in[name] = fast.Output(name).Clone()
			for _, v := range in[name].Float32s() {
				if v == 0 {
					dropped++
				}
			}
		}
		step(ref, in)
		for _, name := range fast.Params() {
			a, err1 := fast.Gradient(name)
			b, err2 := more.Gradient(name)
			c, err3 := ref.Gradient(name)
			if err1 != nil || err2 != nil || err3 != nil {
				t.Fatal(err1, err2, err3)
			}
			if string(a.Raw) != string(b.Raw) {
				t.Errorf("step %d: the gradient of %s has other bits with three threads", i, name)
			}
			for j, want := range c.Float32s() {
				if got := a.Float32s()[j]; !(math.Abs(float64(got-want)) <= 1e-4*(1+
					math.Abs(float64(want)))) {
					t.Errorf("step %d: gradient %d of %s is %g, want %g", i, j, name, got, want)
					break
				}
			}
		}
		if got, want := fast.Output(LossName).Float32s()[0],
			ref.Output(LossName).Float32s()[0]; !(math.Abs(float64(got-want)) <= 1e-4) {
			t.Errorf("step %d: loss %g, want %g", i, got, want)
		}
	}
	if len(masks) != 4 || dropped == 0 || dropped == 4*17 {
		t.Errorf("%d masks drop %d branches", len(masks), dropped)
	}
}

// Of what makes the factors a training step has the draws alone, and the maps are scaled
// in blocks, there and back.
func TestStochasticDepthTakesTheFastWays(t *testing.T) {
	tr := trainer(t, deep(t), LossAuto, engine.TrainOptions{}, func(*onnxio.Graph) {})
	x, target := NewBatch([3]int{3, 32, 32}, 4)
	if err := tr.Step(context.Background(), map[string]*onnxio.Tensor{"input": x,
		TargetName: target}); err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, s := range tr.Plan().Steps() {
		if !strings.Contains(s.Name, "stochastic_depth") {
			continue
		}
		if s.Op == "Mul" && (s.Layout == "" || s.Kernel == "reference") {
			t.Errorf("%s of %q runs by %s in layout %q", s.Op, s.Name, s.Kernel, s.Layout)
		}
		count[s.Op]++
	}
	if len(count) != 2 || count["Dropout"] != 4 || count["Mul"] != 8 {
		t.Errorf("the plan has %v", count)
	}
}
