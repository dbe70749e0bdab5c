package builders

import (
	"bytes"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/check"
)

func TestParameters(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  Config
		want int64
	}{
		{"lenet5", Config{}, 61706},
		{"lenet5", Config{Input: [3]int{3, 32, 32}}, 83126},
		{"minivgg", Config{}, 123502},
		{"resnet", Config{}, 195738},
		{"unet", Config{}, 31031745},
	} {
		m, err := Build(c.name, c.cfg)
		if err != nil {
			t.Fatal(err)
		}
		if n := Parameters(m); n != c.want {
			t.Errorf("%s %+v has %d parameters, want %d", c.name, c.cfg, n, c.want)
		}
	}
	m, err := Build("minivgg", Config{Input: [3]int{3, 32, 32}})
	if err != nil {
		t.Fatal(err)
	}
	if w := m.Graph.Initializer("fc1.weight"); w.Dims[1] != 1152 {
		t.Errorf("minivgg on 3x32x32: fc1 reads %d features, want 1152", w.Dims[1])
	}
}

func TestEveryOpsetIsSound(t *testing.T) {
	for opset := int64(MinOpset); opset <= MaxOpset; opset++ {
		for _, name := range Names() {
			m, err := Build(name, Config{Opset: opset, Width: 4})
			if err != nil {
				t.Fatal(err)
			}
			if err := check.Model(m); err != nil {
				t.Errorf("%s, opset %d: %v", name, opset, err)
			}
		}
	}
}

func TestSameBuildSameBytes(t *testing.T) {
	encode := func(seed uint64) []byte {
		m, err := Build("resnet", Config{Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		data, err := onnxio.Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	if !bytes.Equal(encode(1), encode(1)) {
		t.Error("two builds of one configuration differ")
	}
	if bytes.Equal(encode(1), encode(2)) {
		t.Error("the seed changes nothing")
	}
}

func TestErrorsNameLayerAndShape(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"lenet5", Config{Input: [3]int{1, 6, 6}}, "lenet5: conv2: a 5x5 kernel with padding 0 does not fit its input [N,6,3,3]"},
		{"unet", Config{Input: [3]int{3, 100, 100}}, "unet: depth: 4 levels halve"},
		{"resnet", Config{Blocks: []int{2}}, "resnet: blocks"},
		{"unet", Config{Depth: -1}, "unet: depth: -1 levels"},
		{"resnet", Config{Blocks: []int{2, 0, 2}}, "at least one block"},
		{"lenet5", Config{Opset: 12}, "opset 12"},
		{"lenet", Config{}, `no network "lenet": known are [lenet5 minivgg resnet unet]`},
	} {
		_, err := Build(c.name, c.cfg)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %+v: got %v, want %q", c.name, c.cfg, err, c.want)
		}
	}
}

func TestMisusedBuilders(t *testing.T) {
	for name, build := range map[string]func(b *Builder) Value{
		"AvgPool2d has no option Dilation":         func(b *Builder) Value { return b.AvgPool2d("pool", b.Input(), 2, Dilation(2)) },
		"Conv2d has no option CeilMode":            func(b *Builder) Value { return b.Conv2d("conv", b.Input(), 4, 3, CeilMode()) },
		"MaxPool2d has no option Groups":           func(b *Builder) Value { return b.MaxPool2d("pool", b.Input(), 2, Groups(3)) },
		"more than half the kernel":                func(b *Builder) Value { return b.MaxPool2d("pool", b.Input(), 2, Pad(2)) },
		`no layer gives "input"`:                   func(b *Builder) Value { b.ReLU("relu", b.Input()); return b.Input() },
		"output padding of the stride":             func(b *Builder) Value { return b.ConvTranspose2d("up", b.Input(), 2, 2, Stride(2), OutputPad(2)) },
		"there is a layer of that name already":    func(b *Builder) Value { return b.Conv2d("c", b.Conv2d("c", b.Input(), 3, 1), 3, 1) },
		"takes features [N,F], not [N,3,8,8]":      func(b *Builder) Value { return b.Linear("fc", b.Input(), 3) },
		"cannot join [N,3,8,8] and [N,3,4,4]":      func(b *Builder) Value { return b.Concat("cat", b.Input(), b.MaxPool2d("pool", b.Input(), 2)) },
		"a 9x9 kernel with padding 0 does not fit": func(b *Builder) Value { return b.Conv2d("conv", b.Input(), 4, 9) },
	} {
		b := New("net", 0, 0, 3, 8, 8)
		if _, err := b.Model(build(b)); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want %q", err, name)
		}
	}
}

// A model may be finished twice: the builder's graph is not touched.
func TestModelTwice(t *testing.T) {
	b := New("net", 0, 0, 3, 8, 8)
	y := b.ReLU("relu", b.Conv2d("conv", b.Input(), 4, 3))
	var weights [2]float32
	for i := range weights {
		m, err := b.Model(y)
		if err != nil {
			t.Fatal(err)
		}
		if err := check.Model(m); err != nil {
			t.Error(err)
		}
		w := m.Graph.Initializer("conv.weight").Float32s()
		weights[i], w[0] = w[0], 100 // the other model must not see this
	}
	if weights[0] != weights[1] {
		t.Errorf("the second model starts from %v, the first from %v", weights[1], weights[0])
	}
}
