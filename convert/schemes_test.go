package convert

import (
	"encoding/json"
	"errors"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime"
)

// outline is a network's initializers by name, without numbers.
func outline(t *testing.T, arch string) map[string]*onnxio.Tensor {
	t.Helper()
	m, err := builders.Outline(arch, builders.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return initializers(m)
}

// initializers are those that have dimensions, by name.
func initializers(m *onnxio.Model) map[string]*onnxio.Tensor {
	inits := map[string]*onnxio.Tensor{}
	for _, p := range m.Graph.Initializers {
		if len(p.Dims) > 0 {
			inits[p.Name] = p
		}
	}
	return inits
}

// complete reports parameters that the state dict does not give under a scheme's names.
func complete(t *testing.T, name string, sd *StateDict, inits map[string]*onnxio.Tensor) {
	t.Helper()
	s := schemeFor(sd, inits, nil)
	if s == nil {
		t.Errorf("%s: no scheme is found", name)
		return
	}
	given := s.translated(sd, inits)
	for key, p := range inits {
		if isFloat(p.Type) && given.Get(key) == nil {
			t.Errorf("%s as %s: %s is missing", name, s.name, key)
		}
	}
}

// named is a network of testdata/convert/schemes.json.
type named struct {
	Name, Arch string
	Side       int
	Config     map[string]any
	Output     []float32
	Keys       map[string][]int64
}

func namedNetworks(t *testing.T) []named {
	t.Helper()
	text, err := os.ReadFile(fixtures + "schemes.json")
	if err != nil {
		t.Fatal(err)
	}
	var nets []named
	if err := json.Unmarshal(text, &nets); err != nil || len(nets) < 20 {
		t.Fatalf("%d networks: %v", len(nets), err)
	}
	return nets
}

// stateDict has schemes.fill's weights where the network has an output, else keys and shapes.
func (n named) stateDict() *StateDict {
	sd, gain := &StateDict{origin: origin{fields: n.Config}}, 3.0
	for key := range n.Keys {
		if strings.HasSuffix(key, "running_var") {
			gain = 0.15
		}
	}
	for i, key := range slices.Sorted(maps.Keys(n.Keys)) {
		dims := n.Keys[key]
		if n.Output == nil {
			sd.Set(key, &onnxio.Tensor{Type: onnxio.Float, Dims: dims})
			continue
		}
		t := onnxio.NewTensor(onnxio.Float, dims...)
		f := func(u float64) float64 { return u / 10 }
		switch {
		case len(dims) > 1:
			scale := math.Sqrt(gain / float64(t.Size()/dims[0]))
			f = func(u float64) float64 { return u * scale }
		case strings.HasSuffix(key, "running_var"):
			f = func(u float64) float64 { return 0.05 * (1 + u/2) }
		case strings.HasSuffix(key, "weight"):
			f = func(u float64) float64 { return 1 + u/4 }
		}
		hashed(t.Float32s(), uint64(i), f)
		sd.Set(key, t)
	}
	return sd
}

// hashed is schemes.uniform, through f.
func hashed(data []float32, key uint64, f func(u float64) float64) {
	for i := range data {
		x := uint64(i)*2654435761 + key*40503 + 12345
		for range 2 {
			x &= 0xffffffff
			x = (x ^ x>>16) * 0x45d9f3b & 0xffffffff
		}
		x ^= x >> 16
		data[i] = float32(f(float64(x>>8)/(1<<23) - 1))
	}
}

// Networks of timm and transformers find their builder's names, and answer as in PyTorch:
// paddings and the epsilons of norms are theirs. 1e-5 of the largest output is ten times what
// float32 sums in another order make.
func TestNamedNetworks(t *testing.T) {
	for _, n := range namedNetworks(t) {
		t.Run(n.Name, func(t *testing.T) {
			if n.Output == nil {
				m, err := builders.Outline(n.Arch, builders.Config{Classes: 10,
					Input: [3]int{3, n.Side, n.Side}})
				if err != nil {
					t.Fatal(err)
				}
				complete(t, n.Name, n.stateDict(), initializers(m))
				return
			}
			m, err := builders.Build(n.Arch, builders.Config{Classes: 10, Input: [3]int{3, n.Side, n.Side}})
			if err != nil {
				t.Fatal(err)
			}
			rep, err := Apply(m, n.stateDict(), ApplyOptions{Strict: true})
			if err != nil || rep.Scheme == "" || len(rep.Pairs) != len(n.Keys) {
				t.Fatalf("%d of %d keys as %q: %v", len(rep.Pairs), len(n.Keys), rep.Scheme, err)
			}
			s, err := runtime.OpenModel(m, runtime.WithEngine(runtime.Native))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			x := onnxio.NewTensor(onnxio.Float, 1, 3, int64(n.Side), int64(n.Side))
			hashed(x.Float32s(), 1000, func(u float64) float64 { return u })
			out, err := s.Run(t.Context(), map[string]*onnxio.Tensor{"input": x})
			if err != nil {
				t.Fatal(err)
			}
			far, top := 0.0, 0.0
			for i, v := range out["output"].Float32s() {
				far, top = max(far, math.Abs(float64(v-n.Output[i]))), max(top,
					math.Abs(float64(n.Output[i])))
			}
			t.Logf("%.2g of the largest apart; %v", far/top, rep.Adapted)
			if !(far <= 1e-5*top) {
				t.Errorf("outputs differ by %.2g of the largest; %v", far/top, rep.Adapted)
			}
			if _, _, built := builders.Arch(m); built == (len(rep.Adapted) > 0) {
				t.Errorf("adapted %v, and taken for the builders' own: %v", rep.Adapted, built)
			}
		})
	}
}

// namedNetwork is one of them, without numbers.
func namedNetwork(t *testing.T, name string) named {
	t.Helper()
	for _, n := range namedNetworks(t) {
		if n.Name == name {
			n.Output = nil
			return n
		}
	}
	t.Fatalf("no network %q", name)
	return named{}
}

// zeros is a network's state dict of zeros.
func zeros(n named) *StateDict {
	sd := n.stateDict()
	for _, e := range sd.entries {
		e.Tensor.Raw = make([]byte, 4*e.Tensor.Size())
	}
	return sd
}

// A classifier of another number of classes is replaced, and a backbone alone is taken, under
// other libraries' names too.
func TestNamedTransfer(t *testing.T) {
	n := namedNetwork(t, "mobilenetv3_small_100")
	sd := zeros(n)
	backbone := &StateDict{origin: sd.origin}
	for _, e := range sd.entries {
		if !strings.HasPrefix(e.Name, "classifier.") {
			backbone.Set(e.Name, e.Tensor)
		}
	}
	for _, given := range []*StateDict{sd, backbone} {
		m, err := builders.Build(n.Arch, builders.Config{Classes: 37})
		if err != nil {
			t.Fatal(err)
		}
		head, err := builders.Classifier(m)
		if err != nil {
			t.Fatal(err)
		}
		rep, err := Apply(m, given, ApplyOptions{Strict: true, Replaceable: head})
		var names []string
		for _, r := range rep.Replaced {
			names = append(names, r.Name)
		}
		slices.Sort(names)
		if err != nil || !slices.Equal(names, []string{"classifier.3.bias", "classifier.3.weight"}) {
			t.Errorf("replaced %v: %v", names, err)
		}
	}
}

// A wrong number of classes is told as such under other libraries' names.
func TestNamedMisfit(t *testing.T) {
	n := namedNetwork(t, "hub-mobilenet_v2")
	m, err := builders.Build(n.Arch, builders.Config{Classes: 12})
	if err != nil {
		t.Fatal(err)
	}
	sd := zeros(n)
	sd.Set("odd.weight", onnxio.NewTensor(onnxio.Float, 3))
	_, err = Apply(m, sd, ApplyOptions{Strict: true})
	for _, part := range []string{"read as Hugging Face's MobileNet v2",
		"0 missing, 1 unexpected, 2 mismatched", `unexpected "odd.weight"`,
		`mismatched "classifier.1.weight": the model has float32 [12 1280], the state dict float32 [10 1280]`} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("no %q in %v", part, err)
		}
	}
}

// What a config.json says is followed, and refused where the builders' network cannot be it.
func TestOrigin(t *testing.T) {
	dir := t.TempDir()
	for text, want := range map[string]variant{
		`{"model_type": "mobilenet_v2", "tf_padding": false, "layer_norm_eps": 0.01}`: {eps: 0.01},
		`{"model_type": "mobilenet_v2"}`:                                              {eps: 1e-3, pad: same},
	} {
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		if v, err := hubMobileNetV2(originOf(filepath.Join(dir, "model.safetensors"))); err != nil ||
			v != want {
			t.Errorf("%s: %+v %v", text, v, err)
		}
	}
	for attr, f := range map[string]func(origin) (variant, error){
		"hidden_act": hubMobileNetV2, "output_stride": hubMobileNetV2, "num_attention_heads": hubViT,
		"downsample_in_bottleneck": hubResNet} {
		_, err := f(origin{fields: map[string]any{attr: "odd"}})
		var un *onnxio.UnsupportedError
		if !errors.As(err, &un) || un.Attr != attr {
			t.Errorf("%s: %v", attr, err)
		}
	}
	if v, err := timmMobile(origin{file: "tf_efficientnet_b0_aa-827b6e33.pth"}); err != nil ||
		v != (variant{eps: 1e-3, pad: same}) {
		t.Errorf("a file named as timm's tf_ networks: %+v %v", v, err)
	}
	if v, err := timmMobile(origin{file: "w.pth"}); err != nil || v.pad != "" || v.note == "" {
		t.Errorf("a file that does not say whose it is: %+v %v", v, err)
	}
}

// Below opset 17 a LayerNorm is many nodes, and its epsilon cannot be set.
func TestVariantNeedsNorms(t *testing.T) {
	m, err := builders.Outline("vit_b_32", builders.Config{Opset: 13})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (variant{eps: 1e-12}).apply(m); err == nil || !strings.Contains(err.Error(), "--opset 17") {
		t.Errorf("error %v", err)
	}
}

// What other libraries call torchvision's modules, by rules that are not those of the table.
func TestOtherNames(t *testing.T) {
	layer := regexp.MustCompile(`(denselayer\d+\.(?:norm|conv))([12])\.`)
	block := regexp.MustCompile(`^layer(\d)\.(\d+)\.(?:(conv|bn)(\d)|(downsample)\.(\d))\.(.*)$`)
	for arch, rename := range map[string]func(string) string{
		"densenet121": func(key string) string { return layer.ReplaceAllString(key, "$1.$2.") },
		"resnet18": func(key string) string {
			if p := block.FindStringSubmatch(key); p != nil {
				to := "resnet.encoder.stages." + string(p[1][0]-1) + ".layers." + p[2]
				kind := map[string]string{"conv": "convolution", "bn": "normalization", "0": "convolution",
					"1": "normalization"}
				if p[5] != "" {
					return to + ".shortcut." + kind[p[6]] + "." + p[7]
				}
				return to + ".layer." + string(p[4][0]-1) + "." + kind[p[3]] + "." + p[7]
			}
			key = strings.Replace(key, "conv1.", "resnet.embedder.embedder.convolution.", 1)
			key = strings.Replace(key, "bn1.", "resnet.embedder.embedder.normalization.", 1)
			return strings.Replace(key, "fc.", "classifier.1.", 1)
		},
	} {
		inits, sd := outline(t, arch), &StateDict{}
		for key, p := range inits {
			sd.Set(rename(key), p)
		}
		complete(t, arch, sd, inits)
	}
}

// A state dict of which one key fits nowhere is not taken for another library's; neither is one
// that has the model's names.
func TestNoScheme(t *testing.T) {
	inits, own, odd := outline(t, "vgg11"), &StateDict{}, &StateDict{}
	for key, p := range inits {
		own.Set(key, p)
		odd.Set(strings.Replace(strings.Replace(key, "classifier.0", "pre_logits.fc1", 1), "classifier.3",
			"pre_logits.fc2", 1), p)
	}
	odd.Set("else.weight", &onnxio.Tensor{Type: onnxio.Float, Dims: []int64{3}})
	for _, sd := range []*StateDict{own, odd} {
		if s := schemeFor(sd, inits, nil); s != nil {
			t.Errorf("taken for %s", s.name)
		}
	}
}
