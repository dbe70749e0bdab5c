package builders

import (
	"math"
	"strconv"

	"github.com/cnnkit/cnnkit/onnxio"
)

// transformers are torchvision.models.vision_transformer (Dosovitskiy et al. 2020).
var transformers = []network{
	viT("vit_b_16", "ViT-B/16", 16, 12, 12, 768, 3072),
	viT("vit_b_32", "ViT-B/32", 32, 12, 12, 768, 3072),
	viT("vit_l_16", "ViT-L/16", 16, 24, 16, 1024, 4096),
	viT("vit_l_32", "ViT-L/32", 32, 24, 16, 1024, 4096),
	viT("vit_h_14", "ViT-H/14", 14, 32, 16, 1280, 5120),
}

func viT(name, summary string, patch, layers, heads, hidden, mlp int) network {
	return classifier(name, summary, 224, func(b *Builder, cfg Config) Value {
		c, h, w := cfg.Input[0], cfg.Input[1], cfg.Input[2]
		if h%patch != 0 || w%patch != 0 {
			b.fail("conv_proj", "%dx%d is not made of patches of %dx%d", h, w, patch, patch)
			return Value{}
		}
		class := b.Parameter("class_token", Zeros, 1, 1, hidden)
		x := b.Conv2d("conv_proj", b.Input(), hidden, patch, Stride(patch), BiasInit(Zeros),
			WeightInit(TruncNormal(math.Sqrt(1/float64(c*patch*patch)))))
		x = b.Permute("tokens", b.Reshape("patches", x, hidden, -1), 0, 2, 1)
		x = b.ConcatOver("cat", 1, b.expand("class", class, x), x)
		e := b.Scope("encoder")
		x = e.Add("positions", x, e.Parameter("pos_embedding", Normal(0.02), 1, h/patch*(w/patch)+1, hidden))
		for i := range layers {
			x = e.Scope("layers.encoder_layer_"+strconv.Itoa(i)).encoderLayer(x, heads, hidden, mlp)
		}
		x = e.LayerNorm("ln", x, Eps(1e-6))
		x = b.Reshape("class_out", b.Slice("first", x, 1, 0, 1, 1), hidden)
		return b.Linear("heads.head", x, cfg.Classes, WeightInit(Zeros), BiasInit(Zeros))
	})
}

// encoderLayer is torchvision.models.vision_transformer.EncoderBlock.
func (b *Builder) encoderLayer(x Value, heads, hidden, mlp int) Value {
	x = b.Add("add_1", b.MultiheadAttention("self_attention", b.LayerNorm("ln_1", x, Eps(1e-6)), heads), x)
	y := b.MLP("mlp", b.LayerNorm("ln_2", x, Eps(1e-6)), mlp, hidden, (*Builder).GELU,
		WeightInit(XavierUniform), BiasInit(Normal(1e-6)))
	return b.Add("add_2", x, y)
}

// expand repeats a parameter [1,...] for every image of like.
func (b *Builder) expand(name string, v, like Value) Value {
	if b.root.err != nil {
		return Value{}
	}
	shape := b.numbers("Shape", name+".shape", []string{like.Name})
	batch := b.numbers("Gather", name+".batch", []string{shape, b.ints(name, "first", 0)},
		onnxio.IntAttr("axis", 0))
	rest := b.ints(name, "rest", v.Shape[1:]...)
	whole := b.numbers("Concat", name+".sizes", []string{batch, rest}, onnxio.IntAttr("axis", 0))
	out := b.node("Expand", name, []string{v.Name, whole}, v.Shape[1:])
	out.tokens = true
	return out
}
