package convert

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio"
)

// outline is a network's initializers by name, without numbers.
func outline(t *testing.T, arch string) map[string]*onnxio.Tensor {
	t.Helper()
	m, err := builders.Outline(arch, builders.Config{})
	if err != nil {
		t.Fatal(err)
	}
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
	s := schemeFor(sd, inits)
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

func TestTimmNames(t *testing.T) {
	text, err := os.ReadFile("../testdata/convert/timm.json")
	if err != nil {
		t.Fatal(err)
	}
	var nets []struct {
		Timm, Arch string
		Keys       map[string][]int64
	}
	if err := json.Unmarshal(text, &nets); err != nil {
		t.Fatal(err)
	}
	for _, n := range nets {
		sd := &StateDict{}
		for key, dims := range n.Keys {
			sd.Set(key, &onnxio.Tensor{Type: onnxio.Float, Dims: dims})
		}
		complete(t, n.Timm, sd, outline(t, n.Arch))
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
				kind := map[string]string{"conv": "convolution", "bn": "normalization", "0": "convolution", "1": "normalization"}
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

// A state dict of which one key fits nowhere is not taken for another library's; neither is one that has the model's names.
func TestNoScheme(t *testing.T) {
	inits, own, odd := outline(t, "vgg11"), &StateDict{}, &StateDict{}
	for key, p := range inits {
		own.Set(key, p)
		odd.Set(strings.Replace(strings.Replace(key, "classifier.0", "pre_logits.fc1", 1), "classifier.3", "pre_logits.fc2", 1), p)
	}
	odd.Set("else.weight", &onnxio.Tensor{Type: onnxio.Float, Dims: []int64{3}})
	for _, sd := range []*StateDict{own, odd} {
		if s := schemeFor(sd, inits); s != nil {
			t.Errorf("taken for %s", s.name)
		}
	}
}
