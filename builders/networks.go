package builders

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Config chooses among a network's variants. Zero values mean the network's defaults (Defaults).
type Config struct {
	Input   [3]int `json:"input,omitzero"`   // channels, height, width
	Classes int    `json:"classes,omitzero"` // or channels of the mask
	Blocks  []int  `json:"blocks,omitempty"` // residual networks: blocks per layer
	Width   int    `json:"width,omitzero"`   // unet, VGG and residual networks: channels of the first level
	Depth   int    `json:"depth,omitzero"`   // unet: levels above the bottleneck
	// StochasticDepth is the probability in [0,1) that training drops the branch of the last
	// residual block for an image; it rises linearly to that from block to block. 0 is the network's
	// own, NoStochasticDepth none.
	StochasticDepth float64 `json:"stochastic_depth,omitzero"`

	Opset int64  `json:"opset,omitzero"`
	Seed  uint64 `json:"seed,omitzero"`
}

// NoStochasticDepth turns off the stochastic depth of a network that has it by default.
const NoStochasticDepth = -1

// Info describes a network that Build knows.
type Info struct {
	Name     string
	Summary  string
	Defaults Config
}

// Names lists the networks that Build knows.
func Names() []string {
	var out []string
	for name := range networks {
		out = append(out, name)
	}
	sort.Strings(out)
	return out
}

// List describes them.
func List() []Info {
	var out []Info
	for _, name := range Names() {
		out = append(out, networks[name].Info)
	}
	return out
}

// Defaults is the configuration that Build completes the given one with.
func Defaults(name string) (Config, error) {
	n, ok := networks[name]
	if !ok {
		return Config{}, unknown(name)
	}
	c := n.Defaults
	c.Opset = cmp.Or(c.Opset, 17)
	return c, nil
}

// unknown lists the networks whose names begin as name does, or all.
func unknown(name string) error {
	known := Names()
	for n := len(name); n > 0; n-- {
		alike := slices.DeleteFunc(slices.Clone(known), func(k string) bool {
			return !strings.HasPrefix(k, name[:n])
		})
		if len(alike) > 0 {
			known = alike
			break
		}
	}
	return fmt.Errorf("no network %q: known are %v", name, known)
}

// Build makes the named network. The input is "input" [N,C,H,W]; the output "output" holds log-probabilities
// [N,classes] of lenet5, minivgg and resnet, and of the others logits [N,classes], or [N,classes,H,W] of
// those that give masks. What the network does not take must be zero in cfg. The model's metadata records
// name and configuration (Arch).
func Build(name string, cfg Config) (*onnxio.Model, error) { return build(name, cfg, false) }

// Outline is Build without weights: the initializers have types and shapes, and no numbers. It is quick
// whatever the network's size, and good for counting.
func Outline(name string, cfg Config) (*onnxio.Model, error) { return build(name, cfg, true) }

func build(name string, cfg Config, outline bool) (*onnxio.Model, error) {
	def, err := Defaults(name)
	if err != nil {
		return nil, err
	}
	if err := foreign(name, cfg, def); err != nil {
		return nil, err
	}
	cfg = completed(cfg, def)
	b := New(name, cfg.Opset, cfg.Seed, cfg.Input[0], cfg.Input[1], cfg.Input[2])
	b.outline = outline
	effective := cfg
	if cfg.StochasticDepth == NoStochasticDepth {
		effective.StochasticDepth = 0
	}
	m, err := b.finish(networks[name].build(b, effective))
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(cfg)
	if err != nil {
		return nil, err
	}
	m.SetProperty("cnnkit.arch", name)
	m.SetProperty("cnnkit.config", string(text))
	if len(b.heads) > 0 {
		heads, err := json.Marshal(b.heads)
		if err != nil {
			return nil, err
		}
		m.SetProperty("cnnkit.heads", string(heads))
	}
	return m, nil
}

// foreign reports what is set in c though the network, whose defaults are def, does not take it.
func foreign(name string, c, def Config) error {
	takes := []string{"input", "classes"}
	var not []string
	for _, o := range []struct {
		name        string
		set, exists bool
	}{
		{"blocks", len(c.Blocks) > 0, len(def.Blocks) > 0},
		{"width", c.Width != 0, def.Width != 0},
		{"depth", c.Depth != 0, def.Depth != 0},
		{"stochastic_depth", c.StochasticDepth != 0, len(def.Blocks) > 0 || def.StochasticDepth != 0},
	} {
		if o.exists {
			takes = append(takes, o.name)
		} else if o.set {
			not = append(not, o.name)
		}
	}
	if not == nil {
		return nil
	}
	return fmt.Errorf("%s does not take %s: it takes %s, opset and seed", name, strings.Join(not, " or "),
		strings.Join(takes, ", "))
}

func completed(c, def Config) Config {
	if c.Input == [3]int{} {
		c.Input = def.Input
	}
	if c.Classes == 0 {
		c.Classes = def.Classes
	}
	if len(c.Blocks) == 0 {
		c.Blocks = def.Blocks
	}
	if c.Width == 0 {
		c.Width = def.Width
	}
	if c.Depth == 0 {
		c.Depth = def.Depth
	}
	if c.StochasticDepth == 0 {
		c.StochasticDepth = def.StochasticDepth
	}
	if c.Opset == 0 {
		c.Opset = def.Opset
	}
	return c
}

// Arch reads back which network and configuration a model was built from.
func Arch(m *onnxio.Model) (name string, cfg Config, ok bool) {
	name, ok = m.Property("cnnkit.arch")
	text, has := m.Property("cnnkit.config")
	return name, cfg, ok && has && json.Unmarshal([]byte(text), &cfg) == nil
}

// Heads gives a model's auxiliary classifiers.
func Heads(m *onnxio.Model) []Head {
	var out []Head
	if text, ok := m.Property("cnnkit.heads"); ok && json.Unmarshal([]byte(text), &out) == nil {
		return out
	}
	return nil
}
