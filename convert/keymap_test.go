package convert

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

func TestKeyMap(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want map[string]string
	}{
		"arrow":  {"a.w -> b.w\n\n# no rule\nc->d", map[string]string{"a.w": "b.w", "c": "d", "e": "e"}},
		"equals": {"a.w = b.w\r\nc=d", map[string]string{"a.w": "b.w", "c": "d"}},
		"comma":  {"a.w,b.w\nc, d", map[string]string{"a.w": "b.w", "c": "d"}},
		"blank":  {"\uFEFFa.w b.w\nc\td", map[string]string{"a.w": "b.w", "c": "d"}},
		"JSON":   {` {"a.w": "b.w", "x.*": "y.*"}`, map[string]string{"a.w": "b.w", "x.1.2": "y.1.2"}},
		"stars": {"layer.*.conv.* -> l*.c.*", map[string]string{"layer.0.conv.1.weight": "l0.c.1.weight",
			"layer.0": "layer.0"}},
		"swap": {"*.of.* -> $2.of.\\1", map[string]string{"a.of.b": "b.of.a"}},
		"drop": {"backbone.* -> *", map[string]string{"backbone.fc.bias": "fc.bias"}},
		"groups": {`head\.(weight|bias) -> fc.$1`, map[string]string{"head.bias": "fc.bias",
			"head.x": "head.x", "xhead.bias": "xhead.bias"}},
		"order":  {"a.* -> 1.*\na.b.* -> 2.*\na.b.c -> 3", map[string]string{"a.b.x": "1.b.x", "a.b.c": "3"}},
		"dollar": {"a.* -> $x.*", map[string]string{"a.b": "$x.b"}},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := ParseKeyMap([]byte(c.text))
			if err != nil {
				t.Fatal(err)
			}
			for key, want := range c.want {
				if got, _ := m.Rename(key); got != want {
					t.Errorf("%q becomes %q, not %q", key, got, want)
				}
			}
		})
	}
}

func TestWrongKeyMaps(t *testing.T) {
	for name, text := range map[string]string{
		"one key": "a", "three": "a b c", "no left": "-> b", "no right": "a ->", "twice": "a b\na c",
		"star from nothing": "a -> *",
		"too few stars":     "*.* -> a.*", "group beyond": "* -> $2", "group zero": "* -> $0",
		"bad expression": "(a -> b",
		"JSON number":    `{"a": 1}`, "JSON twice": `{"a": "b", "a": "c"}`, "not UTF-8": "a \xff",
		"large":         strings.Repeat("#", maxMap+1),
		"many patterns": strings.Repeat("*a b\n", maxPatterns+1),
	} {
		if _, err := ParseKeyMap([]byte(text)); !typed(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// two is a model of two convolutions, and a state dict for it under other names.
func two(t *testing.T, names ...string) (*onnxio.Model, *StateDict) {
	t.Helper()
	g := &onnxio.Graph{Name: "g", Inputs: []*onnxio.ValueInfo{onnxio.TensorInfo("x", onnxio.Float,
		onnxio.Shape(1, 1, 4, 4)...)}}
	sd := &StateDict{}
	own := []string{"conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias"}
	for i, name := range own {
		dims := []int64{1, 1, 1, 1}
		if i%2 == 1 {
			dims = dims[:1]
		}
		w := onnxio.NewTensor(onnxio.Float, dims...)
		w.Name = name
		g.Initializers = append(g.Initializers, w)
	}
	for i, name := range names {
		sd.Set(name, onnxio.Floats([]float32{float32(i + 1)}, g.Initializers[i%4].Dims...))
	}
	g.Nodes = []*onnxio.Node{
		{OpType: "Conv", Inputs: []string{"x", own[0], own[1]}, Outputs: []string{"h"}},
		{OpType: "Conv", Inputs: []string{"h", own[2], own[3]}, Outputs: []string{"y"}}}
	return &onnxio.Model{IRVersion: 8, Opsets: []onnxio.Opset{{Version: 17}}, Graph: g}, sd
}

func prefixed(p string, more ...string) []string {
	return append([]string{p + "conv1.weight", p + "conv1.bias", p + "conv2.weight", p + "conv2.bias"},
		more...)
}

// Names are found: by a prefix that all keys have, by what wrappers add, by the caller's prefix and map.
func TestNamesAreFound(t *testing.T) {
	keys := func(text string) *KeyMap {
		m, err := ParseKeyMap([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	for name, c := range map[string]struct {
		keys   []string
		opt    ApplyOptions
		prefix string
	}{
		"plain":           {prefixed(""), ApplyOptions{}, ""},
		"common":          {prefixed("backbone."), ApplyOptions{}, "backbone."},
		"common, two":     {prefixed("model.net."), ApplyOptions{}, "model.net."},
		"module":          {prefixed("module._orig_mod."), ApplyOptions{}, ""},
		"compiled in one": {prefixed("model._orig_mod."), ApplyOptions{}, "model."},
		"FSDP":            {prefixed("_fsdp_wrapped_module."), ApplyOptions{}, ""},
		"FSDP inside": {[]string{"conv1._fsdp_wrapped_module.weight", "conv1._fsdp_wrapped_module.bias",
			"conv2.weight", "conv2.bias"}, ApplyOptions{}, ""},
		"prefix": {prefixed("net."), ApplyOptions{Prefix: "net."}, ""},
		"map": {[]string{"a.weight", "a.bias", "b.weight", "b.bias"},
			ApplyOptions{Map: keys("a.* -> conv1.*\nb.* -> conv2.*")}, ""},
		"map, prefix": {[]string{"m.a.weight", "m.a.bias", "m.conv2.weight", "m.conv2.bias"},
			ApplyOptions{Prefix: "m.", Map: keys("a.* -> conv1.*")}, ""},
		"map, prefix left": {[]string{"x.weight", "x.bias", "m.conv2.weight", "m.conv2.bias"},
			ApplyOptions{Prefix: "m.", Map: keys("x.* -> conv1.*")}, ""},
		"map, common": {[]string{"x.weight", "x.bias", "m.conv2.weight", "m.conv2.bias"},
			ApplyOptions{Map: keys("x.* -> conv1.*")}, "m."},
	} {
		t.Run(name, func(t *testing.T) {
			m, sd := two(t, c.keys...)
			c.opt.Strict = true
			r, err := Apply(m, sd, c.opt)
			if err != nil || r.Prefix != c.prefix || len(r.Pairs) != 4 {
				t.Fatalf("%v; prefix %q, %d pairs", err, r.Prefix, len(r.Pairs))
			}
			for i, w := range m.Graph.Initializers {
				if w.Float32s()[0] != float32(i+1) {
					t.Errorf("%s is %v", w.Name, w.Float32s()[0])
				}
			}
		})
	}
}

// What does not fit is said at once: the prefix that would help, rules without a key, objects in a tensor's
// place.
func TestMisfitsAreSaid(t *testing.T) {
	m, sd := two(t, prefixed("model.", "loss.weight")...)
	_, err := Apply(m, sd, ApplyOptions{Strict: true})
	if err == nil || !strings.Contains(err.Error(), `without the prefix "model." 4 of 5 keys fit`) ||
		!strings.Contains(err.Error(), `missing "conv1.bias" (nearest: "model.conv1.bias")`) {
		t.Errorf("a prefix of most keys: %v", err)
	}
	m, sd = two(t, prefixed("")...)
	keys, _ := ParseKeyMap([]byte("cnv1.* -> conv1.*"))
	_, err = Apply(m, sd, ApplyOptions{Strict: true, Map: keys})
	if err == nil || !strings.Contains(err.Error(), `rule "cnv1.*" of the map matches no key`) {
		t.Errorf("an unused rule: %v", err)
	}
	m, sd = two(t, prefixed("")[:3]...)
	sd.objects = map[string]string{"conv2.bias": "their.Bias"}
	_, err = Apply(m, sd, ApplyOptions{Strict: true})
	if err == nil || !strings.Contains(err.Error(),
		`missing "conv2.bias" (the file has an object of their.Bias there`) {
		t.Errorf("an object: %v", err)
	}
}

// A lenient call that matches nothing is an error, and the model stays as it was.
func TestLenientMatchesNothing(t *testing.T) {
	m, sd := two(t, "p.weight", "q.bias")
	var me *MatchError
	if _, err := Apply(m, sd, ApplyOptions{}); !errors.As(err, &me) || len(me.Report.Missing) != 4 ||
		len(me.Report.Unexpected) != 2 {
		t.Errorf("error %v", err)
	}
	m, sd = two(t, "conv1.weight", "q.bias")
	if r, err := Apply(m, sd, ApplyOptions{}); err != nil || len(r.Applied) != 1 {
		t.Errorf("one matches: %v", err)
	}
}

func TestRenamed(t *testing.T) {
	_, sd := two(t, "m.a", "m.b", "c")
	if _, _, err := Renamed(sd, ApplyOptions{Strict: true, Prefix: "m."}); !typed(err) ||
		!strings.Contains(err.Error(), `"c"`) {
		t.Errorf("strict: %v", err)
	}
	out, pairs, err := Renamed(sd, ApplyOptions{Prefix: "m."})
	if err != nil || !slices.Equal(pairs, []Pair{{"m.a", "a"}, {"m.b", "b"}}) || out.Get("b").Name != "b" ||
		!slices.Equal(out.Skipped, []string{"c"}) {
		t.Errorf("lenient: %v, %v", pairs, err)
	}
	keys, _ := ParseKeyMap([]byte("* -> one"))
	if _, _, err := Renamed(sd, ApplyOptions{Map: keys}); !typed(err) ||
		!strings.Contains(err.Error(), "two keys") {
		t.Errorf("two keys of one name: %v", err)
	}
	if _, _, err := Renamed(sd, ApplyOptions{Prefix: "x."}); err == nil {
		t.Error("nothing is left")
	}
}
