package convert

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cnnkit/cnnkit/internal/pickle"
	"github.com/cnnkit/cnnkit/onnxio"
)

// member is what a value holds under a name.
type member struct {
	name  string
	value any
}

// members lists what a dict holds under string keys, a list and a tuple under numbers, and an object as items
// or in its state.
func members(v any) []member {
	var out []member
	dict := func(d *pickle.Dict) {
		for i, k := range d.Keys {
			if s, ok := k.(string); ok {
				out = append(out, member{s, d.Values[i]})
			}
		}
	}
	switch v := v.(type) {
	case *pickle.Dict:
		dict(v)
	case *pickle.List:
		out = numbered(v.Items)
	case *pickle.Tuple:
		out = numbered(v.Items)
	case *pickle.Opaque:
		dict(&v.Items)
		if state, ok := v.State.(*pickle.Dict); ok {
			dict(state)
		}
	}
	return out
}

// numbered names the first items of a list: a checkpoint may be a pair of a state dict and something else.
func numbered(items []any) []member {
	var out []member
	for i, v := range items[:min(len(items), 16)] {
		out = append(out, member{strconv.Itoa(i), v})
	}
	return out
}

// candidate is a value that may be a state dict, and where it was found.
type candidate struct {
	name string // dotted; empty at the top
	dict any    // a dict or an object; a module is flattened
}

const candidateDepth = 4 // levels that are searched

// candidates lists the values that hold tensors, the top first. A value met twice counts once, so shared and
// cyclic values cost nothing.
func (c *checkpoint) candidates(root any) ([]candidate, error) {
	var found []candidate
	seen := map[any]bool{root: true}
	level := []candidate{{"", root}}
	for depth := 0; depth < candidateDepth && len(level) > 0; depth++ {
		var next []candidate
		for _, at := range level {
			if m := asModule(at.dict); m != nil {
				flat, err := c.flatten(m)
				if err != nil {
					return nil, err
				}
				if len(flat.Keys) > 0 {
					found = append(found, candidate{at.name, flat})
				}
				continue
			}
			if holdsTensors(at.dict) {
				found = append(found, at)
			}
			for _, m := range members(at.dict) {
				switch m.value.(type) {
				case *pickle.Dict, *pickle.List, *pickle.Tuple, *pickle.Opaque:
					if seen[m.value] {
						continue
					}
					seen[m.value] = true
					if err := c.named(len(at.name) + 1 + len(m.name)); err != nil {
						return nil, err
					}
					next = append(next, candidate{strings.TrimPrefix(at.name+"."+m.name, "."), m.value})
				}
			}
		}
		level = next
	}
	return found, nil
}

func holdsTensors(v any) bool {
	switch v.(type) {
	case *pickle.List, *pickle.Tuple:
		return false
	}
	return slices.ContainsFunc(members(v), func(m member) bool {
		_, ok := m.value.(tensorValue)
		return ok
	})
}

// likely reports whether the candidate looks like a network's weights: a tensor with a dotted key, or a
// matrix. Class weights, best scores and an optimizer's moments do not.
func (at candidate) likely() bool {
	if strings.Contains(strings.ToLower(at.name), "optim") {
		return false
	}
	return slices.ContainsFunc(members(at.dict), func(m member) bool {
		t, ok := m.value.(tensorValue)
		return ok && (t.rank() > 1 || t.rank() == 1 && strings.Contains(m.name, "."))
	})
}

// preferred are the keys under which training scripts put a model's state dict.
var preferred = []string{"state_dict", "model_state_dict", "model", "net", "module", "network", "weights",
	"ema", "model_ema", "state_dict_ema", "params"}

// topKey chooses the top itself, where more is below it.
const topKey = "."

func (at candidate) conventional() bool {
	return slices.Contains(preferred, at.name[strings.LastIndexByte(at.name, '.')+1:])
}

// choose finds the state dict: under c.key, or the only one there is. Several are a choice for the caller.
func (c *checkpoint) choose(root any) (candidate, error) {
	switch root.(type) {
	case *pickle.Dict, *pickle.List, *pickle.Tuple, *pickle.Opaque:
	default:
		return candidate{}, malformed(formatPT, "", "holds no dict at its top, so no state dict")
	}
	found, err := c.candidates(root)
	if err != nil {
		return candidate{}, err
	}
	pool := found
	if c.key != "" {
		if pool = under(found, c.key); len(pool) == 0 {
			return candidate{}, malformed(formatPT, "", "no state dict under %q; there are %s", c.key,
				listed(found))
		}
		if pool[0].name == c.key || c.key == topKey {
			return pool[0], nil
		}
	}
	if likely := matching(pool, candidate.likely); len(likely) > 0 {
		pool = likely
	} else if usual := matching(pool, candidate.conventional); len(usual) > 0 {
		pool = usual
	}
	if len(pool) == 1 {
		return pool[0], nil
	}
	return c.undecided(root, pool)
}

func matching(pool []candidate, keep func(candidate) bool) []candidate {
	var out []candidate
	for _, at := range pool {
		if keep(at) {
			out = append(out, at)
		}
	}
	return out
}

// under keeps the candidates at a key, first, and below it.
func under(found []candidate, key string) []candidate {
	var out []candidate
	for _, at := range found {
		if at.name == key || at.name == "" && key == topKey {
			return []candidate{at}
		}
		if strings.HasPrefix(at.name, key+".") {
			out = append(out, at)
		}
	}
	return out
}

// undecided gives the top where it is an empty dict, else the error.
func (c *checkpoint) undecided(root any, pool []candidate) (candidate, error) {
	if len(pool) > 0 {
		return candidate{}, malformed(formatPT, "", "several state dicts, choose one by its key: %s",
			listed(pool))
	}
	switch v := root.(type) {
	case *pickle.Dict:
		if len(v.Keys) == 0 {
			return candidate{"", v}, nil
		}
	case *pickle.Opaque:
		return candidate{}, malformed(formatPT, "",
			"holds an object of %s, in which no tensors are found; nothing was executed", v.Name)
	}
	return candidate{}, malformed(formatPT, "", "no dict in it holds tensors under string keys")
}

// listed names candidates with the number of their tensors.
func listed(found []candidate) string {
	var out []string
	for _, at := range found[:min(len(found), 20)] {
		n := 0
		for _, m := range members(at.dict) {
			if _, ok := m.value.(tensorValue); ok {
				n++
			}
		}
		where := fmt.Sprintf("%.80q", at.name)
		if at.name == "" {
			where = "the top itself as " + strconv.Quote(topKey)
		}
		out = append(out, fmt.Sprintf("%s (%d tensors)", where, n))
	}
	if more := len(found) - 20; more > 0 {
		out = append(out, fmt.Sprintf("%d more", more))
	}
	if out == nil {
		return "none"
	}
	return strings.Join(out, ", ")
}

// asModule is v where it is an object with the state of a torch.nn.Module.
func asModule(v any) *pickle.Opaque {
	o, ok := v.(*pickle.Opaque)
	if !ok || part(o, "_parameters") == nil && part(o, "_modules") == nil {
		return nil
	}
	return o
}

// part is a dict of a module's state.
func part(o *pickle.Opaque, name string) *pickle.Dict {
	state, ok := o.State.(*pickle.Dict)
	if !ok {
		return nil
	}
	d, _ := state.Get(name).(*pickle.Dict)
	return d
}

// flatten gives a module's state dict in PyTorch's order: its parameters, its buffers without those that are
// not persistent, and then those of its modules. The walk has a stack of its own, and modules and bytes of
// keys a limit, since modules may hold one another.
func (c *checkpoint) flatten(m *pickle.Opaque) (*pickle.Dict, error) {
	out := &pickle.Dict{}
	type step struct {
		prefix string
		module *pickle.Opaque
	}
	for todo := []step{{"", m}}; len(todo) > 0; {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if c.visits += parts(at.module); c.visits > c.lim.MaxObjects {
			return nil, &onnxio.LimitError{What: "parts of modules", Got: c.visits, Limit: c.lim.MaxObjects}
		}
		own := tensorsOf(at.module)
		for _, t := range own {
			if err := c.named(len(at.prefix) + len(t.name)); err != nil {
				return nil, err
			}
			out.Set(at.prefix+t.name, t.value)
		}
		if d := part(at.module, "_modules"); d != nil {
			below := members(d)
			slices.Reverse(below)
			for _, b := range below {
				if sub, ok := b.value.(*pickle.Opaque); ok {
					if err := c.named(len(at.prefix) + len(b.name)); err != nil {
						return nil, err
					}
					todo = append(todo, step{at.prefix + b.name + ".", sub})
				}
			}
		}
	}
	return out, nil
}

// parts counts what a visit of a module looks at.
func parts(o *pickle.Opaque) int64 {
	n := 1
	for _, name := range []string{"_parameters", "_buffers", "_modules"} {
		if d := part(o, name); d != nil {
			n += len(d.Keys)
		}
	}
	if set := passing(o); set != nil {
		n += len(set.Items)
	}
	return int64(n)
}

// passing lists the names of a module's buffers that are not persistent, nil where it does not say.
func passing(o *pickle.Opaque) *pickle.List {
	if state, ok := o.State.(*pickle.Dict); ok {
		if set, ok := state.Get("_non_persistent_buffers_set").(*pickle.Opaque); ok {
			return set.Elements()
		}
	}
	return nil
}

// named counts the bytes of a key that is made of several: a file must not make much
// more of them than it has.
func (c *checkpoint) named(length int) error {
	limit := 4*c.size + 1<<20
	if c.names += int64(length); c.names > limit {
		return &onnxio.LimitError{What: "bytes of dotted keys", Got: c.names, Limit: limit}
	}
	return nil
}

// tensorsOf lists a module's own parameters and buffers; None and other values are left out, opaque ones are
// not.
func tensorsOf(o *pickle.Opaque) []member {
	leave := map[any]bool{}
	if set := passing(o); set != nil {
		for _, name := range set.Items {
			leave[name] = true
		}
	}
	var out []member
	for _, name := range []string{"_parameters", "_buffers"} {
		d := part(o, name)
		if d == nil {
			continue
		}
		for _, m := range members(d) {
			_, isTensor := m.value.(tensorValue)
			_, isOpaque := m.value.(*pickle.Opaque)
			if (isTensor || isOpaque) && !leave[m.name] {
				out = append(out, m)
			}
		}
	}
	return out
}
