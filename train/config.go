package train

import (
	"fmt"

	"github.com/cnnkit/cnnkit/internal/engine"
)

// Config is a training run as data; it marshals to JSON. Zero values mean the default of the field's comment.
type Config struct {
	Epochs    int    `json:"epochs"`
	Batch     int    `json:"batch"`
	Seed      uint64 `json:"seed"`
	Loss      string `json:"loss"`      // auto, nll, cross-entropy, bce-with-logits
	Optimizer string `json:"optimizer"` // sgd, adam, adamw

	LR          float64    `json:"lr"`
	Momentum    float64    `json:"momentum,omitzero"`
	Dampening   float64    `json:"dampening,omitzero"`
	Nesterov    bool       `json:"nesterov,omitzero"`
	Betas       [2]float64 `json:"betas,omitzero"` // 0.9, 0.999
	Eps         float64    `json:"eps,omitzero"`   // 1e-8
	WeightDecay float64    `json:"weight_decay,omitzero"`

	Threads int `json:"threads,omitzero"` // 0: as many as the process may use
}

// Defaults is the configuration that suits a network that package builders makes; others get Adam.
func Defaults(arch string) Config {
	switch arch {
	case "lenet5", "minivgg":
		return Config{Epochs: 5, Batch: 64, Loss: "auto", Optimizer: "sgd", LR: 0.01, Momentum: 0.5}
	case "unet":
		return Config{Epochs: 20, Batch: 4, Loss: "auto", Optimizer: "adam", LR: 1e-4}
	}
	return Config{Epochs: 25, Batch: 100, Loss: "auto", Optimizer: "adam", LR: 1e-3}
}

// validate names the first field that makes no sense.
func (c Config) validate() error {
	switch {
	case c.Epochs < 1:
		return fmt.Errorf("epochs is %d: at least 1", c.Epochs)
	case c.Batch < 1:
		return fmt.Errorf("batch is %d: at least 1", c.Batch)
	case !(c.LR > 0):
		return fmt.Errorf("lr is %v: it must be positive", c.LR)
	case c.Momentum < 0 || c.Momentum >= 1:
		return fmt.Errorf("momentum is %v: it must be in [0,1)", c.Momentum)
	case c.Nesterov && (c.Momentum == 0 || c.Dampening != 0):
		return fmt.Errorf("nesterov needs momentum and no dampening")
	case c.WeightDecay < 0:
		return fmt.Errorf("weight decay is %v: it must not be negative", c.WeightDecay)
	}
	return nil
}

// Update makes the optimiser.
func (c Config) Update() (engine.Update, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	betas, eps := c.Betas, c.Eps
	if betas == [2]float64{} {
		betas = [2]float64{0.9, 0.999}
	}
	if eps == 0 {
		eps = 1e-8
	}
	switch c.Optimizer {
	case "sgd":
		return &SGD{LR: c.LR, Momentum: c.Momentum, Dampening: c.Dampening, WeightDecay: c.WeightDecay, Nesterov: c.Nesterov}, nil
	case "adam":
		return &Adam{LR: c.LR, Betas: betas, Eps: eps, WeightDecay: c.WeightDecay}, nil
	case "adamw":
		return &Adam{LR: c.LR, Betas: betas, Eps: eps, WeightDecay: c.WeightDecay, Decoupled: true}, nil
	}
	return nil, fmt.Errorf("no optimizer %q: known are sgd, adam, adamw", c.Optimizer)
}
