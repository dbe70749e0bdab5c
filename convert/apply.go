package convert

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cnnkit/cnnkit/onnxio"
)

// ApplyOptions says how Apply matches keys.
type ApplyOptions struct {
	// Strict makes every missing, unexpected or mismatched key an error, and leaves the model as it was.
	Strict bool
	// Prefix is taken off the state dict's keys, with its dot ("backbone."); keys without it are unexpected.
	// When it is empty, Apply looks for one that all keys have (Report.Prefix).
	Prefix string
	// Map renames keys before anything else is done; a key that it renames keeps that name.
	Map *KeyMap
	// Replaceable names initializers that keep the model's own values where the state dict has none of them,
	// or has them for another number of classes: in another first dimension alone (Report.Replaced).
	Replaceable []string
}

// Key is a key that found no partner, and the free key of the other side that is spelt most like it.
type Key struct {
	Name    string
	Nearest string // empty when nothing is near
	Object  string // the class of the object that a missing key has in the file, where a tensor must be
}

// Pair is a key of a state dict and the initializer that was given its values.
type Pair struct {
	Key  string `json:"key"`
	Name string `json:"name"`
}

// Fit says how many keys a model would have without a prefix.
type Fit struct {
	Prefix   string
	Keys, Of int
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
	// of ApplyOptions.Replaceable, those that keep the model's values; Dict is nil
	// where the state dict has none
	Replaced []Mismatch
	Ignored  []string // num_batches_tracked, and keys tied to one that was applied
	Pairs    []Pair   // the keys of Applied, in its order; several where a parameter is joined from parts
	Unused   []string // rules of the map that no key matches
	Prefix   string   // taken off all keys because they fit without it
	// whose names for the modules the keys were found to be, where they are not the model's
	Scheme  string
	Adapted []string // what of the graph was made as Scheme's library has it
	Better  Fit      // the prefix without which most keys would fit, where that is more than do
}

// OK reports whether every key found its partner, and every rule of the map its key.
func (r Report) OK() bool {
	return len(r.Missing)+len(r.Unexpected)+len(r.Mismatched)+len(r.Unused) == 0
}

// String lists all problems, one a line.
func (r Report) String() string {
	var b strings.Builder
	keys := func(what string, list []Key) {
		for _, k := range list {
			fmt.Fprintf(&b, "\n  %s %q", what, k.Name)
			if k.Nearest != "" {
				fmt.Fprintf(&b, " (nearest: %q)", k.Nearest)
			}
			if k.Object != "" {
				fmt.Fprintf(&b, " (the file has an object of %s there, which is no tensor)", k.Object)
			}
		}
	}
	if r.Scheme != "" {
		fmt.Fprintf(&b, "read as %s, ", r.Scheme)
	}
	fmt.Fprintf(&b, "%d keys applied, %d missing, %d unexpected, %d mismatched",
		len(r.Applied), len(r.Missing), len(r.Unexpected), len(r.Mismatched))
	keys("missing", r.Missing)
	keys("unexpected", r.Unexpected)
	for _, m := range r.Mismatched {
		fmt.Fprintf(&b, "\n  mismatched %q: the model has %v %v, the state dict %v %v", m.Name, m.ModelType,
			m.Model, m.DictType, m.Dict)
	}
	for _, rule := range r.Unused {
		fmt.Fprintf(&b, "\n  rule %q of the map matches no key", rule)
	}
	if r.Better.Keys > 0 {
		fmt.Fprintf(&b, "\n  without the prefix %q %d of %d keys fit", r.Better.Prefix, r.Better.Keys,
			r.Better.Of)
	}
	return b.String()
}

// MatchError is Apply's error in strict mode.
type MatchError struct{ Report Report }

// Error lists all problems.
func (e *MatchError) Error() string {
	return "the state dict does not fit the model: " + e.Report.String()
}

// Apply copies a state dict into the model's initializers of the same names. Before that, opt.Map renames
// keys and opt.Prefix is taken off; what wrappers add ("module.", "_orig_mod.", "_fsdp_wrapped_module.") is
// taken off keys that the model does not have, and so is a prefix that all keys have and at least half of
// them fit without. Keys that other libraries give to torchvision's modules are known, if every one finds its
// partner; where the library's network differs in a norm's epsilon or a convolution's padding, the graph is
// changed to the library's (Report.Adapted). Floats are converted to the model's element type, rounding to
// nearest even. num_batches_tracked is ignored when the model has no such initializer, and so are keys whose
// tensor is tied to one that was applied. In strict mode the error is a *MatchError; so it is in any mode
// when no key of either side finds a partner.
func Apply(m *onnxio.Model, sd *StateDict, opt ApplyOptions) (rep Report, err error) {
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
	var adapted variant
	named := func() {}
	if opt.Map == nil && opt.Prefix == "" {
		if s := schemeFor(sd, inits, opt.Replaceable); s != nil {
			rep.Scheme = s.name
			if s.variant != nil {
				if adapted, err = s.variant(sd.origin); err != nil {
					return rep, err
				}
			}
			theirs := sd
			sd = s.translated(sd, inits)
			named = func() { rep.name(theirs, s) }
		}
	}
	fresh := rep.pair(sd, inits, opt)
	for _, e := range params.entries {
		// Integers are tables that the model has already: an index, not what was learnt.
		if _, ok := fresh[e.Name]; !ok && inits[e.Name] != nil && isFloat(e.Tensor.Type) {
			rep.Missing = append(rep.Missing,
				Key{Name: e.Name, Object: sd.objects[opt.Prefix+rep.Prefix+e.Name]})
		}
	}
	rep.replace(opt.Replaceable, inits)
	rep.suggest(sd, inits, opt)
	named()
	if opt.Strict && !rep.OK() || len(rep.Applied) == 0 && !rep.OK() {
		return rep, &MatchError{rep}
	}
	if rep.Adapted, err = adapted.apply(m); err != nil {
		return rep, err
	}
	// New tensors, because the old ones may be shared: with a state dict from FromModel, with a copy of the
	// graph.
	for i, t := range m.Graph.Initializers {
		if t == nil || inits[t.Name] != t {
			continue
		}
		if raw := fresh[t.Name]; raw != nil {
			given := *t
			given.Raw = raw
			m.Graph.Initializers[i] = &given
		}
	}
	return rep, nil
}

// name puts the file's own keys into the report on a state dict that s translated.
func (r *Report) name(theirs *StateDict, s *scheme) {
	own := map[string][]string{}
	for _, e := range theirs.entries {
		if s.unused != nil && s.unused.MatchString(e.Name) {
			r.Ignored = append(r.Ignored, e.Name)
			continue
		}
		name := s.rename(e.Name).name
		own[name] = append(own[name], e.Name)
	}
	var pairs []Pair
	for _, p := range r.Pairs {
		for _, key := range own[p.Key] {
			pairs = append(pairs, Pair{key, p.Name})
		}
	}
	r.Pairs = pairs
	first := func(name string) string {
		if keys := own[name]; len(keys) > 0 {
			return keys[0]
		}
		return name
	}
	for i := range r.Unexpected {
		r.Unexpected[i].Name = first(r.Unexpected[i].Name)
	}
	for i := range r.Missing {
		r.Missing[i].Nearest = first(r.Missing[i].Nearest)
	}
	for i, key := range r.Ignored {
		r.Ignored[i] = first(key)
	}
}

// pair matches the state dict's entries with initializers, and gives the bytes of these, nil where they
// mismatch.
func (r *Report) pair(sd *StateDict, inits map[string]*onnxio.Tensor, opt ApplyOptions) map[string][]byte {
	if opt.Prefix == "" {
		r.Prefix = commonPrefix(sd, inits, opt.Map)
		opt.Prefix = r.Prefix
	}
	given, strangers, used := match(sd, inits, opt)
	r.Unused = opt.Map.unused(used)
	fresh := map[string][]byte{}
	for _, e := range given {
		dst := inits[e.name]
		raw, ok := converted(dst, e.Tensor)
		if fresh[e.name] = raw; !ok {
			r.Mismatched = append(r.Mismatched, Mismatch{e.name, dst.Type, e.Tensor.Type, dst.Dims,
				e.Tensor.Dims})
			continue
		}
		r.Applied = append(r.Applied, e.name)
		r.Pairs = append(r.Pairs, Pair{e.Name, e.name})
	}
	r.strangers(given, strangers)
	return fresh
}

// replace takes the classifier out of what is missing or mismatched: all of it, or nothing.
func (r *Report) replace(names []string, inits map[string]*onnxio.Tensor) {
	var replaced []Mismatch
	for _, m := range r.Mismatched {
		if slices.Contains(names, m.Name) && len(m.Dict) > 0 && len(m.Dict) == len(m.Model) &&
			slices.Equal(m.Dict[1:], m.Model[1:]) {
			replaced = append(replaced, m)
		}
	}
	for _, k := range r.Missing {
		if slices.Contains(names, k.Name) {
			t := inits[k.Name]
			replaced = append(replaced, Mismatch{Name: k.Name, ModelType: t.Type, Model: t.Dims})
		}
	}
	// an auxiliary classifier alone that does not fit is no other number of classes
	if len(replaced) != len(names) {
		return
	}
	r.Replaced = replaced
	r.Mismatched = slices.DeleteFunc(r.Mismatched, func(m Mismatch) bool {
		return slices.Contains(names, m.Name)
	})
	r.Missing = slices.DeleteFunc(r.Missing, func(k Key) bool { return slices.Contains(names, k.Name) })
}

// suggest finds the nearest names, and a prefix without which more keys would fit.
func (r *Report) suggest(sd *StateDict, inits map[string]*onnxio.Tensor, opt ApplyOptions) {
	if opt.Prefix == "" {
		opt.Prefix = r.Prefix
	}
	if len(r.Unexpected) > 0 && len(r.Missing) > 0 {
		r.Better = betterPrefix(sd, inits, len(r.Applied)+len(r.Mismatched))
	}
	bare := make([]string, len(r.Unexpected))
	for i, k := range r.Unexpected {
		name, _, _ := opt.rename(k.Name)
		bare[i] = strings.TrimPrefix(name, r.Better.Prefix)
	}
	nearestKeys(r.Missing, r.Unexpected, bare)
	r.siblings(sd, inits, bare)
}

// siblings pairs keys that are spelled too differently to be near, where one of each list is left in a
// module: weight and gamma. They must be of one shape.
func (r *Report) siblings(sd *StateDict, inits map[string]*onnxio.Tensor, bare []string) {
	module := func(name string) string { return name[:strings.LastIndexByte(name, '.')+1] }
	missing, unexpected := map[string][]int{}, map[string][]int{}
	for i, k := range r.Missing {
		if k.Nearest == "" {
			missing[module(k.Name)] = append(missing[module(k.Name)], i)
		}
	}
	for j, k := range r.Unexpected {
		if k.Nearest == "" {
			unexpected[module(bare[j])] = append(unexpected[module(bare[j])], j)
		}
	}
	for name, is := range missing {
		js := unexpected[name]
		if name == "" || len(is) != 1 || len(js) != 1 {
			continue
		}
		m, u := &r.Missing[is[0]], &r.Unexpected[js[0]]
		if t := sd.Get(u.Name); t != nil && slices.Equal(t.Dims, inits[m.Name].Dims) {
			m.Nearest, u.Nearest = u.Name, m.Name
		}
	}
}

// strangers sorts the keys without a partner into ignored and unexpected.
func (r *Report) strangers(given, strangers []renamed) {
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
		if tied || countsBatches(e.Name) {
			r.Ignored = append(r.Ignored, e.Name)
		} else {
			r.Unexpected = append(r.Unexpected, Key{Name: e.Name})
		}
	}
}

func countsBatches(key string) bool { return strings.HasSuffix("."+key, batches) }

// nearestKeys pairs missing and unexpected keys by edit distance; bare spells the unexpected ones without
// prefix. Only the first hundred of each list get a hint: nobody reads more.
func nearestKeys(missing, unexpected []Key, bare []string) {
	missing, unexpected = missing[:min(len(missing), 100)], unexpected[:min(len(unexpected), 100)]
	for i := range missing {
		best := len(missing[i].Name)/2 + 1
		for j := range unexpected {
			if d := editDistance(missing[i].Name, bare[j], best); d < best {
				best, missing[i].Nearest = d, unexpected[j].Name
			}
		}
	}
	for j := range unexpected {
		best := len(bare[j])/2 + 1
		for i := range missing {
			if d := editDistance(bare[j], missing[i].Name, best); d < best {
				best, unexpected[j].Nearest = d, missing[i].Name
			}
		}
	}
}

// Nearest is the name of known that is spelled most like name; empty when nothing is near.
func Nearest(name string, known []string) string {
	best, at := len(name)/2+1, ""
	for _, k := range known {
		if d := editDistance(name, k, best); d < best {
			best, at = d, k
		}
	}
	return at
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
