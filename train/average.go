package train

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/onnxio"
)

// SWA is stochastic weight averaging: Izmailov et al., Averaging Weights Leads to Wider Optima and Better
// Generalization, arXiv:1803.05407, by the rules of torch.optim.swa_utils. At the end of every epoch from
// Start on the weights join an average in which all epochs count the same (AveragedModel). From then on it is
// the average that is validated and saved, with BatchNormalization's running statistics computed for it from
// one more pass through the images to train on (update_bn); a network without BatchNormalization is spared
// the pass. Training itself goes on from the weights.
type SWA struct {
	// the first epoch, from 1, whose weights are in the average; 0: no average
	Start int `json:"start,omitzero"`
	// what the learning rate becomes after epoch Start (SWALR); 0: the schedule goes on
	LR           float64 `json:"lr,omitzero"`
	AnnealEpochs int     `json:"anneal_epochs,omitzero"` // within so many epochs: 10; negative: at once
	Anneal       string  `json:"anneal,omitzero"`        // cos, or linear
}

// validate names the first field that makes no sense.
func (s SWA) validate() error {
	switch {
	case s.Start < 0 || !(s.LR >= 0):
		return fmt.Errorf("swa.start and swa.lr must not be negative")
	case s.Start == 0 && s != SWA{}:
		return fmt.Errorf("swa.start is missing: the first epoch whose weights are averaged")
	case s.LR == 0 && (s.AnnealEpochs != 0 || s.Anneal != ""):
		return fmt.Errorf("swa.lr is missing: the rate that the annealing is to end at")
	case s.Anneal != "" && s.Anneal != "cos" && s.Anneal != "linear":
		return fmt.Errorf("swa.anneal is %q: cos or linear", s.Anneal)
	}
	return nil
}

// rate is the learning rate k epochs after Start, whose rate is from.
func (s SWA) rate(from float64, k int) float64 {
	n := s.AnnealEpochs
	if n == 0 {
		n = 10
	}
	share := min(1, float64(k)/float64(max(1, n)))
	if s.Anneal != "linear" {
		share = (1 - math.Cos(math.Pi*share)) / 2
	}
	return s.LR*share + from*(1-share)
}

// annealed says that SWA sets the learning rate, not the schedule.
func (r *run) annealed() bool { return r.cfg.SWA.LR > 0 && r.at >= r.cfg.SWA.Start }

// export puts the weights that are to be validated and kept into the model: the
// current ones, or their average.
func (r *run) export(ctx context.Context) error {
	if err := r.trainer.Export(r.result.Model); err != nil {
		return err
	}
	for i, t := range r.result.Model.Graph.Initializers {
		if slices.Contains(r.stopped, t.Name) { // it holds the average of the epoch before
			r.result.Model.Graph.Initializers[i] = r.model.Graph.Initializer(t.Name).Clone()
		}
	}
	switch {
	case r.cfg.EMA > 0:
		return r.exportEMA()
	case r.cfg.SWA.Start > 0 && r.at >= r.cfg.SWA.Start:
		return r.exportSWA(ctx)
	}
	return nil
}

// exportEMA puts the moving averages in the place of the weights and the running statistics. PyTorch's
// AveragedModel averages buffers only where it is told to (use_buffers), and else copies the current ones;
// averaging is what timm's ModelEma and torchvision's recipes do. Averaged weights lag behind, and so do
// averaged statistics, by as much.
func (r *run) exportEMA() error {
	for i, name := range r.trainer.Params() {
		mean, err := r.slot(i, r.slotCount(i)-1)
		if err != nil {
			return err
		}
		copy(r.result.Model.Graph.Initializer(name).Float32s(), mean.Float32s())
	}
	for name, mean := range r.means {
		copy(r.result.Model.Graph.Initializer(name).Float32s(), mean.Float32s())
	}
	return nil
}

// moveMeans moves the averages of the running statistics and of the stopped parameters after an optimiser's
// step, as averaged does those of the trained ones.
func (r *run) moveMeans() {
	keep := float32(1 - emaDecay(r.cfg.EMA, r.updates()))
	move := func(name string, now []float32) {
		if r.means[name] == nil { // the first step; or the checkpoint is from before they were averaged
			r.means[name] = vector(now)
			return
		}
		mean := r.means[name].Float32s()
		for i, x := range now {
			mean[i] += (x - mean[i]) * keep
		}
	}
	for _, name := range r.trainer.Running() {
		move(name, r.trainer.Statistic(name))
	}
	for _, name := range r.stopped {
		move(name, r.model.Graph.Initializer(name).Float32s())
	}
}

// exportSWA puts the average with the epoch's weights in, and the running statistics that
// belong to it, into the model.
func (r *run) exportSWA(ctx context.Context) error {
	share := 1 / float32(r.averaged+1)
	r.next = map[string]*onnxio.Tensor{}
	for _, name := range slices.Concat(r.trainer.Params(), r.stopped) {
		t := r.result.Model.Graph.Initializer(name)
		if old := r.means[name]; old != nil {
			for i, mean := range old.Float32s() {
				t.Float32s()[i] = mean + (t.Float32s()[i]-mean)*share
			}
		}
		r.next[name] = t.Clone()
	}
	if !hasOp(r.graph, "BatchNormalization") {
		return nil
	}
	return r.computeStatistics(ctx)
}

// computeStatistics gives the model the running statistics of its weights: the means over the batches of the
// epoch in progress, each batch counting the same, as torch.optim.swa_utils.update_bn has them.
func (r *run) computeStatistics(ctx context.Context) error {
	opt := engine.TrainOptions{Pool: r.pool, Loss: LossName, Params: []string{}, Seed: r.cfg.Seed}
	if r.ranks != nil {
		opt.Exchange, opt.SyncNorm = r.ranks, r.cfg.SyncBN
	}
	forward, err := engine.NewTrainer(forgetful(r.graph, r.result.Model), opt)
	if err != nil {
		return err
	}
	means := map[string][]float64{}
	for _, name := range forward.Running() {
		means[name] = make([]float64, len(forward.Statistic(name)))
	}
	f := r.feeder(0)
	defer f.stop()
	for f.step < r.batches {
		p, err := r.fill(f)
		if err != nil {
			return err
		}
		if r.ranks != nil {
			r.ranks.begin(ctx, p)
		}
		if err := forward.Step(ctx, f.in); err != nil {
			return fmt.Errorf("statistics of the averaged weights after epoch %d: %w", r.at, err)
		}
		for name, mean := range means {
			for i, x := range forward.Statistic(name) {
				mean[i] += (float64(x) - mean[i]) / float64(f.step)
			}
		}
	}
	for name, mean := range means {
		to := r.result.Model.Graph.Initializer(name).Float32s()
		for i, x := range mean {
			to[i] = float32(x)
		}
	}
	return nil
}

// forgetful is a training graph with the weights of m, whose running statistics are those of the last batch.
func forgetful(graph, m *onnxio.Model) *onnxio.Model {
	out := withOwnInitializers(graph)
	for i, t := range out.Graph.Initializers {
		if w := m.Graph.Initializer(t.Name); w != nil {
			out.Graph.Initializers[i] = w
		}
	}
	out.Graph.Nodes = slices.Clone(out.Graph.Nodes)
	for i, n := range out.Graph.Nodes {
		if n.OpType != "BatchNormalization" || n.Domain != "" {
			continue
		}
		c := *n
		c.Attrs = slices.DeleteFunc(slices.Clone(n.Attrs), func(a *onnxio.Attribute) bool {
			return a.Name == "momentum"
		})
		c.Attrs = append(c.Attrs, onnxio.FloatAttr("momentum", 0))
		out.Graph.Nodes[i] = &c
	}
	return out
}

// restoreMeans takes a checkpoint's averages.
func (r *run) restoreMeans(c *Checkpoint) error {
	of := r.trainer.Running()
	if r.cfg.SWA.Start > 0 {
		of = r.trainer.Params()
	}
	means, role := map[string]*onnxio.Tensor{}, roles(r.model)
	r.stopped = nil
	for _, name := range slices.Sorted(maps.Keys(c.means)) {
		mean, t, g := c.means[name], r.model.Graph.Initializer(name), r.cfg.group(name, role[name])
		stopped := !slices.Contains(of, name)
		if stopped && (!g.Freeze || g.Epochs == 0) || t == nil || mean.Type != onnxio.Float ||
			mean.Size() != t.Size() {
			return fmt.Errorf("the checkpoint's average of %q is %v %v, which this run has no use for", name,
				mean.Type, mean.Dims)
		}
		if means[name] = mean.Clone(); stopped {
			r.stopped = append(r.stopped, name)
		}
	}
	if n := len(means) - len(r.stopped); c.Averaged > 0 && n != len(of) {
		return fmt.Errorf("the checkpoint has averages of %d of %d parameters", n, len(of))
	}
	r.means, r.averaged, r.next = means, c.Averaged, nil
	return nil
}
