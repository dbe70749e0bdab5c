package train

import (
	"fmt"
	"slices"

	"github.com/cnnkit/cnnkit/train/data/transforms"
)

// Config is a training run as data; it marshals to JSON. Zero values mean the default of the field's comment.
type Config struct {
	Epochs    int    `json:"epochs"`
	Batch     int    `json:"batch"`
	Seed      uint64 `json:"seed"`
	Loss      string `json:"loss"`      // auto, or one of Losses
	Optimizer string `json:"optimizer"` // one of Optimizers

	LR        float64    `json:"lr"` // for one-cycle the peak
	Momentum  float64    `json:"momentum"`
	Dampening float64    `json:"dampening,omitzero"`
	Nesterov  bool       `json:"nesterov,omitzero"`
	Betas     [2]float64 `json:"betas,omitzero"` // 0.9, 0.999; lion: 0.9, 0.99
	Eps       float64    `json:"eps,omitzero"`   // 1e-8; adagrad: 1e-10; lamb: 1e-6
	// rmsprop: how much of the mean square is kept, 0.99
	Alpha       float64 `json:"alpha,omitzero"`
	Centered    bool    `json:"centered,omitzero"`    // rmsprop
	LRDecay     float64 `json:"lr_decay,omitzero"`    // adagrad
	Accumulator float64 `json:"accumulator,omitzero"` // adagrad: what the sum of squares starts from
	Trust       float64 `json:"trust,omitzero"`       // lars: the trust coefficient, 0.001
	NSSteps     int     `json:"ns_steps,omitzero"`    // muon: steps of the Newton-Schulz iteration, 5
	// muon: each filter bank has the norm sqrt(filters) before a step
	UnitNorm bool `json:"unit_norm,omitzero"`
	// of every parameter that no group says otherwise about
	WeightDecay float64 `json:"weight_decay,omitzero"`
	Groups      []Group `json:"groups,omitzero"`

	// Freeze lists patterns, as path.Match has them, of parameters and modules that stay as they
	// are: a module with all below it, running statistics included, whose BatchNormalizations and
	// Dropouts are in inference mode.
	Freeze []string `json:"freeze,omitempty"`
	// gradual unfreezing: what Freeze holds until an epoch
	Unfreeze []Unfreeze `json:"unfreeze,omitempty"`
	// factor of the rate from each layer to the one below; 0: 1
	LRDecayPerLayer float64 `json:"lr_decay_per_layer,omitzero"`
	// what the frozen first layers give is computed once for each image
	CacheFeatures bool `json:"cache_features,omitzero"`
	// the most memory for that; 0: a quarter of the machine's
	CacheMiB int `json:"cache_mib,omitzero"`

	Schedule   Schedule  `json:"schedule,omitzero"`
	Accumulate int       `json:"accumulate,omitzero"` // batches whose gradients make one step, 1
	ClipNorm   float64   `json:"clip_norm,omitzero"`  // the greatest norm of all gradients together; 0: any
	ClipValue  float64   `json:"clip_value,omitzero"` // the greatest gradient of one number; 0: any
	Lookahead  Lookahead `json:"lookahead,omitzero"`
	// decay of the moving average of weights and running statistics, which is what is
	// validated and saved; 0: none
	EMA float64 `json:"ema"`
	SWA SWA     `json:"swa,omitzero"` // stochastic weight averaging

	// Whiten gives the first convolution, before the first step, the filters that whiten patches of so many
	// images to train on, two for each number of a patch; 0: it starts as the model has it.
	Whiten int `json:"whiten,omitzero"`

	// changes the images to train on, at the size of their files, before they are
	// brought to that of the batch
	Augment transforms.Compose `json:"augment,omitempty"`
	// MixUp, CutMix: the loss is that of soft targets then
	Mix transforms.BatchCompose `json:"mix,omitempty"`
	// goroutines that read and change images; 0: as many as are useful
	Workers int `json:"workers,omitempty"`

	// Sampler draws the images of an epoch with replacement, as
	// torch.utils.data.WeightedRandomSampler does: balanced has every class alike often, weights
	// takes data.Weights of the images; "" takes every image once.
	Sampler string `json:"sampler,omitzero"`
	Draws   int    `json:"draws,omitzero"` // with Sampler: images of an epoch; 0: as many as there are

	LabelSmoothing float64 `json:"label_smoothing,omitzero"` // nll, cross-entropy
	// nll, cross-entropy, of training alone: the loss of validation weighs all classes the same
	ClassWeights ClassWeights `json:"class_weights,omitzero"`
	// each image's loss counts data.Weights times: the mean of weight*loss over the images
	SampleWeights bool `json:"sample_weights,omitzero"`
	// nll, cross-entropy of masks: the value that does not count, neither in the loss nor in a metric
	IgnoreIndex *int     `json:"ignore_index,omitzero"`
	Gamma       *float64 `json:"gamma,omitempty"` // focal, sigmoid-focal: 2
	// sigmoid-focal: weight of the positives in (0,1) (torchvision's alpha); 0: none
	Balance float64  `json:"balance,omitzero"`
	Smooth  *float64 `json:"smooth,omitempty"` // dice, jaccard, tversky: 1
	Delta   float64  `json:"delta,omitzero"`   // huber: where the square becomes a line, 1
	// bce-with-logits: weight of the ones, a number for each output, or one for all
	PosWeight []float64 `json:"pos_weight,omitempty"`
	// weights of false positives and false negatives: 0.5, 0.5
	Tversky [2]float64 `json:"tversky,omitzero"`

	// of a loss, a metric or an optimizer that Register... added
	Settings map[string]any `json:"settings,omitempty"`

	// Thresholds of several labels are those of what is measured. The model's
	// metadata gets them, for predict.
	Thresholds Thresholds `json:"thresholds,omitzero"`

	Metrics []string `json:"metrics,omitzero"` // beside accuracy and loss, of Metrics
	// what the best model is best in: accuracy, loss, or one of Metrics
	Monitor string `json:"monitor,omitzero"`
	// epochs without a better one after which the run ends; 0: never
	Patience int `json:"patience,omitzero"`

	// epochs from one validation to the next, 1; the last is always validated
	ValidateEvery int `json:"validate_every,omitzero"`
	// batches between checkpoints within an epoch; 0: none
	CheckpointSteps int `json:"checkpoint_steps,omitzero"`
	// so many of the last epochs leave their model and checkpoint in files of their own; 0: none
	Keep    int `json:"keep,omitzero"`
	Threads int `json:"threads,omitzero"` // 0: as many as the process may use

	// Precision is float32 ("" is the same) or bf16: the maps and the products of convolutions. Weights,
	// their gradients, statistics, losses and the optimiser are float32 in both, and so is validation. Where
	// the processor has no AMX, bf16 trains in float32.
	Precision string `json:"precision,omitzero"`

	// Distributed is how the processes of a data-parallel run are connected: mpi; "": there is one process.
	// Comm is the connection. Rank r of N has part r of each joint batch of N times Batch images; the first
	// ranks' parts of a short one are larger by an image. The run is that of one process with the joint
	// batch, to rounding, where the loss is a mean over images and BatchNormalization is synchronized; losses
	// over a whole batch (dice and its kind, class_weights, ignore_index) are means of the parts' losses,
	// weighted by their images.
	Distributed string `json:"distributed,omitzero"`
	Comm        Comm   `json:"-"` // nil: SingleProcess
	// SyncBN makes BatchNormalization take the statistics of the joint batch; else each rank takes those of
	// its part, and the running statistics that are kept are rank 0's.
	SyncBN bool `json:"sync_bn,omitzero"`
	// Deterministic refuses what could give two runs of the same ranks other bits, or ranks other weights:
	// ranks whose processors have other instructions. It compares the ranks' weights after each epoch.
	Deterministic bool `json:"deterministic,omitzero"`
}

// Group gives some parameters their own settings; a parameter belongs to the first group that it fits.
type Group struct {
	// Params is "bias" (what Conv, ConvTranspose, Gemm and an Add behind a MatMul add), "norm" (weight and bias
	// of the normalisations), or a pattern of parameters or modules, as in Config.Freeze.
	Params      string   `json:"params"`
	LRScale     *float64 `json:"lr_scale,omitempty"`     // null: 1
	WeightDecay *float64 `json:"weight_decay,omitempty"` // null: the run's
	Momentum    *float64 `json:"momentum,omitempty"`     // null: the run's
	Optimizer   string   `json:"optimizer,omitzero"`     // "": the run's
	Freeze      bool     `json:"freeze,omitzero"`        // they are not trained
	// Epochs are those after which they stay as they are; the schedule of their rate is that of
	// a run of so many. 0: all.
	Epochs int `json:"epochs,omitzero"`
}

// Defaults is the configuration that suits a network that package builders makes; others get Adam.
// LeNet-5's and MiniVGG's constant learning rate leaves noise in the weights, which their average over a
// hundred steps is free of.
func Defaults(arch string) Config {
	switch arch {
	case "lenet5", "minivgg":
		return Config{Epochs: 5, Batch: 64, Loss: "auto", Optimizer: "sgd", LR: 0.01, Momentum: 0.5,
			EMA: 0.99}
	case "unet":
		return Config{Epochs: 20, Batch: 4, Loss: "auto", Optimizer: "adam", LR: 1e-4}
	}
	return Config{Epochs: 25, Batch: 100, Loss: "auto", Optimizer: "adam", LR: 1e-3}
}

// With is c with another optimizer, and the learning rate and momentum that are usual with it.
func (c Config) With(optimizer string) Config {
	if optimizer == c.Optimizer {
		return c
	}
	c.Optimizer, c.LR, c.Momentum = optimizer, 1e-3, 0
	if o, err := optimizers.find(optimizer); err == nil {
		c.LR, c.Momentum = o.LR, o.Momentum
	}
	return c
}

// Precisions lists what Config.Precision may be.
func Precisions() []string { return []string{"float32", "bf16"} }

// Distributions lists what Config.Distributed may be.
func Distributions() []string { return []string{"mpi"} }

// validate names the first field that makes no sense, of those that the table bounds and then of
// those that depend on another.
func (c Config) validate() error {
	if err := (Recipe{Config: c}).validateFields(); err != nil {
		return err
	}
	switch {
	case c.Nesterov && (c.Momentum == 0 || c.Dampening != 0):
		return fmt.Errorf("nesterov needs momentum and no dampening")
	case c.EMA > 0 && c.SWA.Start > 0:
		return fmt.Errorf("ema and swa are two averages of the weights: choose one")
	case c.SWA.Start > c.Epochs:
		return fmt.Errorf("swa starts in epoch %d, and the run has %d", c.SWA.Start, c.Epochs)
	case c.ValidateEvery > 1 && (c.Schedule.Kind == OnPlateau || c.Patience > 0):
		return fmt.Errorf("validate_every is %d: schedule plateau and patience want every epoch's validation",
			c.ValidateEvery)
	case c.Precision != "" && !slices.Contains(Precisions(), c.Precision):
		return fmt.Errorf("no precision %q: known are %v", c.Precision, Precisions())
	}
	switch {
	case c.Sampler != "" && !slices.Contains(Samplers(), c.Sampler):
		return fmt.Errorf("no sampler %q: known are %v", c.Sampler, Samplers())
	case c.Draws > 0 && c.Sampler == "":
		return fmt.Errorf("draws is the number of images that a sampler draws for an epoch, and there is none: "+
			"set sampler to one of %v", Samplers())
	case c.SampleWeights && len(c.Mix) > 0:
		return fmt.Errorf("sample_weights and mix do not go together, since a mixed image has the weights of two: "+
			"draw by weights with sampler=%s", SamplerWeights)
	}
	if err := c.validateRanks(); err != nil {
		return err
	}
	for _, g := range c.Groups {
		if err := g.validate(); err != nil {
			return err
		}
	}
	if _, err := transforms.Of(c.Augment...); err != nil {
		return fmt.Errorf("augment: %w", err)
	}
	if err := c.validateLoss(); err != nil {
		return err
	}
	if err := c.validateMetrics(); err != nil {
		return err
	}
	if err := c.validateSettings(); err != nil {
		return err
	}
	if err := c.Thresholds.check(true, 0); err != nil {
		return err
	}
	if err := c.validateFreeze(); err != nil {
		return err
	}
	if err := c.SWA.validate(); err != nil {
		return err
	}
	if err := c.Lookahead.validate(); err != nil {
		return err
	}
	return c.Schedule.validate()
}

func (c Config) validateRanks() error {
	if c.Distributed != "" && !slices.Contains(Distributions(), c.Distributed) {
		return fmt.Errorf("no distribution %q: known are %v", c.Distributed, Distributions())
	}
	if c.Comm != nil && c.Comm.Size() > 1 && c.CacheFeatures {
		return fmt.Errorf("cache_features keeps what one process computes: leave it out of a run of several")
	}
	return nil
}

func (c Config) validateMetrics() error {
	for _, name := range append(slices.Clone(c.Metrics), c.Monitor) {
		if name == "" {
			continue
		}
		if _, err := metrics.find(name); err != nil {
			return err
		}
	}
	if c.Monitor == "confusion" {
		return fmt.Errorf("monitor is confusion, which is a picture: choose one figure")
	}
	return nil
}

// value is a setting for which 0 makes sense, or its default.
func value(v *float64, def float64) float64 {
	if v == nil {
		return def
	}
	return *v
}

func or(v, def float64) float64 {
	if v == 0 {
		return def
	}
	return v
}
