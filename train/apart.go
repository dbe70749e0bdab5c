package train

import (
	"context"
	"fmt"
	"math"

	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/internal/parallel"
	"github.com/cnnkit/cnnkit/onnxio"
)

// apart makes the optimiser's steps outside the engine, which computes gradients only. The engine applies a
// rule to ranges of parameters as soon as it can, and does not tell it when all of a parameter's gradient, or
// all gradients, are there; what needs to know is done here, at the price of copying parameters and
// gradients: rules that take norms, clipping, and gradients of several batches in one step.
type apart struct {
	cfg     Config
	trainer *engine.Trainer
	pool    *parallel.Pool
	weights *onnxio.Model // takes the parameters out and brings them back
	names   []string
	rules   []scaled // of each parameter
	slots   [][][]float32
	updates int64 // steps made

	sums   [][]float32 // of gradients, weighted by their images
	images int         // in sums
}

// needsApart says whether the engine cannot make the steps itself.
func (c Config) needsApart() bool {
	for _, g := range append([]Group{{}}, c.Groups...) {
		if o, err := c.optimizer(g); err == nil && (o.Whole || g.Optimizer != "" || g.Momentum != nil) {
			return true
		}
	}
	return c.ClipNorm > 0 || c.ClipValue > 0 || c.Accumulate > 1
}

// newApart takes a trainer without an Update.
func newApart(t *Trainer) (*apart, error) {
	cfg, graph, trainer, pool := t.cfg, t.graph, t.trainer, t.pool
	a := &apart{cfg: cfg, trainer: trainer, pool: pool, weights: withOwnInitializers(graph),
		names: trainer.Params()}
	layer, err := cfg.layerScales(t.model)
	if err != nil {
		return nil, err
	}
	role := roles(graph)
	for _, name := range a.names {
		group := cfg.group(name, role[name])
		p := graph.Graph.Initializer(name)
		u, err := cfg.rule(group, p.Dims)
		if err != nil {
			return nil, fmt.Errorf("parameter %q: %w", name, err)
		}
		n := int(p.Size())
		own := cfg.settings(name, role[name], layer, t.perEpoch)
		slots := make([][]float32, u.Slots())
		for i := range slots {
			slots[i] = make([]float32, n)
		}
		a.rules = append(a.rules, scaled{u, own.scale, own.after, group.Epochs})
		a.slots, a.sums = append(a.slots, slots), append(a.sums, make([]float32, n))
	}
	return a, nil
}

// withOwnInitializers is m with a list of initializers of its own.
func withOwnInitializers(m *onnxio.Model) *onnxio.Model {
	out, g := *m, *m.Graph
	out.Graph = &g
	g.Initializers = append([]*onnxio.Tensor{}, g.Initializers...)
	return &out
}

// step computes the gradients of a batch of n images, all ranks' together, and updates the parameters
// when flush says that enough batches have come. The gradient of several is the mean over their
// images: that of one large batch.
func (a *apart) step(ctx context.Context, in map[string]*onnxio.Tensor, n int, flush bool) error {
	if err := a.trainer.Step(ctx, in); err != nil {
		return err
	}
	a.images += n
	single := flush && a.images == n
	for i, name := range a.names {
		g, err := a.trainer.Gradient(name)
		if err != nil {
			return err
		}
		if single {
			a.sums[i] = g.Float32s()
			continue
		}
		for j, v := range g.Float32s() {
			a.sums[i][j] += float32(n) * v
		}
	}
	if !flush {
		return nil
	}
	if !single {
		a.scale(1 / float64(a.images))
	}
	a.clip()
	return a.update()
}

func (a *apart) scale(by float64) {
	for _, g := range a.sums {
		for j := range g {
			g[j] *= float32(by)
		}
	}
}

// clip is torch.nn.utils.clip_grad_value_, then clip_grad_norm_.
func (a *apart) clip() {
	if top := float32(a.cfg.ClipValue); top > 0 {
		for _, g := range a.sums {
			for j, v := range g {
				if v > top {
					g[j] = top
				} else if v < -top {
					g[j] = -top
				}
			}
		}
	}
	if a.cfg.ClipNorm > 0 {
		sum := 0.0
		for _, g := range a.sums {
			sum += squares(g)
		}
		if by := a.cfg.ClipNorm / (math.Sqrt(sum) + 1e-6); by < 1 {
			a.scale(by)
		}
	}
}

// update applies the rules to whole parameters.
func (a *apart) update() error {
	if err := a.trainer.Export(a.weights); err != nil { // running statistics too, which Import wants
		return err
	}
	params := make([][]float32, len(a.names))
	for i, name := range a.names {
		params[i] = a.weights.Graph.Initializer(name).Float32s()
	}
	a.updates++
	a.pool.Run(len(a.names), func(i, _ int) {
		a.rules[i].Begin(a.updates)
		a.rules[i].Apply(params[i], a.sums[i], a.slots[i])
		clear(a.sums[i])
	})
	a.images = 0
	return a.trainer.Import(a.weights)
}
