package train

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/cnnkit/cnnkit/convert"
	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/onnxio"
)

// Unfreeze ends the freezing of some parameters: gradual unfreezing.
type Unfreeze struct {
	Epoch  int    `json:"epoch"`  // the first epoch, from 1, that trains them
	Params string `json:"params"` // a pattern of parameters or modules, as in Config.Freeze
}

// at is the configuration of an epoch: of Unfreeze only what is in effect then, and groups
// frozen whose epochs are over.
func (c Config) at(epoch int) Config {
	c.Groups = slices.Clone(c.Groups)
	for i, g := range c.Groups {
		c.Groups[i].Freeze = g.Freeze || g.Epochs > 0 && epoch > g.Epochs
	}
	c.Unfreeze = slices.DeleteFunc(slices.Clone(c.Unfreeze), func(u Unfreeze) bool { return u.Epoch > epoch })
	return c
}

func (c Config) validateFreeze() error {
	for _, p := range c.Freeze {
		if _, err := path.Match(p, ""); err != nil || p == "" {
			return fmt.Errorf("freeze %q: a pattern of parameters or modules is wanted, such as layer1 or layer[1-3].*", p)
		}
	}
	for _, u := range c.Unfreeze {
		switch _, err := path.Match(u.Params, ""); {
		case err != nil || u.Params == "":
			return fmt.Errorf("unfreeze %q: a pattern of parameters or modules is wanted, such as layer4",
				u.Params)
		case u.Epoch < 1:
			return fmt.Errorf("unfreeze %q: epoch is %d: the first epoch that trains it, from 1",
				u.Params, u.Epoch)
		case len(c.Freeze) == 0:
			return fmt.Errorf("unfreeze %q: nothing is frozen", u.Params)
		case c.SWA.Start > 0:
			return fmt.Errorf("unfreeze and swa do not go together: the average would have weights of several stages")
		}
	}
	switch {
	case c.CacheFeatures && (len(c.Augment) > 0 || len(c.Mix) > 0):
		return fmt.Errorf("cache_features keeps what the frozen layers give for each image, and augment and mix change the images in every epoch: leave out one of them")
	case c.CacheMiB > 0 && !c.CacheFeatures:
		return fmt.Errorf("cache_mib is the memory of cache_features, which is not set")
	}
	return nil
}

// fits says whether a pattern is that of a name, or of a module above it: "layer1"
// fits "layer1.0.conv1.weight".
func fits(pattern, name string) bool {
	for end := len(name); end > 0; end = strings.LastIndexAny(name[:end], "./") {
		if ok, _ := path.Match(pattern, name[:end]); ok {
			return true
		}
	}
	return false
}

// freezes says whether Freeze holds a parameter, a running statistic or a node of this name.
func (c Config) freezes(name string) bool {
	return slices.ContainsFunc(c.Freeze, func(p string) bool { return fits(p, name) }) &&
		!slices.ContainsFunc(c.Unfreeze, func(u Unfreeze) bool { return fits(u.Params, name) })
}

// checkPatterns names all patterns of Freeze, Unfreeze and Groups that fit nothing in the model, with the name that
// is spelled most like each.
func (c Config) checkPatterns(m *onnxio.Model) error {
	var bad []string
	known := modules(m)
	check := func(what, p string, also bool) {
		if also || slices.ContainsFunc(m.Graph.Initializers, func(t *onnxio.Tensor) bool { return fits(p, t.Name) }) {
			return
		}
		bad = append(bad, fmt.Sprintf("%s %q", what, p))
		if near := convert.Nearest(p, known); near != "" {
			bad[len(bad)-1] += fmt.Sprintf(" (nearest: %q)", near)
		}
	}
	dropout := func(p string) bool {
		return slices.ContainsFunc(m.Graph.Nodes, func(n *onnxio.Node) bool {
			return n.OpType == "Dropout" && fits(p, n.Name)
		})
	}
	for _, p := range c.Freeze {
		check("freeze", p, dropout(p))
	}
	for _, u := range c.Unfreeze {
		check("unfreeze", u.Params, dropout(u.Params))
	}
	for _, g := range c.Groups {
		check("group", g.Params, g.Params == "bias" || g.Params == "norm")
	}
	if bad == nil {
		return nil
	}
	return fmt.Errorf("no parameter or module fits %s", strings.Join(bad, ", "))
}

// modules lists the float initializers' names and those of the modules above them.
func modules(m *onnxio.Model) []string {
	var out []string
	seen := map[string]bool{}
	for _, t := range m.Graph.Initializers {
		if t.Type != onnxio.Float {
			continue
		}
		for end := len(t.Name); end > 0 && !seen[t.Name[:end]]; end = strings.LastIndexAny(t.Name[:end],
			"./") {
			seen[t.Name[:end]] = true
			out = append(out, t.Name[:end])
		}
	}
	return out
}

// stillNodes finds the nodes that stay in inference mode: BatchNormalizations whose statistics are frozen,
// and Dropouts of frozen modules or with frozen layers behind them and nothing trained before.
func (c Config) stillNodes(m *onnxio.Model) map[*onnxio.Node]bool {
	still := map[*onnxio.Node]bool{}
	if len(c.Freeze) == 0 {
		return still
	}
	for _, n := range m.Graph.Nodes {
		switch {
		case isBatchNorm(n) && len(n.Inputs) == 5:
			still[n] = c.freezes(n.Inputs[3]) && c.freezes(n.Inputs[4])
		case n.OpType == "Dropout" && n.Domain == "":
			still[n] = c.freezes(n.Name)
		}
	}
	led := c.beforeFrozen(m, still)
	for _, n := range m.Graph.Nodes {
		if n.OpType == "Dropout" && n.Domain == "" && led[n] {
			still[n] = true
		}
	}
	return still
}

func isBatchNorm(n *onnxio.Node) bool { return n.OpType == "BatchNormalization" && n.Domain == "" }

// beforeFrozen finds the nodes from which a path leads to a frozen layer that depends on nothing trained.
func (c Config) beforeFrozen(m *onnxio.Model, still map[*onnxio.Node]bool) map[*onnxio.Node]bool {
	live, producer := map[string]bool{}, map[string]*onnxio.Node{}
	var todo []*onnxio.Node
	for _, n := range m.Graph.Nodes {
		moves := isBatchNorm(n) && !still[n]
		for _, in := range n.Inputs {
			t := m.Graph.Initializer(in)
			moves = moves || live[in] || t != nil && t.Type == onnxio.Float && len(t.Dims) > 0 &&
				!c.freezes(in)
		}
		for _, out := range n.Outputs {
			live[out], producer[out] = moves, n
		}
		if !moves && weighs(m, n) {
			todo = append(todo, n)
		}
	}
	led := map[*onnxio.Node]bool{}
	for len(todo) > 0 {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if led[n] {
			continue
		}
		led[n] = true
		for _, in := range n.Inputs {
			if p := producer[in]; p != nil {
				todo = append(todo, p)
			}
		}
	}
	return led
}

// weighs says whether a node is a layer: whether an initializer stands where its operator takes weights.
func weighs(m *onnxio.Model, n *onnxio.Node) bool {
	d := ops.Lookup(n.Domain, n.OpType)
	return d != nil && slices.ContainsFunc(d.Weights, func(i int) bool {
		return i < len(n.Inputs) && m.Graph.Initializer(n.Inputs[i]) != nil
	})
}
