package quantize

import (
	"context"
	"fmt"
	"math"

	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/onnxio"
)

// observed is what was seen of a tensor.
type observed struct {
	low, high float64
	means     []float64 // of the channels, dimension 1
	count     float64   // of what each mean is over
	hist      []float64 // of [low, high]
}

const bins = 2048

// observe runs the model on batches and keeps the range of every float32 tensor that images
// depend on, narrowed by method.
func observe(ctx context.Context, g *graph, batches []*onnxio.Tensor, method Method) (map[string]*observed,
	error) {
	p, err := engine.Compile(g.m,
		engine.Options{Keep: true, Shapes: map[string][]int64{g.input: batches[0].Dims}})
	if err != nil {
		return nil, err
	}
	seen := map[string]*observed{}
	see := func(each func(o *observed, t *onnxio.Tensor) error) error {
		for _, x := range batches {
			out, err := p.Run(ctx, map[string]*onnxio.Tensor{g.input: x})
			if err != nil {
				return err
			}
			out[g.input] = x
			for name, t := range out {
				if t.Type != onnxio.Float || t.Size() == 0 {
					continue
				}
				if seen[name] == nil {
					seen[name] = &observed{}
				}
				if err := each(seen[name], t); err != nil {
					return fmt.Errorf("%q: %w", name, err)
				}
			}
		}
		return nil
	}
	if err := see((*observed).widen); err != nil {
		return nil, err
	}
	if method == "" || method == MinMax {
		return seen, nil
	}
	if err := see((*observed).count2048); err != nil {
		return nil, err
	}
	for _, o := range seen {
		o.narrow(method)
		o.hist = nil
	}
	return seen, nil
}

// widen takes a tensor into account: its range, which holds 0, and the means of its channels.
func (o *observed) widen(t *onnxio.Tensor) error {
	channels := 1
	if len(t.Dims) > 1 {
		channels = int(t.Dims[1])
	}
	if o.means == nil {
		o.means = make([]float64, channels)
	}
	x := t.Float32s()
	inner := 1
	for _, d := range t.Dims[min(2, len(t.Dims)):] {
		inner *= int(d)
	}
	for i := 0; i < len(x); i += inner {
		sum := 0.0
		for _, v := range x[i:min(i+inner, len(x))] {
			f := float64(v)
			if math.IsNaN(f) || math.IsInf(f, 0) {
				return fmt.Errorf("%v on an image of the calibration", v)
			}
			o.low, o.high, sum = min(o.low, f), max(o.high, f), sum+f
		}
		o.means[i/inner%channels] += sum
	}
	o.count += float64(len(x)) / float64(channels)
	return nil
}

// mean is the mean of channel c.
func (o *observed) mean(c int) float64 { return o.means[c] / o.count }

// count2048 adds a tensor to the histogram.
func (o *observed) count2048(t *onnxio.Tensor) error {
	if o.hist == nil {
		o.hist = make([]float64, bins)
	}
	by := bins / max(o.high-o.low, math.SmallestNonzeroFloat32)
	for _, v := range t.Float32s() {
		o.hist[min(bins-1, int((float64(v)-o.low)*by))]++
	}
	return nil
}

// center is the number that bin i stands for.
func (o *observed) center(i int) float64 { return o.low + (float64(i)+0.5)*(o.high-o.low)/bins }

// narrow leaves out what the method does.
func (o *observed) narrow(method Method) {
	if o.high == o.low {
		return
	}
	var low, high float64
	switch method {
	case Percentile:
		low, high = o.percentile(1e-4)
	case MSE:
		low, high = o.leastError()
	default:
		limit := o.leastDivergence()
		low, high = max(o.low, -limit), min(o.high, limit)
	}
	o.low, o.high = min(low, 0), max(high, 0)
}

// percentile leaves out a share of the numbers at either end.
func (o *observed) percentile(share float64) (low, high float64) {
	total := 0.0
	for _, n := range o.hist {
		total += n
	}
	first, last := 0, bins-1
	for left := total * share; first < last && o.hist[first] <= left; first++ {
		left -= o.hist[first]
	}
	for left := total * share; last > first && o.hist[last] <= left; last-- {
		left -= o.hist[last]
	}
	step := (o.high - o.low) / bins
	return o.low + float64(first)*step, o.low + float64(last+1)*step
}

// leastError is the part of the range, of 49 nested ones, whose 256 levels are nearest to the numbers.
func (o *observed) leastError() (low, high float64) {
	best := math.Inf(1)
	for part := 1.0; part > 0.03; part -= 0.02 {
		l, h := o.low*part, o.high*part
		step, sum := (h-l)/255, 0.0
		for i, n := range o.hist {
			if n > 0 {
				x := o.center(i)
				q := math.Round((min(max(x, l), h)-l)/step)*step + l
				sum += n * (x - q) * (x - q)
			}
		}
		if sum < best {
			best, low, high = sum, l, h
		}
	}
	return low, high
}

// leastDivergence is the limit of the absolute values with the least Kullback-Leibler divergence of the
// histogram, the rest put at its end, and the same in 128 levels.
func (o *observed) leastDivergence() float64 {
	largest := max(o.high, -o.low)
	sizes := make([]float64, bins)
	for i, n := range o.hist {
		sizes[min(bins-1, int(math.Abs(o.center(i))/largest*bins))] += n
	}
	sizes[0] = 0 // zeros of ReLU say nothing about the range
	best, limit := math.Inf(1), largest
	for keep := 128; keep <= bins; keep += 16 {
		if d := divergence(sizes, keep); d < best {
			best, limit = d, largest*float64(keep)/bins
		}
	}
	return limit
}

const levelsOfEntropy = 128

func divergence(sizes []float64, keep int) float64 {
	p, total := append([]float64{}, sizes[:keep]...), 0.0
	for _, n := range sizes[keep:] {
		p[keep-1] += n
	}
	for _, n := range p {
		total += n
	}
	if total == 0 {
		return math.Inf(1)
	}
	sum, kept := 0.0, 0.0
	for _, n := range sizes[:keep] {
		kept += n
	}
	for level := range levelsOfEntropy {
		lo, hi := level*keep/levelsOfEntropy, (level+1)*keep/levelsOfEntropy
		mass, filled := 0.0, 0.0
		for i := lo; i < hi; i++ {
			if mass += sizes[i]; sizes[i] > 0 {
				filled++
			}
		}
		for i := lo; i < hi; i++ {
			if p[i] == 0 {
				continue
			}
			q := 1e-9
			if sizes[i] > 0 {
				q = max(q, mass/filled/kept)
			}
			sum += p[i] / total * math.Log(p[i]/total/q)
		}
	}
	return sum
}
