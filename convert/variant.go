package convert

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/cnnkit/cnnkit/onnxio"
)

// origin is what lies around a checkpoint's numbers and says which network they are of: the file's name, and
// the config.json that transformers and timm put beside it.
type origin struct {
	file   string // without folders
	fields map[string]any
}

// maxConfig bounds a config.json.
const maxConfig = 1 << 20

// originOf reads the config.json beside a checkpoint, where there is one. What is none of transformers'
// or timm's does not count.
func originOf(path string) origin {
	o := origin{file: filepath.Base(path)}
	config := filepath.Join(filepath.Dir(path), "config.json")
	if info, err := os.Stat(config); err != nil || !info.Mode().IsRegular() || info.Size() > maxConfig {
		return o
	}
	text, err := os.ReadFile(config)
	var fields map[string]any
	if err != nil || json.Unmarshal(text, &fields) != nil || fields["model_type"] == nil &&
		fields["architecture"] == nil {
		return o
	}
	o.fields = fields
	return o
}

// number is a field of config.json, or the default of its library.
func (o origin) number(name string, def float64) float64 {
	if v, ok := o.fields[name].(float64); ok {
		return v
	}
	return def
}

// needs refuses a config.json in which a field that is there has another value than the map of names is for.
func (o origin) needs(network string, values map[string]any) error {
	for name, want := range values {
		if is, ok := o.fields[name]; ok && is != want {
			return &onnxio.UnsupportedError{Op: network, Attr: name, Reason: fmt.Sprintf(
				"config.json beside the file says %v, and the builders' network has %v: it computes something else with these weights", is, want)}
		}
	}
	return nil
}

// timm is the name of timm's network, as far as config.json or the file's name says it.
func (o origin) timm() string {
	if name, ok := o.fields["architecture"].(string); ok {
		return name
	}
	return o.file
}

// variant is how another library's network differs from the builders' of the same weights.
type variant struct {
	eps   float64        // of norms; 0: the builders'
	norms *regexp.Regexp // the weights of the norms that eps is for; nil: all
	pad   padding
	note  string // what was assumed
}

// padding is how a library pads convolutions. The zero value is the builders' way.
type padding string

const (
	same      padding = "as TensorFlow's SAME" // more below and to the right where the stride is 2
	symmetric padding = "the same on all sides"
)

// timmMobile tells timm's own networks from the tf_ ones, which have TensorFlow's
// weights under the same names.
func timmMobile(o origin) (variant, error) {
	if strings.HasPrefix(o.timm(), "tf_") {
		return variant{eps: 1e-3, pad: same}, nil
	}
	v := variant{eps: 1e-5}
	if o.fields["architecture"] == nil {
		v.note = "taken for weights that timm trained; those of its tf_ networks are told by timm's config.json beside the file, or by its name"
	}
	return v, nil
}

// timmLite is timmMobile for EfficientNet-Lite, of which the builders have TensorFlow's.
func timmLite(o origin) (variant, error) {
	switch name := o.timm(); {
	case strings.HasPrefix(name, "tf_"):
		return variant{}, nil
	case strings.HasPrefix(name, "efficientnet_lite"):
		return variant{eps: 1e-5, pad: symmetric}, nil
	}
	return variant{note: "taken for tf_efficientnet_lite, TensorFlow's weights; timm's own efficientnet_lite0 pads otherwise, and is told by " +
		"timm's config.json beside the file, or by its name"}, nil
}

func hubMobileNetV2(o origin) (variant, error) {
	v := variant{eps: o.number("layer_norm_eps", 1e-3), pad: same}
	if o.fields == nil {
		v.note = "paddings and norms are transformers' defaults, which all published ones have; a config.json beside the file would say"
	}
	if tf, ok := o.fields["tf_padding"].(bool); ok && !tf {
		v.pad = ""
	}
	return v, o.needs("Hugging Face's MobileNet v2", map[string]any{
		"hidden_act": "relu6", "output_stride": 32.0, "first_layer_is_expansion": true})
}

func hubViT(o origin) (variant, error) {
	heads := map[float64]float64{768: 12, 1024: 16, 1280: 16}[o.number("hidden_size", 768)]
	return variant{eps: o.number("layer_norm_eps", 1e-12)}, o.needs("Hugging Face's ViT", map[string]any{
		"hidden_act": "gelu", "num_attention_heads": heads})
}

func hubResNet(o origin) (variant, error) {
	return variant{}, o.needs("Hugging Face's ResNet", map[string]any{
		"hidden_act": "relu", "downsample_in_first_stage": false, "downsample_in_bottleneck": false})
}

var lastNorm = regexp.MustCompile(`^classifier\.0\.weight$`)

func hubConvNeXt(o origin) (variant, error) {
	return variant{eps: o.number("layer_norm_eps", 1e-12), norms: lastNorm},
		o.needs("Hugging Face's ConvNeXt", map[string]any{"hidden_act": "gelu"})
}

// apply changes the graph's norms and convolutions to the library's, and says what it changed. A changed
// network is no longer the builders': it loses the configuration from which they would build it anew.
func (v variant) apply(m *onnxio.Model) ([]string, error) {
	var said []string
	norms, convs := 0, 0
	for i, n := range m.Graph.Nodes {
		var attrs []*onnxio.Attribute
		switch {
		case n == nil:
		case v.eps != 0 && (n.OpType == "BatchNormalization" || n.OpType == "LayerNormalization") &&
			len(n.Inputs) > 1 &&
			(v.norms == nil || v.norms.MatchString(n.Inputs[1])):
			norms++
			if n.Float("epsilon", 1e-5) != float32(v.eps) {
				attrs = replaced(n.Attrs, onnxio.FloatAttr("epsilon", float32(v.eps)))
			}
		case v.pad != "" && n.OpType == "Conv":
			attrs = v.pad.of(n)
			if attrs != nil {
				convs++
			}
		}
		if attrs != nil {
			changed := *n
			changed.Attrs = attrs
			m.Graph.Nodes[i] = &changed
			if n.OpType != "Conv" && len(said) == 0 {
				said = append(said, fmt.Sprintf("epsilon of norms: %g", v.eps))
			}
		}
	}
	if v.eps != 0 && norms == 0 {
		return nil, &onnxio.UnsupportedError{Op: "epsilon of norms", Opset: m.Opset(""), Reason: fmt.Sprintf(
			"the checkpoint's network has %g, and below opset 17 the graph has no norm to put it into: use --opset 17", v.eps)}
	}
	if convs > 0 {
		said = append(said, fmt.Sprintf("padding of %d convolutions: %s", convs, v.pad))
	}
	if len(said) > 0 {
		m.Metadata = slices.DeleteFunc(slices.Clone(m.Metadata), func(p onnxio.Property) bool {
			return p.Key == "cnnkit.config"
		})
	}
	if v.note != "" {
		said = append(said, v.note)
	}
	return said, nil
}

// of gives the attributes of a convolution that is padded in this way; nil where it is already. One of stride
// 1 is padded the same in all ways.
func (p padding) of(n *onnxio.Node) []*onnxio.Attribute {
	kernel, strides := n.Ints("kernel_shape"), n.Ints("strides")
	if len(kernel) != 2 || kernel[0] == 1 || kernel[0] != kernel[1] || len(strides) != 2 || strides[0] == 1 {
		return nil
	}
	if p == same {
		return replaced(n.Attrs, onnxio.StringAttr("auto_pad", "SAME_UPPER"), "pads")
	}
	half := kernel[0] / 2
	return replaced(n.Attrs, onnxio.IntsAttr("pads", half, half, half, half), "auto_pad")
}

// replaced are attributes with a in the place of its namesake, and without some others.
func replaced(attrs []*onnxio.Attribute, a *onnxio.Attribute, without ...string) []*onnxio.Attribute {
	out := slices.DeleteFunc(slices.Clone(attrs), func(x *onnxio.Attribute) bool {
		return x != nil && (x.Name == a.Name || slices.Contains(without, x.Name))
	})
	return append(out, a)
}
