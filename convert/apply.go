package convert

import (
	"fmt"
	"strings"

	"github.com/cnnkit/cnnkit/onnxio"
)

// ApplyOptions says how Apply matches keys.
type ApplyOptions struct {
	// Strict makes every missing, unexpected or mismatched key an error, and leaves the model as it was.
	Strict bool
	// Prefix is taken off the state dict's keys, with its dot ("backbone."); keys without it are unexpected.
	Prefix string
}

// Key is a key that found no partner, and the free key of the other side that is spelt most like it.
type Key struct {
	Name    string
	Nearest string // empty when nothing is near
}

// Mismatch is a key whose tensors differ in shape, or in a type that cannot be converted.
type Mismatch struct {
	Name                string
	ModelType, DictType onnxio.DataType
	Model, Dict         []int64
}

// Report says what Apply did with each key.
type Report struct {
	Applied    []string // model names that were given values
	Missing    []Key    // parameters of the model that the state dict lacks
	Unexpected []Key    // keys of the state dict that the model lacks
	Mismatched []Mismatch
	Ignored    []string // num_batches_tracked, and keys tied to one that was applied
}

// OK reports whether every key found its partner.
func (r Report) OK() bool { return len(r.Missing)+len(r.Unexpected)+len(r.Mismatched) == 0 }

// String lists all problems, one a line.
func (r Report) String() string {
	var b strings.Builder
	keys := func(what string, list []Key) {
		for _, k := range list {
			fmt.Fprintf(&b, "\n  %s %q", what, k.Name)
			if k.Nearest != "" {
				fmt.Fprintf(&b, " (nearest: %q)", k.Nearest)
			}
		}
	}
	fmt.Fprintf(&b, "%d keys applied, %d missing, %d unexpected, %d mismatched",
		len(r.Applied), len(r.Missing), len(r.Unexpected), len(r.Mismatched))
	keys("missing", r.Missing)
	keys("unexpected", r.Unexpected)
	for _, m := range r.Mismatched {
		fmt.Fprintf(&b, "\n  mismatched %q: the model has %v %v, the state dict %v %v", m.Name, m.ModelType, m.Model, m.DictType, m.Dict)
	}
	return b.String()
}

// MatchError is Apply's error in strict mode.
type MatchError struct{ Report Report }

// Error lists all problems.
func (e *MatchError) Error() string {
	return "the state dict does not fit the model: " + e.Report.String()
}

// Apply copies a state dict into the model's initializers of the same names. Prefixes that wrappers add ("module.",
// "_orig_mod.") are taken off keys that the model does not have. Floats are converted to the model's element type,
// rounding to nearest even. num_batches_tracked is ignored when the model has no such initializer, and so are keys
// whose tensor is tied to one that was applied. In strict mode the error is a *MatchError.
func Apply(m *onnxio.Model, sd *StateDict, opt ApplyOptions) (Report, error) {
	var rep Report
	params, err := FromModel(m)
	if err != nil {
		return rep, err
	}
	if err := sd.check(); err != nil {
		return rep, err
	}
	inits := map[string]*onnxio.Tensor{}
	for _, t := range m.Graph.Initializers {
		if t != nil {
			inits[t.Name] = t
		}
	}
	given, strangers := match(sd, inits, opt.Prefix)
	fresh := map[string][]byte{}
	for _, e := range given {
		dst := inits[e.Name]
		raw, ok := converted(dst, e.Tensor)
		if !ok {
			rep.Mismatched = append(rep.Mismatched, Mismatch{e.Name, dst.Type, e.Tensor.Type, dst.Dims, e.Tensor.Dims})
			continue
		}
		fresh[e.Name] = raw
		rep.Applied = append(rep.Applied, e.Name)
	}
	rep.strangers(given, strangers)
	matched := map[string]bool{}
	for _, e := range given {
		matched[e.Name] = true
	}
	for _, e := range params.entries {
		if !matched[e.Name] && inits[e.Name] != nil {
			rep.Missing = append(rep.Missing, Key{Name: e.Name})
		}
	}
	nearestKeys(rep.Missing, rep.Unexpected)
	if opt.Strict && !rep.OK() {
		return rep, &MatchError{rep}
	}
	// New tensors, because the old ones may be shared: with a state dict from FromModel, with a copy of the graph.
	for i, t := range m.Graph.Initializers {
		if t == nil || inits[t.Name] != t {
			continue
		}
		if raw, ok := fresh[t.Name]; ok {
			given := *t
			given.Raw = raw
			m.Graph.Initializers[i] = &given
		}
	}
	return rep, nil
}

// match pairs the state dict's entries with initializers; given entries carry the model's names.
func match(sd *StateDict, inits map[string]*onnxio.Tensor, prefix string) (given, strangers []Entry) {
	taken := map[string]bool{}
	var wrapped []Entry // an exact name goes before one that must lose a prefix first
	for _, e := range sd.entries {
		name, ok := strings.CutPrefix(e.Name, prefix)
		switch {
		case !ok:
			strangers = append(strangers, e)
		case inits[name] != nil && !taken[name]:
			taken[name] = true
			given = append(given, Entry{name, e.Tensor})
		default:
			wrapped = append(wrapped, Entry{name, e.Tensor})
		}
	}
	for _, e := range wrapped {
		if name := unwrapped(e.Name); inits[name] != nil && !taken[name] {
			taken[name] = true
			given = append(given, Entry{name, e.Tensor})
		} else {
			strangers = append(strangers, Entry{name, e.Tensor})
		}
	}
	return given, strangers
}

// unwrapped takes off what DataParallel and torch.compile put before a key.
func unwrapped(name string) string {
	for {
		rest, ok := strings.CutPrefix(name, "module.")
		if !ok {
			rest, ok = strings.CutPrefix(name, "_orig_mod.")
		}
		if !ok {
			return name
		}
		name = rest
	}
}

// strangers sorts the keys without a partner into ignored and unexpected.
func (r *Report) strangers(given, strangers []Entry) {
	type piece struct {
		first *byte
		n     int
	}
	applied := map[piece]bool{}
	for _, e := range given {
		if len(e.Tensor.Raw) > 0 {
			applied[piece{&e.Tensor.Raw[0], len(e.Tensor.Raw)}] = true
		}
	}
	for _, e := range strangers {
		tied := len(e.Tensor.Raw) > 0 && applied[piece{&e.Tensor.Raw[0], len(e.Tensor.Raw)}]
		if tied || strings.HasSuffix(e.Name, batches) || "."+e.Name == batches {
			r.Ignored = append(r.Ignored, e.Name)
		} else {
			r.Unexpected = append(r.Unexpected, Key{Name: e.Name})
		}
	}
}

// nearestKeys pairs names by edit distance. Only the first hundred of each list get a hint: nobody reads more.
func nearestKeys(a, b []Key) {
	a, b = a[:min(len(a), 100)], b[:min(len(b), 100)]
	hint := func(to, from []Key) {
		for i := range to {
			best := len(to[i].Name)/2 + 1
			for _, k := range from {
				if d := editDistance(to[i].Name, k.Name, best); d < best {
					best, to[i].Nearest = d, k.Name
				}
			}
		}
	}
	hint(a, b)
	hint(b, a)
}

// editDistance is Levenshtein's; limit or more when it is at least limit. Very long names are not compared.
func editDistance(a, b string, limit int) int {
	if max(len(a)-len(b), len(b)-len(a)) >= limit || len(a) > 256 || len(b) > 256 {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diag
			if a[i] != b[j] {
				cost++
			}
			diag = row[j+1]
			row[j+1] = min(cost, row[j]+1, diag+1)
		}
	}
	return row[len(b)]
}
