package transforms

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// every is a list of everything, each setting given.
const every = `[
	{"name": "Resize", "size": [40, 36], "interpolation": "bicubic"},
	{"name": "CenterCrop", "size": 36},
	{"name": "Pad", "padding": [1, 2, 3, 4], "fill": [9, 8, 7], "mask_fill": 3, "padding_mode": "constant"},
	{"name": "RandomCrop", "size": [32, 30], "padding": [2, 3], "pad_if_needed": true, "fill": 4, "mask_fill": 1, "padding_mode": "reflect"},
	{"name": "RandomResizedCrop", "size": 28, "scale": [0.2, 0.9], "ratio": [0.5, 2], "interpolation": "nearest"},
	{"name": "RandomHorizontalFlip", "p": 0.3},
	{"name": "AlternatingFlip"},
	{"name": "RandomVerticalFlip", "p": 0},
	{"name": "RandomRotation", "degrees": 10, "interpolation": "bilinear", "expand": true, "center": [3, 4.5], "fill": 1, "mask_fill": 2},
	{"name": "RandomAffine", "degrees": [-5, 9], "translate": [0.1, 0.2], "scale": [0.8, 1.1], "shear": [-3, 3, -4, 4], "interpolation": "nearest", "center": [9, 9], "fill": [1, 2, 3], "mask_fill": 255},
	{"name": "ColorJitter", "brightness": 0.4, "contrast": [0.5, 1.5], "saturation": 2, "hue": 0.1},
	{"name": "Grayscale", "num_output_channels": 3},
	{"name": "RandomGrayscale", "p": 0.2},
	{"name": "GaussianBlur", "kernel_size": [3, 5], "sigma": [0.5, 1]},
	{"name": "RandomAdjustSharpness", "sharpness_factor": 2, "p": 1},
	{"name": "RandomInvert", "p": 0.4},
	{"name": "RandomPosterize", "bits": 3, "p": 0.6},
	{"name": "RandomSolarize", "threshold": 128, "p": 0.7},
	{"name": "RandomAutocontrast", "p": 0.8},
	{"name": "RandomEqualize", "p": 0.9},
	{"name": "RandomErasing", "p": 0.5, "scale": [0.1, 0.2], "ratio": [0.4, 2.5], "value": "random"},
	{"name": "AutoAugment", "policy": "cifar10", "interpolation": "bilinear", "fill": 128, "mask_fill": 4},
	{"name": "RandAugment", "num_ops": 3, "magnitude": 5, "num_magnitude_bins": 11, "interpolation": "bilinear", "fill": 128, "mask_fill": 4},
	{"name": "TrivialAugmentWide", "num_magnitude_bins": 17, "interpolation": "bilinear", "fill": 128, "mask_fill": 4},
	{"name": "RandomApply", "transforms": [{"name": "RandomInvert", "p": 1}], "p": 0.25},
	{"name": "RandomChoice", "transforms": [{"name": "RandomInvert", "p": 1}, {"name": "RandomEqualize", "p": 1}], "p": [1, 3]}
]`

// A list comes back from JSON as it went, and runs. Everything that is known is in it.
func TestParseEverything(t *testing.T) {
	c, err := Parse([]byte(every))
	if err != nil {
		t.Fatal(err)
	}
	if len(c) != len(known) {
		t.Errorf("%d transforms of %d", len(c), len(known))
	}
	var items []map[string]any
	if err := json.Unmarshal([]byte(every), &items); err != nil {
		t.Fatal(err)
	}
	for i, item := range items {
		settings := settingsOf(reflect.TypeOf(c[i]))
		if len(item)-1 != len(settings) {
			t.Errorf("%s: the test gives %d settings of %v", item["name"], len(item)-1, settings)
		}
	}
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var again []map[string]any
	if err := json.Unmarshal(b, &again); err != nil || !reflect.DeepEqual(items, again) {
		t.Errorf("%v\n%s", err, b)
	}
	s := Sample{Image: noise(3, 50, 44, 1), Mask: classes(50, 44)}
	for i := range 50 {
		if err := c.Apply(&s, NewRand(1, 0, i)); err != nil {
			t.Fatal(err)
		}
		if err := s.check(); err != nil {
			t.Fatal(err)
		}
		s.Image, s.Mask = noise(3, 50, 44, uint64(i)), classes(50, 44)
	}
}

// What is not given is torchvision's.
func TestParseDefaults(t *testing.T) {
	c, err := Parse([]byte(
		`[{"name": "RandomHorizontalFlip"}, {"name": "RandomGrayscale"}, {"name": "RandAugment"}, {"name": "RandomErasing"}]`))
	want := Compose{RandomHorizontalFlip{0.5}, RandomGrayscale{0.1}, RandAugment{Magnitude: 9},
		RandomErasing{P: 0.5}}
	if err != nil || !reflect.DeepEqual(c, want) {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err := Parse([]byte(" [ ] ")); err != nil || len(c) != 0 {
		t.Error(c, err)
	}
	m, err := ParseBatch([]byte(`[{"name": "MixUp", "alpha": 0.2}, {"name": "CutMix", "p": 0.5}]`))
	if err != nil || !reflect.DeepEqual(m, BatchCompose{MixUp{0.2, 1}, CutMix{0, 0.5}}) {
		t.Errorf("%+v, %v", m, err)
	}
	if b, err := json.Marshal(m); err != nil ||
		string(b) != `[{"name":"MixUp","alpha":0.2,"p":1},{"name":"CutMix","p":0.5}]` {
		t.Errorf("%s, %v", b, err)
	}
}

// What makes no sense is refused, and the error says where.
func TestParseErrors(t *testing.T) {
	for _, c := range []struct{ list, want string }{
		{``, "transforms: unexpected end"},
		{`[{"name": "Resize", "size": 3}] x`, "transforms: invalid character"},
		{`null`, "a list of objects is wanted"},
		{`{"name": "Resize"}`, "a list of objects is wanted"},
		{`["Resize"]`, "transform 0: an object with a name"},
		{`[{"size": 3}]`, "transform 0: no name"},
		{`[{"name": 3}]`, "transform 0: name 3: a string"},
		{`[{"name": "resize", "size": 3}]`, `transform 0: no "resize" is known`},
		{`[{"name": "Normalize", "mean": 1}]`, `"Normalize" is not for a list`},
		{`[{"name": "MixUp"}]`, `"MixUp" mixes batches`},
		{`[{"name": "Resize"}]`, "transform 0, Resize: size is missing"},
		{`[{"name": "Resize", "size": 3}, {"name": "Resize", "Size": 3}]`,
			`transform 1, Resize: no setting "Size"`},
		{`[{"name": "Resize", "size": 3, "size": 4}]`, `"size" stands twice`},
		{`[{"name": "Resize", "size": null}]`, "size is null"},
		{`[{"name": "Resize", "size": []}]`, "size: [] where a whole number"},
		{`[{"name": "Resize", "size": 0}]`, "size [0]"},
		{`[{"name": "Resize", "size": 3.5}]`, "size: 3.5 where a whole number"},
		{`[{"name": "Resize", "size": 100000}]`, "size [100000]"},
		{`[{"name": "Resize", "size": [1, 2, 3]}]`, "size [1 2 3]"},
		{`[{"name": "Resize", "size": 3, "interpolation": "lanczos"}]`,
			`interpolation "lanczos": nearest, bilinear, bicubic are known`},
		{`[{"name": "Pad", "padding": [1, 2, 3]}]`, "padding [1 2 3]"},
		{`[{"name": "Pad", "padding": -1}]`, "padding [-1]"},
		{`[{"name": "Pad", "padding": 1, "fill": 256}]`, "fill [256]"},
		{`[{"name": "Pad", "padding": 1, "fill": [1, 2]}]`, "fill [1 2]"},
		{`[{"name": "Pad", "padding": 1, "mask_fill": -1}]`, "mask_fill -1"},
		{`[{"name": "Pad", "padding": 1, "padding_mode": "wrap"}]`, `padding_mode "wrap"`},
		{`[{"name": "RandomCrop", "size": 3, "pad_if_needed": 1}]`,
			"pad_if_needed: 1 where true or false is wanted"},
		{`[{"name": "RandomResizedCrop", "size": 3, "scale": [0.5, 0.2]}]`, "scale [0.5 0.2]"},
		{`[{"name": "RandomResizedCrop", "size": 3, "scale": 0.5}]`, "scale [0.5]"},
		{`[{"name": "RandomResizedCrop", "size": 3, "ratio": [0, 2]}]`, "ratio [0 2]"},
		{`[{"name": "RandomVerticalFlip", "p": "half"}]`, `p: "half" where a number is wanted`},
		{`[{"name": "RandomRotation", "degrees": -3}]`, "degrees [-3]"},
		{`[{"name": "RandomRotation", "degrees": 3, "interpolation": "bicubic"}]`, `interpolation "bicubic"`},
		{`[{"name": "RandomRotation", "degrees": 3, "center": 1}]`, "center [1]"},
		{`[{"name": "RandomAffine", "degrees": 3, "translate": [0.1, 1.2]}]`, "translate [0.1 1.2]"},
		{`[{"name": "RandomAffine", "degrees": 3, "scale": [0, 1]}]`, "scale [0 1]"},
		{`[{"name": "RandomAffine", "degrees": 3, "shear": [1, 2, 3]}]`, "shear [1 2 3]"},
		{`[{"name": "RandomAffine", "degrees": 3, "shear": 90}]`, "shear [90]"},
		{`[{"name": "ColorJitter", "brightness": -0.1}]`, "brightness [-0.1]"},
		{`[{"name": "ColorJitter", "contrast": [-0.1, 1]}]`, "contrast [-0.1 1]"},
		{`[{"name": "ColorJitter", "hue": 0.6}]`, "hue 0.6"},
		{`[{"name": "Grayscale", "num_output_channels": 2}]`, "num_output_channels 2"},
		{`[{"name": "GaussianBlur", "kernel_size": 4}]`, "kernel_size [4]"},
		{`[{"name": "GaussianBlur", "kernel_size": 3, "sigma": 0}]`, "sigma [0]"},
		{`[{"name": "RandomPosterize", "bits": 9}]`, "bits 9"},
		{`[{"name": "RandomSolarize", "threshold": -1}]`, "threshold -1"},
		{`[{"name": "RandomErasing", "value": "noise"}]`, `value: "noise" where a level`},
		{`[{"name": "AutoAugment", "policy": "mnist"}]`, `policy "mnist"`},
		{`[{"name": "RandAugment", "magnitude": 31}]`, "magnitude 31: from 0 to 30"},
		{`[{"name": "RandomApply", "transforms": [{"name": "Pad"}]}]`,
			"transform 0, RandomApply: transforms: transform 0, Pad: padding is missing"},
		{`[{"name": "RandomChoice", "transforms": []}]`, "none to choose from"},
		{`[{"name": "RandomChoice", "transforms": [{"name": "RandomInvert"}], "p": [1, 2]}]`, "p [1 2]"},
	} {
		if _, err := Parse([]byte(c.list)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.list, err, c.want)
		}
	}
	for _, c := range []struct{ list, want string }{
		{`[{"name": "RandomCrop", "size": 3}]`, `batch transform 0: "RandomCrop" changes single images`},
		{`[{"name": "MixUp", "alpha": -1}]`, "batch transform 0, MixUp: alpha -1"},
		{`[{"name": "CutMix", "p": 2}]`, "batch transform 0, CutMix: p 2"},
	} {
		if _, err := ParseBatch([]byte(c.list)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.list, err, c.want)
		}
	}
	if _, err := Of(RandomCrop{}); err == nil || !strings.Contains(err.Error(),
		"transform 0, RandomCrop: size []") {
		t.Error(err)
	}
	if _, err := Of(nil); err == nil {
		t.Error("a nil transform is none")
	}
	if b, err := json.Marshal(Compose{&RandomCrop{Size: Ints{3}}}); err == nil {
		t.Errorf("a pointer is written as %s", b)
	}
}

// Whatever parses comes back as it was written, and does not panic on an image.
func FuzzParse(f *testing.F) {
	f.Add([]byte(every))
	f.Add([]byte(`[{"name": "RandomCrop", "size": 1}]`))
	f.Add([]byte(`[{"name": "RandomAffine", "degrees": 1e6, "scale": [0.001, 1000], "shear": 89, "center": [-1e6, 1e6]}]`))
	f.Fuzz(func(t *testing.T, list []byte) {
		c, err := Parse(list)
		if err != nil {
			return
		}
		b, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(b)
		if err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		if b2, err := json.Marshal(again); err != nil || string(b) != string(b2) {
			t.Fatalf("%s, then %s: %v", b, b2, err)
		}
		s := Sample{Image: noise(3, 5, 4, 1), Mask: classes(5, 4)}
		for i, x := range c {
			if s.Image.H*s.Image.W > 1<<16 {
				return
			}
			if big(x) {
				return
			}
			_ = x.Apply(&s, NewRand(1, 2, i))
			if err := s.check(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// big tells transforms that would make the fuzzer slow.
func big(t Transform) bool {
	b, _ := json.Marshal(t)
	var settings map[string]any
	_ = json.Unmarshal(b, &settings)
	for _, key := range []string{"size", "padding", "transforms"} {
		if list, ok := settings[key].([]any); ok {
			for _, v := range list {
				if n, ok := v.(float64); !ok || n > 200 {
					return true
				}
			}
		}
		if n, ok := settings[key].(float64); ok && n > 200 {
			return true
		}
	}
	return false
}
