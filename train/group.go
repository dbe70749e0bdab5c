package train

import (
	"fmt"
	"path"
	"slices"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/onnxio"
)

func (g Group) validate() error {
	if _, err := path.Match(g.Params, ""); err != nil || g.Params == "" {
		return fmt.Errorf("group %q: params is bias, norm or a pattern of names", g.Params)
	}
	for name, v := range map[string]*float64{"lr_scale": g.LRScale, "weight_decay": g.WeightDecay,
		"momentum": g.Momentum} {
		if v != nil && !(*v >= 0) {
			return fmt.Errorf("group %q: %s must not be negative", g.Params, name)
		}
	}
	if g.Momentum != nil && *g.Momentum >= 1 {
		return fmt.Errorf("group %q: momentum is %v: it must be in [0,1)", g.Params, *g.Momentum)
	}
	if g.Epochs < 0 {
		return fmt.Errorf("group %q: epochs is %d: it must not be negative", g.Params, g.Epochs)
	}
	if g.Optimizer != "" {
		if _, err := optimizers.find(g.Optimizer); err != nil {
			return fmt.Errorf("group %q: %w", g.Params, err)
		}
	}
	return nil
}

// roles says of each initializer whether it is a "bias" or of a "norm", by the nodes that read it. Exporters spell
// layers out: what scales and shifts normalized maps is of a norm, what is added to a MatMul is a bias.
func roles(m *onnxio.Model) map[string]string {
	const normalized = "normalized"
	out, from := map[string]string{}, map[string]string{} // from: the operator that made a value, or normalized
	for _, n := range m.Graph.Nodes {
		in := append(slices.Clone(n.Inputs), "", "", "")
		made := n.OpType
		switch n.OpType {
		case "InstanceNormalization":
			out[in[1]], out[in[2]], made = "norm", "norm", normalized
		case "BatchNormalization", "LayerNormalization", "GroupNormalization", "RMSNormalization":
			out[in[1]], out[in[2]] = "norm", "norm"
		case "Conv", "ConvTranspose", "Gemm":
			if out[in[2]] == "" {
				out[in[2]] = "bias"
			}
		case "Add", "Mul":
			vector, other := in[0], in[1]
			if m.Graph.Initializer(vector) == nil {
				vector, other = other, vector
			}
			switch {
			case !isVector(m.Graph.Initializer(vector)):
			case from[other] == normalized:
				out[vector], made = "norm", normalized
			case from[other] == "MatMul" && n.OpType == "Add" && out[vector] == "":
				out[vector] = "bias"
			}
		case "Reshape", "Transpose", "Flatten":
			made = from[in[0]]
		case "Div":
			if from[in[1]] == "Sqrt" { // of a variance
				made = normalized
			}
		}
		for _, y := range n.Outputs[:min(1, len(n.Outputs))] {
			from[y] = made
		}
	}
	delete(out, "")
	return out
}

// isVector reports whether t has numbers along one dimension alone: [C], [C,1,1].
func isVector(t *onnxio.Tensor) bool {
	return t != nil && len(t.Dims) > 0 && t.Size() == slices.Max(t.Dims)
}

// groupIndex finds the group of a parameter; -1 when it is in none.
func (c Config) groupIndex(name, role string) int {
	return slices.IndexFunc(c.Groups, func(g Group) bool {
		return g.Params == role || fits(g.Params, name)
	})
}

// group is the group of a parameter; the zero Group when it is in none.
func (c Config) group(name, role string) Group {
	if i := c.groupIndex(name, role); i >= 0 {
		return c.Groups[i]
	}
	return Group{}
}

// scaled is a rule, the factor of its learning rate, and the epochs that it is for.
type scaled struct {
	Rule
	scale  float64
	after  int64 // steps of the run before its first
	epochs int   // of the run that it is for; 0: all
}

// Begin counts the steps from the one after which the rule's parameters were unfrozen.
func (s scaled) Begin(step int64) { s.Rule.Begin(step - s.after) }

// settings is what parameters of one rule have in common.
type settings struct {
	group int // -1: none
	scale float64
	after int64
}

// settings finds those of a parameter: layer is its factor of the rate, perEpoch the
// optimiser's steps in an epoch.
func (c Config) settings(name, role string, layer map[string]float64, perEpoch int64) settings {
	s := settings{group: c.groupIndex(name, role), scale: 1}
	if s.group >= 0 {
		s.scale = value(c.Groups[s.group].LRScale, 1)
	}
	if f, ok := layer[name]; ok {
		s.scale *= f
	}
	if !slices.ContainsFunc(c.Freeze, func(p string) bool { return fits(p, name) }) {
		return s
	}
	var first []int64
	for _, u := range c.Unfreeze {
		if fits(u.Params, name) {
			first = append(first, int64(u.Epoch-1)*perEpoch)
		}
	}
	if first != nil {
		s.after = slices.Min(first)
	}
	return s
}

// makeRules makes the rule of the parameters without settings of their own, the first, and one for each of
// the other settings, which own gives by the parameters' names.
func (t *Trainer) makeRules() (all []scaled, own map[string]engine.Update, err error) {
	c := t.cfg
	made := map[settings]engine.Update{}
	rule := func(s settings) (engine.Update, error) {
		if u, ok := made[s]; ok {
			return u, nil
		}
		g := Group{}
		if s.group >= 0 {
			g = c.Groups[s.group]
		}
		u, err := c.rule(g, nil)
		if err != nil {
			return nil, err
		}
		all = append(all, scaled{u, s.scale, s.after, g.Epochs})
		if made[s] = u; s.after > 0 {
			made[s] = all[len(all)-1]
		}
		return made[s], nil
	}
	common := settings{group: -1, scale: 1}
	if _, err := rule(common); err != nil {
		return nil, nil, err
	}
	layer, err := c.layerScales(t.model)
	if err != nil {
		return nil, nil, err
	}
	role := roles(t.graph)
	own = map[string]engine.Update{}
	for _, init := range t.graph.Graph.Initializers {
		s := c.settings(init.Name, role[init.Name], layer, t.perEpoch)
		if s == common {
			continue
		}
		if own[init.Name], err = rule(s); err != nil {
			return nil, nil, err
		}
	}
	return all, own, nil
}

// parametersOf lists what of a model can be trained: of a network of package builders all of its parameters, of
// another model what engine.Uses finds to be weights.
func parametersOf(m *onnxio.Model) ([]string, error) {
	if _, _, built := builders.Arch(m); built {
		return builders.ParameterNames(m), nil
	}
	return engine.Trainable(m)
}

// trained lists the parameters of a training graph of m that are trained, without those that are frozen.
func (c Config) trained(m, graph *onnxio.Model) ([]string, error) {
	all, err := parametersOf(m)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, fmt.Errorf(
			"the model has no weights to train: 'cnnkit inspect --trainable' says what its initializers are")
	}
	slices.Sort(all)
	role, names := roles(graph), []string{}
	for _, name := range all {
		if graph.Graph.Initializer(name) != nil && !c.group(name, role[name]).Freeze && !c.freezes(name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("every parameter is frozen: leave the last layer, at least, out of freeze")
	}
	return names, nil
}
