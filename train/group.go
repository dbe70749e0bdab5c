package train

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/onnxio"
)

func (g Group) validate() error {
	if _, err := path.Match(g.Params, ""); err != nil || g.Params == "" {
		return fmt.Errorf("group %q: params is bias, norm or a pattern of names", g.Params)
	}
	for name, v := range map[string]*float64{"lr_scale": g.LRScale, "weight_decay": g.WeightDecay, "momentum": g.Momentum} {
		if v != nil && !(*v >= 0) {
			return fmt.Errorf("group %q: %s must not be negative", g.Params, name)
		}
	}
	if g.Momentum != nil && *g.Momentum >= 1 {
		return fmt.Errorf("group %q: momentum is %v: it must be in [0,1)", g.Params, *g.Momentum)
	}
	if g.Optimizer != "" {
		if _, err := optimizers.find(g.Optimizer); err != nil {
			return fmt.Errorf("group %q: %w", g.Params, err)
		}
	}
	return nil
}

// roles says of each initializer whether it is a "bias" or of a "norm", by the nodes that read it.
func roles(m *onnxio.Model) map[string]string {
	out := map[string]string{}
	for _, n := range m.Graph.Nodes {
		for i, name := range n.Inputs {
			switch n.OpType {
			case "BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization":
				if i == 1 || i == 2 {
					out[name] = "norm"
				}
			case "Conv", "ConvTranspose", "Gemm":
				if i == 2 && out[name] == "" {
					out[name] = "bias"
				}
			}
		}
	}
	return out
}

// groupIndex finds the group of a parameter; -1 when it is in none.
func (c Config) groupIndex(name, role string) int {
	return slices.IndexFunc(c.Groups, func(g Group) bool {
		matched, _ := path.Match(g.Params, name)
		return g.Params == role || matched
	})
}

// group is the group of a parameter; the zero Group when it is in none.
func (c Config) group(name, role string) Group {
	if i := c.groupIndex(name, role); i >= 0 {
		return c.Groups[i]
	}
	return Group{}
}

// scaled is a rule and the factor of its learning rate.
type scaled struct {
	Rule
	scale float64
}

// rules makes the rule of the parameters in no group, and one for each group, which own gives by the parameters' names.
func (c Config) rules(graph *onnxio.Model) (all []scaled, own map[string]engine.Update, err error) {
	for _, g := range append([]Group{{}}, c.Groups...) {
		u, err := c.rule(g, nil)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, scaled{u, value(g.LRScale, 1)})
	}
	role := roles(graph)
	own = map[string]engine.Update{}
	for _, init := range graph.Graph.Initializers {
		if i := c.groupIndex(init.Name, role[init.Name]); i >= 0 {
			own[init.Name] = all[i+1].Rule
		}
	}
	return all, own, nil
}

// frozen says whether some group is not trained.
func (c Config) frozen() bool {
	return slices.ContainsFunc(c.Groups, func(g Group) bool { return g.Freeze })
}

// trained lists the parameters to train, nil meaning all that the engine finds: of a network of package builders all of its
// parameters, of another model the initializers that stand where operators take weights.
func (c Config) trained(graph *onnxio.Model) ([]string, error) {
	_, _, built := builders.Arch(graph)
	if !c.frozen() && !built {
		return nil, nil
	}
	all := slices.DeleteFunc(slices.Sorted(slices.Values(builders.ParameterNames(graph))), func(name string) bool {
		return strings.HasPrefix(name, lossPrefix) // the loss's own constants
	})
	if !built {
		found, err := engine.NewTrainer(graph, engine.TrainOptions{Loss: LossName})
		if err != nil {
			return nil, err
		}
		all = found.Params()
	}
	role, names := roles(graph), []string{}
	for _, name := range all {
		if !c.group(name, role[name]).Freeze {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("the groups freeze every parameter")
	}
	return names, nil
}
