package builders

import (
	"encoding/json"
	"fmt"
	"sort"
	"strings"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Config chooses among a network's variants. Zero values mean the network's defaults (Defaults).
type Config struct {
	Input   [3]int `json:"input,omitzero"`   // channels, height, width
	Classes int    `json:"classes,omitzero"` // or channels of the mask
	Blocks  []int  `json:"blocks,omitempty"` // resnet, resnet18, resnet20: blocks per layer
	Width   int    `json:"width,omitzero"`   // unet, resnet, resnet9, resnet18, resnet20, vgg16: channels of the first level
	Depth   int    `json:"depth,omitzero"`   // unet: levels above the bottleneck
	// StochasticDepth, of resnet, resnet18 and resnet20, is the probability in [0,1) that training drops the branch of the
	// last residual block for an image; it rises linearly to that from block to block.
	StochasticDepth float64 `json:"stochastic_depth,omitzero"`

	Opset int64  `json:"opset,omitzero"`
	Seed  uint64 `json:"seed,omitzero"`
}

// Info describes a network that Build knows.
type Info struct {
	Name     string
	Summary  string
	Defaults Config
}

type network struct {
	Info
	build func(b *Builder, cfg Config) Value
}

var networks = map[string]network{
	"lenet5":   {Info{"lenet5", "LeNet-5: two 5x5 convolutions, three fully connected layers", Config{Input: [3]int{1, 28, 28}, Classes: 10}}, lenet5},
	"minivgg":  {Info{"minivgg", "MiniVGG: four 3x3 convolutions in two stages, three fully connected layers", Config{Input: [3]int{1, 28, 28}, Classes: 10}}, minivgg},
	"resnet":   {Info{"resnet", "ResNet for small images: three layers of basic blocks with 16, 32, 64 channels", Config{Input: [3]int{3, 32, 32}, Classes: 10, Blocks: []int{2, 2, 2}, Width: 16}}, resnet},
	"resnet20": {Info{"resnet20", "ResNet-20 for CIFAR-10 as its authors trained it, with shortcuts that have no weights (5,5,5 blocks make ResNet-32)", Config{Input: [3]int{3, 32, 32}, Classes: 10, Blocks: []int{3, 3, 3}, Width: 16}}, resnet20},
	"resnet9":  {Info{"resnet9", "ResNet-9 of the DAWNBench CIFAR-10 entries: eight 3x3 convolutions, two of the stages residual, one linear layer", Config{Input: [3]int{3, 32, 32}, Classes: 10, Width: 64}}, resnet9},
	"resnet18": {Info{"resnet18", "ResNet-18 as torchvision has it: four layers of two basic blocks (3,4,6,3 blocks make ResNet-34)", Config{Input: [3]int{3, 224, 224}, Classes: 1000, Blocks: []int{2, 2, 2, 2}, Width: 64}}, resnet18},
	"unet":     {Info{"unet", "U-Net: encoder, bottleneck and decoder with skip connections; one mask channel a class", Config{Input: [3]int{3, 128, 128}, Classes: 1, Width: 64, Depth: 4}}, unet},
	"vgg16":    {Info{"vgg16", "VGG-16 as torchvision has it: thirteen 3x3 convolutions, three fully connected layers, for 224x224 pixels and more", Config{Input: [3]int{3, 224, 224}, Classes: 1000, Width: 64}}, vgg16},
}

// Names lists the networks that Build knows.
func Names() []string {
	var out []string
	for name := range networks {
		out = append(out, name)
	}
	sort.Strings(out)
	return out
}

// List describes them.
func List() []Info {
	var out []Info
	for _, name := range Names() {
		out = append(out, networks[name].Info)
	}
	return out
}

// Defaults is the configuration that Build completes the given one with.
func Defaults(name string) (Config, error) {
	n, ok := networks[name]
	if !ok {
		return Config{}, fmt.Errorf("no network %q: known are %v", name, Names())
	}
	c := n.Defaults
	c.Opset = 17
	return c, nil
}

// Build makes the named network. The input is "input" [N,C,H,W]; the output "output" holds log-probabilities
// [N,classes], logits [N,classes] for resnet9, resnet18 and vgg16, or for unet logits [N,classes,H,W]. What the network
// does not take must be zero in cfg. The model's metadata records name and configuration (Arch).
func Build(name string, cfg Config) (*onnxio.Model, error) {
	def, err := Defaults(name)
	if err != nil {
		return nil, err
	}
	if err := foreign(name, cfg, def); err != nil {
		return nil, err
	}
	cfg = completed(cfg, def)
	b := New(name, cfg.Opset, cfg.Seed, cfg.Input[0], cfg.Input[1], cfg.Input[2])
	m, err := b.finish(networks[name].build(b, cfg))
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(cfg)
	if err != nil {
		return nil, err
	}
	m.SetProperty("cnnkit.arch", name)
	m.SetProperty("cnnkit.config", string(text))
	return m, nil
}

// foreign reports what is set in c though the network, whose defaults are def, does not take it.
func foreign(name string, c, def Config) error {
	takes := []string{"input", "classes"}
	var not []string
	for _, o := range []struct {
		name        string
		set, exists bool
	}{
		{"blocks", len(c.Blocks) > 0, len(def.Blocks) > 0},
		{"width", c.Width != 0, def.Width != 0},
		{"depth", c.Depth != 0, def.Depth != 0},
		{"stochastic_depth", c.StochasticDepth != 0, len(def.Blocks) > 0},
	} {
		if o.exists {
			takes = append(takes, o.name)
		} else if o.set {
			not = append(not, o.name)
		}
	}
	if not == nil {
		return nil
	}
	return fmt.Errorf("%s does not take %s: it takes %s, opset and seed", name, strings.Join(not, " or "), strings.Join(takes, ", "))
}

func completed(c, def Config) Config {
	if c.Input == [3]int{} {
		c.Input = def.Input
	}
	if c.Classes == 0 {
		c.Classes = def.Classes
	}
	if len(c.Blocks) == 0 {
		c.Blocks = def.Blocks
	}
	if c.Width == 0 {
		c.Width = def.Width
	}
	if c.Depth == 0 {
		c.Depth = def.Depth
	}
	if c.Opset == 0 {
		c.Opset = def.Opset
	}
	return c
}

// Arch reads back which network and configuration a model was built from.
func Arch(m *onnxio.Model) (name string, cfg Config, ok bool) {
	name, ok = m.Property("cnnkit.arch")
	text, has := m.Property("cnnkit.config")
	return name, cfg, ok && has && json.Unmarshal([]byte(text), &cfg) == nil
}

// lenet5 is LeNet-5 with ReLU and max pooling.
func lenet5(b *Builder, cfg Config) Value {
	x := b.ReLU("relu1", b.Conv2d("conv1", b.Input(), 6, 5, Pad(2)))
	x = b.MaxPool2d("pool1", x, 2)
	x = b.ReLU("relu2", b.Conv2d("conv2", x, 16, 5))
	x = b.MaxPool2d("pool2", x, 2)
	return b.classifier(x, cfg.Classes)
}

// minivgg is two stages of two 3x3 convolutions, one of them padded.
func minivgg(b *Builder, cfg Config) Value {
	x := b.ReLU("relu11", b.Conv2d("conv11", b.Input(), 16, 3))
	x = b.ReLU("relu12", b.Conv2d("conv12", x, 16, 3))
	x = b.MaxPool2d("pool1", x, 2)
	x = b.ReLU("relu21", b.Conv2d("conv21", x, 32, 3))
	x = b.ReLU("relu22", b.Conv2d("conv22", x, 32, 3, Pad(1)))
	x = b.MaxPool2d("pool2", x, 2)
	return b.classifier(x, cfg.Classes)
}

// classifier is the fully connected end of LeNet-5 and MiniVGG.
func (b *Builder) classifier(x Value, classes int) Value {
	x = b.Flatten("flatten", x)
	x = b.ReLU("relu3", b.Linear("fc1", x, 120))
	x = b.ReLU("relu4", b.Linear("fc2", x, 84))
	return b.LogSoftmax("logsoftmax", b.Linear("fc3", x, classes))
}

// unet is the U-Net of Ronneberger et al. 2015 with padded convolutions.
func unet(b *Builder, cfg Config) Value {
	if cfg.Depth < 1 || cfg.Depth > 12 || cfg.Width < 1 || cfg.Classes < 1 {
		b.fail("depth", "%d levels of width %d to %d channels: all must be positive, and at most 12 levels", cfg.Depth, cfg.Width, cfg.Classes)
		return Value{}
	}
	if f := 1 << cfg.Depth; cfg.Input[1]%f != 0 || cfg.Input[2]%f != 0 {
		b.fail("depth", "%d levels halve height and width %d times; %dx%d cannot be", cfg.Depth, cfg.Depth, cfg.Input[1], cfg.Input[2])
		return Value{}
	}
	double := func(name string, x Value, channels int) Value {
		s := b.Scope(name)
		x = s.ReLU("1", s.Conv2d("0", x, channels, 3, Pad(1)))
		return s.ReLU("3", s.Conv2d("2", x, channels, 3, Pad(1)))
	}
	x := b.Input()
	var skips []Value
	for k := range cfg.Depth {
		if k > 0 {
			x = b.MaxPool2d(fmt.Sprintf("pool%d", k), x, 2)
		}
		x = double(fmt.Sprintf("enc%d", k+1), x, cfg.Width<<k)
		skips = append(skips, x)
	}
	x = double("bottleneck", b.MaxPool2d(fmt.Sprintf("pool%d", cfg.Depth), x, 2), cfg.Width<<cfg.Depth)
	for k := cfg.Depth; k > 0; k-- {
		up := b.ConvTranspose2d(fmt.Sprintf("upconv%d", k), x, cfg.Width<<(k-1), 2, Stride(2))
		x = double(fmt.Sprintf("dec%d", k), b.Concat(fmt.Sprintf("concat%d", k), up, skips[k-1]), cfg.Width<<(k-1))
	}
	return b.Conv2d("conv_final", x, cfg.Classes, 1)
}
