package engine

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cnnkit/cnnkit/internal/parallel"
	"github.com/cnnkit/cnnkit/onnxio"
)

// portionNets are graphs in float32 for portions: maps that enter in the middle, leave early, and are all of
// a batch.
var portionNets = map[string]func() *net{
	"residuals": func() *net {
		b := newNet(91, "N", 3, 17, 15)
		b.node("Relu", []string{b.conv(3, 32, 3, 2, 1)})
		for range 3 {
			x := b.last
			b.node("Relu", []string{b.conv(32, 32, 3, 1, 1)})
			b.node("Relu", []string{b.node("Add", []string{b.conv(32, 32, 3, 1, 1), x})})
		}
		b.node("GlobalAveragePool", []string{b.last})
		b.node("Flatten", []string{b.last})
		b.linear(32, 10)
		return b
	},
	"skips": func() *net {
		b := newNet(92, "N", 3, 16, 16)
		x := b.node("Relu", []string{b.conv(3, 16, 3, 1, 1)})
		b.maxpool()
		b.node("HardSwish", []string{b.conv(16, 32, 3, 1, 1)})
		y := b.up(32, 16)
		b.node("Softmax", []string{b.last}, onnxio.IntAttr("axis", 1)) // is not in blocks
		b.node("Concat", []string{b.last, y, x}, onnxio.IntAttr("axis", 1))
		b.node("Sigmoid", []string{b.conv(48, 16, 3, 1, 1)})
		b.conv(16, 5, 1, 1, 0)
		return b
	},
	"a size that names the batch": func() *net {
		b := newNet(95, "N", 3, 9, 7)
		b.node("Relu", []string{b.conv(3, 32, 3, 1, 1)})
		b.node("Resize", []string{b.last, "", "", b.ints(4, 32, 18, 15)}, onnxio.StringAttr("mode", "linear"))
		b.conv(32, 32, 3, 1, 1)
		b.node("Add", []string{b.last, b.init("images", b.random(1, 4, 32, 18, 15))})
		b.conv(32, 16, 1, 1, 0)
		return b
	},
	"the input again": func() *net {
		b := newNet(93, "N", 16, 9, 9)
		b.node("Relu", []string{b.conv(16, 16, 3, 1, 1)})
		b.bn(16, false)
		b.node("Add", []string{b.last, "input"})
		b.conv(16, 16, 1, 1, 0)
		return b
	},
}

// TestPortions: portions of a batch give the bits that the whole gives, by any number of threads, in float32
// and bf16.
func TestPortions(t *testing.T) {
	for _, opt := range []Options{{}, {BF16: true, twins: true}} {
		nets := portionNets
		if opt.BF16 {
			nets = map[string]func() *net{}
			for _, some := range []map[string]func() *net{bf16Nets, portionNets} {
				for name, build := range some {
					nets[name] = build
				}
			}
		}
		for name, build := range nets {
			b := build()
			dims := []int64{4}
			for _, d := range b.output().Graph.Inputs[0].Type.Shape[1:] {
				dims = append(dims, d.Value)
			}
			x := b.random(1, dims...)
			opt.portions = -1
			want, _ := b.run(t, opt, x)
			mostImages, mostThreads := 2, 4
			if opt.BF16 && !BF16Runs() { // the twins of the kernels are slow
				mostImages, mostThreads = 1, 2
			}
			for images := 1; images <= mostImages; images++ {
				for threads := mostThreads; threads > 0; threads -= 3 - images {
					opt := opt
					opt.portions, opt.Pool = images, parallel.New(threads)
					got, steps := b.run(t, opt, x)
					opt.Pool.Close()
					if string(got.Raw) != string(want.Raw) {
						t.Errorf("%s, %d images, %d threads: other bits", name, images, threads)
					}
					parted := slices.ContainsFunc(steps, func(s StepInfo) bool {
						return s.Portions == 4/images && s.Shape[0] == int64(images)
					})
					if onMaps := len(dims) == 4 && name != "products"; parted != onMaps {
						t.Errorf("%s, %d images: %v", name, images, steps)
					}
				}
			}
		}
	}
}

// TestQuantizedPortions: so they do on bytes.
func TestQuantizedPortions(t *testing.T) {
	cases, steps := loadQuantized(t), 0
	for name := range cases.Plain {
		m, err := onnxio.Load("../../testdata/quantized/" + name + ".onnx")
		if err != nil {
			t.Fatal(err)
		}
		run := func(portions int) string {
			p, err := Compile(m, Options{portions: portions})
			if err != nil {
				t.Fatal(err)
			}
			out, err := p.Run(t.Context(), map[string]*onnxio.Tensor{"x": onnxio.Floats(cases.X, 2, 3, 19, 21)})
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range p.Steps() {
				if s.Portions > 0 && s.Type != "float32" {
					steps++
				}
			}
			return string(out["y"].Raw)
		}
		if run(1) != run(-1) {
			t.Errorf("%s: other bits", name)
		}
	}
	if Int8Runs() && steps < 10 {
		t.Errorf("%d steps on bytes run in portions", steps)
	}
}

// largeMaps is a network whose maps of 16 images take 25 MB each, and none whose weights count.
func largeMaps(training bool) *net {
	b := newNet(94, "N", 3, 112, 112)
	b.node("Relu", []string{b.conv(3, 32, 3, 1, 1)})
	for range 3 {
		b.depthwise(32, 1)
		b.bn(32, training)
		b.node("Relu", []string{b.conv(32, 32, 1, 1, 0)})
	}
	b.node("GlobalAveragePool", []string{b.last})
	return b
}

// TestChoosePortions: portions are cut where maps are large, by as many threads as find work, and where a
// layer does not look at the whole batch.
func TestChoosePortions(t *testing.T) {
	portions := func(b *net, images int64, threads int, opt Options) (ops int) {
		opt.Pool = parallel.New(threads)
		defer opt.Pool.Close()
		opt.Dims = map[string]int64{"N": images}
		p, err := Compile(b.output(), opt)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range p.Steps() {
			if s.Portions > 0 {
				ops++
			}
		}
		return ops
	}
	if n := portions(largeMaps(false), 16, 2, Options{}); n < 6 {
		t.Errorf("%d ops in portions", n)
	}
	for name, n := range map[string]int{
		"one image":                portions(largeMaps(false), 1, 1, Options{}),
		"more threads than images": portions(largeMaps(false), 16, 64, Options{}),
		"every node is an output":  portions(largeMaps(false), 16, 2, Options{Keep: true}),
		"statistics of the batch":  portions(largeMaps(true), 16, 2, Options{}),
		"small maps":               portions(portionNets["residuals"](), 16, 2, Options{}),
	} {
		if n > 3 { // the stem before the statistics
			t.Errorf("%s: %d ops in portions", name, n)
		}
	}
	whole := func(threads int) int64 {
		pool := parallel.New(threads)
		defer pool.Close()
		opt := Options{Dims: map[string]int64{"N": 16}, Pool: pool}
		p, err := Compile(largeMaps(false).output(), opt)
		if err != nil {
			t.Fatal(err)
		}
		opt.portions = -1
		q, err := Compile(largeMaps(false).output(), opt)
		if err != nil {
			t.Fatal(err)
		}
		return 100 * p.ArenaBytes() / q.ArenaBytes()
	}
	for _, threads := range []int{1, 4} {
		if percent := whole(threads); percent > 60 {
			t.Errorf("portions by %d threads take %d%% of the memory", threads, percent)
		}
	}
}

// TestPortionsEnd: a run ends inside of portions when its context does, and the next one is whole.
func TestPortionsEnd(t *testing.T) {
	b := largeMaps(false)
	p, err := Compile(b.output(), Options{Dims: map[string]int64{"N": 8}, portions: 1})
	if err != nil {
		t.Fatal(err)
	}
	in := map[string]*onnxio.Tensor{"input": b.random(1, 8, 3, 112, 112)}
	want, err := p.Run(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	ctx := &endsAfter{Context: t.Context()}
	ctx.calls.Store(9)
	if _, err := p.Run(ctx, in); !errors.Is(err, context.Canceled) {
		t.Errorf("a run that is ended gives %v", err)
	}
	got, err := p.Run(t.Context(), in)
	if err != nil || string(got[b.last].Raw) != string(want[b.last].Raw) {
		t.Errorf("the run after it gives other bits, %v", err)
	}
}

// endsAfter is a context that has ended when it was asked so often.
type endsAfter struct {
	context.Context
	calls atomic.Int64 // from the goroutines of the pool
}

func (c *endsAfter) Err() error {
	if c.calls.Add(-1) < 0 {
		return context.Canceled
	}
	return nil
}

// TestPortionsProfile: the steps of portions are timed as the others, and count for the whole batch.
func TestPortionsProfile(t *testing.T) {
	b := largeMaps(false)
	flops := func(portions int) (sum int64, timed, steps int) {
		p, err := Compile(b.output(), Options{Dims: map[string]int64{"N": 4}, portions: portions})
		if err != nil {
			t.Fatal(err)
		}
		p.Profile(true)
		in := map[string]*onnxio.Tensor{"input": b.random(1, 4, 3, 112, 112)}
		if _, err := p.Run(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		for _, s := range p.Steps() {
			sum += s.FLOPs
			if strings.Contains(s.Kernel, "conv") {
				steps++
				if s.Time > 0 {
					timed++
				}
			}
		}
		return sum, timed, steps
	}
	whole, _, convs := flops(-1)
	sum, timed, steps := flops(1)
	if sum != whole || timed != steps || steps != convs {
		t.Errorf("%d operations in %d steps, %d timed; the whole batch has %d in %d", sum, steps, timed, whole,
			convs)
	}
}
