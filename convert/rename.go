package convert

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cnnkit/cnnkit/onnxio"
)

// renamed is an entry under the file's key, and the model's name for it.
type renamed struct {
	Entry
	name string
}

// rename gives the model's name for a key: by the map's rule for the whole key or for what is left of it
// without the prefix, else without the prefix. It is not ok when the key has neither.
func (opt *ApplyOptions) rename(key string) (name, rule string, ok bool) {
	if name, rule = opt.Map.Rename(key); rule != "" {
		return name, rule, true
	}
	rest, ok := strings.CutPrefix(key, opt.Prefix)
	if !ok {
		return key, "", false
	}
	name, rule = opt.Map.Rename(rest)
	return name, rule, true
}

// match pairs the state dict's entries with initializers, and collects the rules of the map that were used.
func match(sd *StateDict, inits map[string]*onnxio.Tensor, opt ApplyOptions) (
	given, strangers []renamed, used map[string]bool) {
	taken := map[string]bool{}
	used = map[string]bool{}
	var wrapped []renamed // an exact name goes before one that must lose a wrapper first
	for _, e := range sd.entries {
		name, rule, ok := opt.rename(e.Name)
		if rule != "" {
			used[rule] = true
		}
		switch {
		case !ok:
			strangers = append(strangers, renamed{e, name})
		case inits[name] != nil && !taken[name]:
			taken[name] = true
			given = append(given, renamed{e, name})
		default:
			wrapped = append(wrapped, renamed{e, name})
		}
	}
	for _, e := range wrapped {
		if name := unwrapped(e.name); inits[name] != nil && !taken[name] {
			taken[name] = true
			e.name = name
			given = append(given, e)
		} else {
			strangers = append(strangers, e)
		}
	}
	return given, strangers, used
}

// unwrapped takes off what DataParallel puts before a key, and what torch.compile, FSDP and activation
// checkpointing put anywhere in it.
func unwrapped(name string) string {
	for _, w := range []string{"_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module."} {
		name = strings.ReplaceAll(name, w, "")
	}
	for {
		rest, ok := strings.CutPrefix(name, "module.")
		if !ok {
			return name
		}
		name = rest
	}
}

// fits counts the keys that the model has once the prefix is off.
func fits(sd *StateDict, inits map[string]*onnxio.Tensor, prefix string) int {
	n := 0
	for _, e := range sd.entries {
		if rest, ok := strings.CutPrefix(e.Name, prefix); ok && inits[unwrapped(rest)] != nil {
			n++
		}
	}
	return n
}

// prefixesOf lists a key's beginnings that end in a dot: "a.", "a.b." of "a.b.weight".
func prefixesOf(key string) []string {
	var out []string
	for i := range len(key) {
		if key[i] == '.' && len(out) < 16 {
			out = append(out, key[:i+1])
		}
	}
	return out
}

// commonPrefix is the prefix that all keys have and without which most fit, empty when that is fewer than
// half of them or no more than fit with it. Keys that the map renames do not count.
func commonPrefix(sd *StateDict, inits map[string]*onnxio.Tensor, keys *KeyMap) string {
	rest := &StateDict{}
	for _, e := range sd.entries {
		if _, rule := keys.Rename(e.Name); rule == "" && !countsBatches(e.Name) {
			rest.Set(e.Name, e.Tensor)
		}
	}
	if rest.Len() == 0 {
		return ""
	}
	best, most := "", fits(rest, inits, "")
	for _, p := range prefixesOf(rest.entries[0].Name) {
		if slices.ContainsFunc(rest.entries, func(e Entry) bool { return !strings.HasPrefix(e.Name, p) }) {
			break
		}
		if n := fits(rest, inits, p); n > most && 2*n >= rest.Len() {
			best, most = p, n
		}
	}
	return best
}

// betterPrefix is the prefix without which most keys fit, when these are more than fit now.
func betterPrefix(sd *StateDict, inits map[string]*onnxio.Tensor, now int) Fit {
	counts := map[string]int{}
	for _, e := range sd.entries {
		for _, p := range prefixesOf(e.Name) {
			if inits[unwrapped(e.Name[len(p):])] != nil {
				counts[p]++
			}
		}
	}
	best := Fit{Of: sd.Len(), Keys: now}
	for p, n := range counts {
		if n > best.Keys || n == best.Keys && best.Prefix != "" && p < best.Prefix {
			best.Prefix, best.Keys = p, n
		}
	}
	if best.Prefix == "" {
		return Fit{}
	}
	return best
}

// Renamed gives the state dict under the names that opt.Map and opt.Prefix make, for a file without a graph
// to match. Keys without the prefix and rules without a key are an error in strict mode; otherwise the keys
// are left out and listed in Skipped. Two keys of one name are always an error.
func Renamed(sd *StateDict, opt ApplyOptions) (*StateDict, []Pair, error) {
	out := &StateDict{Skipped: slices.Clone(sd.Skipped), Notes: slices.Clone(sd.Notes), objects: sd.objects}
	used := map[string]bool{}
	from := map[string]string{}
	var pairs []Pair
	var without []string
	for _, e := range sd.entries {
		name, rule, ok := opt.rename(e.Name)
		if rule != "" {
			used[rule] = true
		}
		if !ok {
			without = append(without, e.Name)
			continue
		}
		if first, twice := from[name]; twice {
			return nil, nil, malformed("state dict", name, "is the new name of two keys, %q and %q",
				first, e.Name)
		}
		from[name] = e.Name
		t := *e.Tensor
		t.Name = name
		out.Set(name, &t)
		pairs = append(pairs, Pair{e.Name, name})
	}
	unused := opt.Map.unused(used)
	if opt.Strict && len(without) > 0 {
		return nil, nil, malformed("state dict", "", "%d keys do not start with %q: %q",
			len(without), opt.Prefix, without[:min(len(without), 20)])
	}
	if opt.Strict && len(unused) > 0 {
		return nil, nil, malformed(formatMap, "", "%d rules match no key: %q",
			len(unused), unused[:min(len(unused), 20)])
	}
	if out.Len() == 0 && sd.Len() > 0 {
		return nil, nil, fmt.Errorf("state dict: no key is left: none starts with %q", opt.Prefix)
	}
	out.Skipped = append(out.Skipped, without...)
	return out, pairs, nil
}
