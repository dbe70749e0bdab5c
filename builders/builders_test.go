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
		{"resnet9", Config{}, 6573120},
		{"resnet18", Config{}, 11689512},
		{"resnet18", Config{Blocks: []int{3, 4, 6, 3}}, 21797672}, // torchvision's resnet34
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
		for _, name := range reference {
			m, err := Build(name, small(name, Config{Opset: opset}))
			if err != nil {
				t.Fatal(err)
			}
			if err := check.Model(m); err != nil {
				t.Errorf("%s, opset %d: %v", name, opset, err)
			}
		}
	}
}

// reference are the first networks, and some of the smallest of each family with operators of its own.
var reference = []string{"lenet5", "minivgg", "resnet", "resnet9", "resnet18", "resnet20", "unet", "vgg16",
	"mobilenet_v3_small",
	"shufflenet_v2_x0_5", "squeezenet1_1"}

// small is the network with narrow layers where it can have them.
func small(name string, cfg Config) Config {
	if networks[name].Defaults.Width != 0 {
		cfg.Width = 4
	}
	return cfg
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
		{"lenet5", Config{Input: [3]int{1, 6, 6}},
			"lenet5: conv2: a 5x5 kernel with padding 0 does not fit its input [N,6,3,3]"},
		{"unet", Config{Input: [3]int{3, 100, 100}}, "unet: depth: 4 levels halve"},
		{"resnet", Config{Blocks: []int{2}}, "resnet: blocks"},
		{"unet", Config{Depth: -1}, "unet: depth: -1 levels"},
		{"resnet", Config{Blocks: []int{2, 0, 2}}, "at least one block"},
		{"lenet5", Config{Opset: 12}, "opset 12"},
		{"lenet", Config{}, `no network "lenet": known are [lenet5]`},
		{"vit_b_16", Config{Input: [3]int{3, 100, 100}},
			"vit_b_16: conv_proj: 100x100 is not made of patches of 16x16"},
		{"maxvit_t", Config{Input: [3]int{3, 64, 64}}, "no square of windows of 7"},
		{"swin_t", Config{StochasticDepth: 2}, "is not in [0,1)"},
		{"lenet5", Config{Width: 3, Blocks: []int{2}},
			"lenet5 does not take blocks or width: it takes input, classes, opset and seed"},
		{"minivgg", Config{Depth: 2}, "minivgg does not take depth: it takes input, classes, opset and seed"},
		{"resnet", Config{Depth: 1},
			"resnet does not take depth: it takes input, classes, blocks, width, stochastic_depth, opset and seed"},
		{"resnet9", Config{StochasticDepth: 0.1},
			"resnet9 does not take stochastic_depth: it takes input, classes, width, opset and seed"},
		{"resnet9", Config{Blocks: []int{1}},
			"resnet9 does not take blocks: it takes input, classes, width, opset and seed"},
		{"resnet9", Config{Input: [3]int{3, 7, 32}, Width: 4},
			"resnet9: layer3.pool: a 2x2 kernel with padding 0 does not fit its input [N,32,1,8]"},
		{"resnet9", Config{Width: -1}, "resnet9: prep.conv"},
		{"resnet18", Config{Depth: 1},
			"resnet18 does not take depth: it takes input, classes, blocks, width, stochastic_depth, opset and seed"},
		{"resnet18", Config{Blocks: []int{2, 2}},
			"resnet18: blocks: [2 2]: a number for each of the 4 layers"},
		{"unet", Config{Blocks: []int{2}},
			"unet does not take blocks: it takes input, classes, width, depth, opset and seed"},
		{"vgg16", Config{Depth: -1},
			"vgg16 does not take depth: it takes input, classes, width, opset and seed"},
		{"vgg16", Config{Input: [3]int{3, 16, 16}, Width: 4},
			"vgg16: features.30: a 2x2 kernel with padding 0 does not fit its input [N,32,1,1]"},
		{"resnet18", Config{Width: -1}, "resnet18: conv1"},
	} {
		_, err := Build(c.name, c.cfg)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %+v: got %v, want %q", c.name, c.cfg, err, c.want)
		}
	}
}

func TestMisusedBuilders(t *testing.T) {
	for name, build := range map[string]func(b *Builder) Value{
		"AvgPool2d has no option Dilation": func(b *Builder) Value {
			return b.AvgPool2d("pool", b.Input(), 2, Dilation(2))
		},
		"Conv2d has no option CeilMode": func(b *Builder) Value {
			return b.Conv2d("conv", b.Input(), 4, 3, CeilMode())
		},
		"MaxPool2d has no option Groups": func(b *Builder) Value {
			return b.MaxPool2d("pool", b.Input(), 2, Groups(3))
		},
		"more than half the kernel": func(b *Builder) Value {
			return b.MaxPool2d("pool", b.Input(), 2, Pad(2))
		},
		`no layer gives "input"`: func(b *Builder) Value {
			b.ReLU("relu", b.Input())
			return b.Input()
		},
		"output padding of the stride": func(b *Builder) Value {
			return b.ConvTranspose2d("up", b.Input(), 2, 2, Stride(2), OutputPad(2))
		},
		"there is a layer of that name already": func(b *Builder) Value {
			return b.Conv2d("c", b.Conv2d("c", b.Input(), 3, 1), 3, 1)
		},
		"pool: takes a feature map [N,C,H,W]": func(b *Builder) Value {
			return b.GlobalMaxPool2d("pool", b.Flatten("flatten", b.Input()))
		},
		"takes features [N,F], not [N,3,8,8]": func(b *Builder) Value {
			return b.Linear("fc", b.Input(), 3)
		},
		"cannot join [N,3,8,8] and [N,3,4,4]": func(b *Builder) Value {
			return b.Concat("cat", b.Input(), b.MaxPool2d("pool", b.Input(), 2))
		},
		"a 9x9 kernel with padding 0 does not fit": func(b *Builder) Value {
			return b.Conv2d("conv", b.Input(), 4, 9)
		},
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
