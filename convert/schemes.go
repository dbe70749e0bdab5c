package convert

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/cnnkit/cnnkit/onnxio"
)

// scheme is how another library names torchvision's modules. This file is the table of those
// that Apply finds by itself.
type scheme struct {
	name  string
	rules []schemeRule
	// of timm's stages, whose keys blocks.STAGE.BLOCK become _blocks.NUMBER before the rules; nil: they stay
	blocks []int
	unused *regexp.Regexp // keys of layers that the classifier does not have; nil: none
	// how the library's network differs from torchvision's; nil: in names alone
	variant func(origin) (variant, error)
}

type schemeRule struct {
	// compiled when it is asked for: a program that converts nothing starts without
	pattern  func() *regexp.Regexp
	to       string
	part, of int // the key is part 0, 1, ... of so many that are joined in the first dimension
}

// renaming is a key's name in the model. Where of is more than 1, the tensor is one of so many parts.
type renaming struct {
	name     string
	part, of int
}

// rename gives torchvision's key by the first rule that fits.
func (s *scheme) rename(key string) renaming {
	key = s.numbered(key)
	for _, r := range s.rules {
		pattern := r.pattern()
		if at := pattern.FindStringSubmatchIndex(key); at != nil {
			return renaming{string(pattern.ExpandString(nil, r.to, key, at)), r.part, max(r.of, 1)}
		}
	}
	return renaming{key, 0, 1}
}

// numbered counts blocks through all stages.
func (s *scheme) numbered(key string) string {
	parts := strings.SplitN(key, ".", 4)
	if s.blocks == nil || len(parts) < 4 || parts[0] != "blocks" {
		return key
	}
	stage, err := strconv.Atoi(parts[1])
	if err != nil || stage < 0 || stage >= len(s.blocks) {
		return key
	}
	block, err := strconv.Atoi(parts[2])
	if err != nil || block < 0 || block >= s.blocks[stage] {
		return key
	}
	for _, n := range s.blocks[:stage] {
		block += n
	}
	return fmt.Sprintf("_blocks.%d.%s", block, parts[3])
}

// rules takes pairs of a pattern for the whole key and what it becomes.
func rules(pairs ...string) []schemeRule {
	var out []schemeRule
	for i := 0; i+1 < len(pairs); i += 2 {
		compiled := sync.OnceValue(func() *regexp.Regexp {
			return regexp.MustCompile(`^(?:` + pairs[i] + `)$`)
		})
		out = append(out, schemeRule{pattern: compiled, to: pairs[i+1]})
	}
	return out
}

// joined are rules whose keys are parts of one tensor, in that order.
func joined(to string, parts ...string) []schemeRule {
	var out []schemeRule
	for i, p := range parts {
		r := rules(p, to)[0]
		r.part, r.of = i, len(parts)
		out = append(out, r)
	}
	return out
}

var schemes = slices.Concat(otherNames, timmLites())

var otherNames = []*scheme{
	{name: "torchvision's DenseNet files (norm.1)", rules: rules(
		`(.*denselayer\d+\.(?:norm|relu|conv))\.([12])\.(.*)`, `$1$2.$3`)},
	{name: "timm's VGG", rules: rules(
		`pre_logits\.fc1\.(.*)`, `classifier.0.$1`, `pre_logits\.fc2\.(.*)`, `classifier.3.$1`,
		`head\.fc\.(.*)`, `classifier.6.$1`)},
	{name: "timm's ViT", rules: rules(
		`cls_token`, `class_token`, `pos_embed`, `encoder.pos_embedding`, `patch_embed\.proj\.(.*)`,
		`conv_proj.$1`,
		`blocks\.(\d+)\.norm([12])\.(.*)`, `encoder.layers.encoder_layer_$1.ln_$2.$3`,
		`blocks\.(\d+)\.attn\.qkv\.(.*)`, `encoder.layers.encoder_layer_$1.self_attention.in_proj_$2`,
		`blocks\.(\d+)\.attn\.proj\.(.*)`, `encoder.layers.encoder_layer_$1.self_attention.out_proj.$2`,
		`blocks\.(\d+)\.mlp\.fc1\.(.*)`, `encoder.layers.encoder_layer_$1.mlp.0.$2`,
		`blocks\.(\d+)\.mlp\.fc2\.(.*)`, `encoder.layers.encoder_layer_$1.mlp.3.$2`,
		`norm\.(.*)`, `encoder.ln.$1`, `head\.(.*)`, `heads.head.$1`)},
	{name: "timm's ConvNeXt", rules: slices.Concat(rules(
		`stem\.(.*)`, `features.0.$1`, `head\.norm\.(.*)`, `classifier.0.$1`, `head\.fc\.(.*)`,
		`classifier.2.$1`),
		stages(4, `stages\.%d\.downsample\.(.*)`, `features.%d.$1`, 0),
		stages(4, `stages\.%d\.blocks\.(\d+)\.gamma`, `features.%d.$1.layer_scale`, 1),
		stages(4, `stages\.%d\.blocks\.(\d+)\.conv_dw\.(.*)`, `features.%d.$1.block.0.$2`, 1),
		stages(4, `stages\.%d\.blocks\.(\d+)\.norm\.(.*)`, `features.%d.$1.block.2.$2`, 1),
		stages(4, `stages\.%d\.blocks\.(\d+)\.mlp\.fc1\.(.*)`, `features.%d.$1.block.3.$2`, 1),
		stages(4, `stages\.%d\.blocks\.(\d+)\.mlp\.fc2\.(.*)`, `features.%d.$1.block.5.$2`, 1))},
	{name: "timm's Swin", rules: slices.Concat(rules(
		`patch_embed\.proj\.(.*)`, `features.0.0.$1`, `patch_embed\.norm\.(.*)`, `features.0.2.$1`,
		`head\.fc\.(.*)`, `head.$1`),
		stages(4, `layers\.%d\.downsample\.(.*)`, `features.%d.$1`, 0),
		stages(4, `layers\.%d\.blocks\.(\d+)\.mlp\.fc1\.(.*)`, `features.%d.$1.mlp.0.$2`, 1),
		stages(4, `layers\.%d\.blocks\.(\d+)\.mlp\.fc2\.(.*)`, `features.%d.$1.mlp.3.$2`, 1),
		stages(4, `layers\.%d\.blocks\.(.*)`, `features.%d.$1`, 1))},
	{name: "timm's EfficientNet", variant: timmMobile, rules: slices.Concat(rules(
		`conv_stem\.(.*)`, `features.0.0.$1`, `bn1\.(.*)`, `features.0.1.$1`, `conv_head\.(.*)`,
		`features.8.0.$1`,
		`bn2\.(.*)`, `features.8.1.$1`, `classifier\.(.*)`, `classifier.1.$1`),
		rules(
			`blocks\.0\.(\d+)\.conv_dw\.(.*)`, `features.1.$1.block.0.0.$2`, `blocks\.0\.(\d+)\.bn1\.(.*)`,
			`features.1.$1.block.0.1.$2`,
			`blocks\.0\.(\d+)\.se\.conv_reduce\.(.*)`, `features.1.$1.block.1.fc1.$2`,
			`blocks\.0\.(\d+)\.se\.conv_expand\.(.*)`, `features.1.$1.block.1.fc2.$2`,
			`blocks\.0\.(\d+)\.conv_pw\.(.*)`, `features.1.$1.block.2.0.$2`, `blocks\.0\.(\d+)\.bn2\.(.*)`,
			`features.1.$1.block.2.1.$2`),
		mobile(`blocks\.%d\.(\d+)\.`, `features.%d.$1.block.`))},
	{name: "timm's MobileNet v2", rules: mobileNetV2Rules()},
	{name: "timm's MobileNet v3 large", variant: timmMobile,
		rules: mobileNetV3Rules([]int{1, 2, 3, 4, 2, 3}, []bool{false, false, true, false, true, true})},
	{name: "timm's MobileNet v3 small", variant: timmMobile,
		rules: mobileNetV3Rules([]int{1, 2, 3, 2, 3}, []bool{true, false, true, true, true})},
	{name: "Hugging Face's MobileNet v2", variant: hubMobileNetV2, rules: hubMobileNetV2Rules()},
	{name: "Hugging Face's ViT", variant: hubViT, unused: regexp.MustCompile(`^(?:vit\.)?pooler\.dense\.`),
		rules: hubViTRules()},
	{name: "Hugging Face's ResNet", variant: hubResNet, rules: slices.Concat(rules(
		`(?:resnet\.)?embedder\.embedder\.convolution\.(.*)`, `conv1.$1`,
		`(?:resnet\.)?embedder\.embedder\.normalization\.(.*)`, `bn1.$1`,
		`classifier\.1\.(.*)`, `fc.$1`), residualRules())},
	{name: "Hugging Face's ConvNeXt", variant: hubConvNeXt, rules: slices.Concat(rules(
		`(?:convnext\.)?embeddings\.patch_embeddings\.(.*)`, `features.0.0.$1`,
		`(?:convnext\.)?embeddings\.layernorm\.(.*)`, `features.0.1.$1`,
		`(?:convnext\.)?layernorm\.(.*)`, `classifier.0.$1`, `classifier\.(weight|bias)`, `classifier.2.$1`),
		stages(4, `(?:convnext\.)?encoder\.stages\.%d\.downsampling_layer\.(.*)`, `features.%d.$1`, 0),
		stages(4, `(?:convnext\.)?encoder\.stages\.%d\.layers\.(\d+)\.layer_scale_parameter`,
			`features.%d.$1.layer_scale`, 1),
		stages(4, `(?:convnext\.)?encoder\.stages\.%d\.layers\.(\d+)\.dwconv\.(.*)`,
			`features.%d.$1.block.0.$2`, 1),
		stages(4, `(?:convnext\.)?encoder\.stages\.%d\.layers\.(\d+)\.layernorm\.(.*)`,
			`features.%d.$1.block.2.$2`, 1),
		stages(4, `(?:convnext\.)?encoder\.stages\.%d\.layers\.(\d+)\.pwconv1\.(.*)`,
			`features.%d.$1.block.3.$2`, 1),
		stages(4, `(?:convnext\.)?encoder\.stages\.%d\.layers\.(\d+)\.pwconv2\.(.*)`,
			`features.%d.$1.block.5.$2`, 1))},
}

// timmLites are timm's EfficientNet-Lites, whose keys here are those of efficientnet-lite-pytorch. Lite0,
// Lite1 and Lite2, Lite3, and Lite4 differ in how many blocks their stages have.
func timmLites() []*scheme {
	to := rules(`conv_stem\.(.*)`, `_conv_stem.$1`, `bn1\.(.*)`, `_bn0.$1`, `conv_head\.(.*)`,
		`_conv_head.$1`, `bn2\.(.*)`, `_bn1.$1`,
		`classifier\.(.*)`, `_fc.$1`, `_blocks\.0\.bn1\.(.*)`, `_blocks.0._bn1.$1`, `_blocks\.0\.bn2\.(.*)`,
		`_blocks.0._bn2.$1`,
		`_blocks\.0\.conv_pw\.(.*)`, `_blocks.0._project_conv.$1`, `_blocks\.(\d+)\.conv_dw\.(.*)`,
		`_blocks.$1._depthwise_conv.$2`,
		`_blocks\.(\d+)\.conv_pw\.(.*)`, `_blocks.$1._expand_conv.$2`, `_blocks\.(\d+)\.bn1\.(.*)`,
		`_blocks.$1._bn0.$2`,
		`_blocks\.(\d+)\.bn2\.(.*)`, `_blocks.$1._bn1.$2`, `_blocks\.(\d+)\.conv_pwl\.(.*)`,
		`_blocks.$1._project_conv.$2`,
		`_blocks\.(\d+)\.bn3\.(.*)`, `_blocks.$1._bn2.$2`)
	var out []*scheme
	for _, n := range [][]int{{1, 2, 2, 3, 3, 4, 1}, {1, 3, 3, 4, 4, 5, 1}, {1, 3, 3, 5, 5, 6, 1},
		{1, 4, 4, 6, 6, 8, 1}} {
		out = append(out, &scheme{name: "timm's EfficientNet-Lite", variant: timmLite, rules: to, blocks: n})
	}
	return out
}

// stages is a rule for each of n stages i, which torchvision numbers 2i and what is before in it, as behind.
func stages(n int, from, to string, behind int) []schemeRule {
	var out []schemeRule
	for i := range n {
		out = append(out, rules(fmt.Sprintf(from, i), fmt.Sprintf(to, 2*i+behind))...)
	}
	return out
}

// mobile are the inverted residuals of timm's stages 1 to 6.
func mobile(from, to string) []schemeRule {
	var out []schemeRule
	for i := 1; i <= 6; i++ {
		f, t := fmt.Sprintf(from, i), fmt.Sprintf(to, i+1)
		out = append(out, rules(f+`conv_pw\.(.*)`, t+`0.0.$2`, f+`bn1\.(.*)`, t+`0.1.$2`, f+`conv_dw\.(.*)`,
			t+`1.0.$2`,
			f+`bn2\.(.*)`, t+`1.1.$2`, f+`se\.conv_reduce\.(.*)`, t+`2.fc1.$2`, f+`se\.conv_expand\.(.*)`,
			t+`2.fc2.$2`,
			f+`conv_pwl\.(.*)`, t+`3.0.$2`, f+`bn3\.(.*)`, t+`3.1.$2`)...)
	}
	return out
}

// mobileNetV2Rules number all blocks of timm's stages in one row.
func mobileNetV2Rules() []schemeRule {
	out := rules(`conv_stem\.(.*)`, `features.0.0.$1`, `bn1\.(.*)`, `features.0.1.$1`, `conv_head\.(.*)`,
		`features.18.0.$1`,
		`bn2\.(.*)`, `features.18.1.$1`, `classifier\.(.*)`, `classifier.1.$1`,
		`blocks\.0\.0\.conv_dw\.(.*)`, `features.1.conv.0.0.$1`, `blocks\.0\.0\.bn1\.(.*)`,
		`features.1.conv.0.1.$1`,
		`blocks\.0\.0\.conv_pw\.(.*)`, `features.1.conv.1.$1`, `blocks\.0\.0\.bn2\.(.*)`,
		`features.1.conv.2.$1`)
	at := 2
	for i, blocks := range []int{2, 3, 4, 3, 3, 1} {
		for j := range blocks {
			f, t := fmt.Sprintf(`blocks\.%d\.%d\.`, i+1, j), fmt.Sprintf(`features.%d.conv.`, at)
			out = append(out, rules(f+`conv_pw\.(.*)`, t+`0.0.$1`, f+`bn1\.(.*)`, t+`0.1.$1`,
				f+`conv_dw\.(.*)`, t+`1.0.$1`,
				f+`bn2\.(.*)`, t+`1.1.$1`, f+`conv_pwl\.(.*)`, t+`2.$1`, f+`bn3\.(.*)`, t+`3.$1`)...)
			at++
		}
	}
	return out
}

// mobileNetV3Rules number all blocks in one row; squeezed are the stages with squeeze-and-excitation.
func mobileNetV3Rules(stages []int, squeezed []bool) []schemeRule {
	blocks := 0
	for _, n := range stages {
		blocks += n
	}
	last := fmt.Sprintf(`features.%d.`, blocks+1)
	out := rules(`conv_stem\.(.*)`, `features.0.0.$1`, `bn1\.(.*)`, `features.0.1.$1`,
		fmt.Sprintf(`blocks\.%d\.0\.conv\.(.*)`, len(stages)), last+`0.$1`,
		fmt.Sprintf(`blocks\.%d\.0\.bn1\.(.*)`, len(stages)), last+`1.$1`,
		`conv_head\.(.*)`, `classifier.0.$1`, `classifier\.(.*)`, `classifier.3.$1`)
	at := 1
	for i, n := range stages {
		for j := range n {
			f, t := fmt.Sprintf(`blocks\.%d\.%d\.`, i, j), fmt.Sprintf(`features.%d.block.`, at)
			out = append(out, bneckRules(f, t, at == 1, squeezed[i])...)
			at++
		}
	}
	return out
}

// bneckRules are those of one block of MobileNet v3. The first does not expand, and its norms
// count from the depthwise one.
func bneckRules(from, to string, first, squeezed bool) []schemeRule {
	layers := []string{"conv_pw", "conv_dw", "conv_pwl"}
	if first {
		layers = []string{"conv_dw", "conv_pw"}
	}
	var out []schemeRule
	next := 0
	for i, conv := range layers {
		if squeezed && i == len(layers)-1 {
			se := fmt.Sprintf(`%s%d.`, to, next)
			out = append(out, rules(from+`se\.conv_reduce\.(.*)`, se+`fc1.$1`, from+`se\.conv_expand\.(.*)`,
				se+`fc2.$1`)...)
			next++
		}
		out = append(out, rules(from+conv+`\.(.*)`, fmt.Sprintf(`%s%d.0.$1`, to, next),
			fmt.Sprintf(`%sbn%d\.(.*)`, from, i+1), fmt.Sprintf(`%s%d.1.$1`, to, next))...)
		next++
	}
	return out
}

// hubMobileNetV2Rules take MobileNetV2ForImageClassification's keys, with or without the
// model's name before them.
func hubMobileNetV2Rules() []schemeRule {
	const p, conv, norm = `(?:mobilenet_v2\.)?`, `\.convolution\.(.*)`, `\.normalization\.(.*)`
	out := rules(`classifier\.(.*)`, `classifier.1.$1`,
		p+`conv_stem\.first_conv`+conv, `features.0.0.$1`, p+`conv_stem\.first_conv`+norm, `features.0.1.$1`,
		p+`conv_stem\.conv_3x3`+conv, `features.1.conv.0.0.$1`, p+`conv_stem\.conv_3x3`+norm,
		`features.1.conv.0.1.$1`,
		p+`conv_stem\.reduce_1x1`+conv, `features.1.conv.1.$1`, p+`conv_stem\.reduce_1x1`+norm,
		`features.1.conv.2.$1`,
		p+`conv_1x1`+conv, `features.18.0.$1`, p+`conv_1x1`+norm, `features.18.1.$1`)
	for i := range 16 {
		f, t := fmt.Sprintf(`%slayer\.%d\.`, p, i), fmt.Sprintf(`features.%d.conv.`, i+2)
		out = append(out, rules(f+`expand_1x1`+conv, t+`0.0.$1`, f+`expand_1x1`+norm, t+`0.1.$1`,
			f+`conv_3x3`+conv, t+`1.0.$1`,
			f+`conv_3x3`+norm, t+`1.1.$1`, f+`reduce_1x1`+conv, t+`2.$1`, f+`reduce_1x1`+norm, t+`3.$1`)...)
	}
	return out
}

// hubViTRules take ViTForImageClassification's keys as files have them and, after "or", as modules of
// transformers 5 do. Query, key and value are one tensor in PyTorch's attention.
func hubViTRules() []schemeRule {
	const p, layer, to = `(?:vit\.)?`, `(?:vit\.)?(?:encoder\.layer|layers)\.(\d+)\.`,
		`encoder.layers.encoder_layer_$1.`
	return slices.Concat(rules(
		p+`embeddings\.cls_token`, `class_token`, p+`embeddings\.position_embeddings`,
		`encoder.pos_embedding`,
		p+`embeddings\.patch_embeddings\.projection\.(.*)`, `conv_proj.$1`,
		layer+`layernorm_before\.(.*)`, to+`ln_1.$2`, layer+`layernorm_after\.(.*)`, to+`ln_2.$2`,
		layer+`attention\.(?:output\.dense|o_proj)\.(.*)`, to+`self_attention.out_proj.$2`,
		layer+`(?:intermediate\.dense|mlp\.fc1)\.(.*)`, to+`mlp.0.$2`,
		layer+`(?:output\.dense|mlp\.fc2)\.(.*)`, to+`mlp.3.$2`,
		p+`layernorm\.(.*)`, `encoder.ln.$1`, `classifier\.(.*)`, `heads.head.$1`),
		joined(to+`self_attention.in_proj_$2`, layer+`attention\.(?:attention\.query|q_proj)\.(.*)`,
			layer+`attention\.(?:attention\.key|k_proj)\.(.*)`,
			layer+`attention\.(?:attention\.value|v_proj)\.(.*)`))
}

// residualRules are the blocks of Hugging Face's ResNet.
func residualRules() []schemeRule {
	var out []schemeRule
	for i := range 4 {
		f, t := fmt.Sprintf(`(?:resnet\.)?encoder\.stages\.%d\.layers\.(\d+)\.`,
			i), fmt.Sprintf(`layer%d.$1.`, i+1)
		out = append(out, rules(f+`shortcut\.convolution\.(.*)`, t+`downsample.0.$2`,
			f+`shortcut\.normalization\.(.*)`, t+`downsample.1.$2`)...)
		for j := range 3 {
			out = append(out, rules(fmt.Sprintf(`%slayer\.%d\.convolution\.(.*)`, f, j),
				fmt.Sprintf(`%sconv%d.$2`, t, j+1),
				fmt.Sprintf(`%slayer\.%d\.normalization\.(.*)`, f, j), fmt.Sprintf(`%sbn%d.$2`, t, j+1))...)
		}
	}
	return out
}

// schemeFor is the naming under which every key of the state dict fits the model, where more do than under
// their own names. Those of replaceable may have another first dimension. num_batches_tracked does not count.
// Where none fits whole and few keys fit under their own names, it is the naming of most: what is wrong, such
// as the number of classes, is told in its terms.
func schemeFor(sd *StateDict, inits map[string]*onnxio.Tensor, replaceable []string) *scheme {
	count := func(rename func(string) renaming, unused *regexp.Regexp) (fit, of int) {
		for _, e := range sd.entries {
			if countsBatches(e.Name) || unused != nil && unused.MatchString(e.Name) {
				continue
			}
			of++
			to := rename(e.Name)
			if t := inits[to.name]; t != nil && (sameForm(t, e.Tensor, to.of) ||
				otherRows(t, e.Tensor, to, replaceable)) {
				fit++
			} else if fit+64 < of { // hopeless
				return fit, of
			}
		}
		return fit, of
	}
	own, of := count(func(key string) renaming { return renaming{key, 0, 1} }, nil)
	if own == of {
		return nil
	}
	var nearest *scheme
	most := 2 * own
	for _, s := range schemes {
		fit, of := count(s.rename, s.unused)
		if fit <= own || !s.distinct(sd) {
			continue
		}
		if fit == of {
			return s
		}
		if fit > most && 2*fit >= of {
			nearest, most = s, fit
		}
	}
	return nearest
}

// otherRows says that a tensor of a replaceable name differs in the number of rows alone.
func otherRows(a, b *onnxio.Tensor, to renaming, replaceable []string) bool {
	return to.of == 1 && slices.Contains(replaceable, to.name) && len(a.Dims) > 0 &&
		len(a.Dims) == len(b.Dims) &&
		slices.Equal(a.Dims[1:], b.Dims[1:])
}

// translated is the state dict under the model's names. Where a tensor has as many numbers as the model's in
// another form, such as a linear layer that was a 1x1 convolution, it takes that form.
func (s *scheme) translated(sd *StateDict, inits map[string]*onnxio.Tensor) *StateDict {
	out := &StateDict{Skipped: sd.Skipped, Notes: sd.Notes, objects: sd.objects}
	parts := map[string][]*onnxio.Tensor{}
	for _, e := range sd.entries {
		if s.unused != nil && s.unused.MatchString(e.Name) {
			continue
		}
		to, t := s.rename(e.Name), *e.Tensor
		if to.of > 1 {
			if parts[to.name] == nil {
				parts[to.name] = make([]*onnxio.Tensor, to.of)
			}
			parts[to.name][to.part] = e.Tensor
			whole := joinRows(parts[to.name])
			if whole == nil {
				continue
			}
			t = *whole
		}
		if p := inits[to.name]; p != nil && sameForm(p, &t, 1) {
			t.Dims = slices.Clone(p.Dims)
		}
		t.Name = to.name
		out.Set(to.name, &t)
	}
	return out
}

// joinRows puts tensors after each other in the first dimension; nil where one is missing or of another type.
func joinRows(parts []*onnxio.Tensor) *onnxio.Tensor {
	if parts[0] == nil {
		return nil
	}
	out := &onnxio.Tensor{Type: parts[0].Type, Dims: slices.Clone(parts[0].Dims)}
	out.Dims[0] = 0
	for _, p := range parts {
		if p == nil || p.Type != out.Type || !slices.Equal(p.Dims[1:], out.Dims[1:]) {
			return nil
		}
		out.Dims[0] += p.Dims[0]
		out.Raw = append(out.Raw, p.Raw...)
	}
	return out
}

// sameForm says that a is of as many outputs as `parts` tensors like b, and has as many numbers for each.
func sameForm(a, b *onnxio.Tensor, parts int) bool {
	n := int64(parts)
	return len(a.Dims) > 0 && len(b.Dims) > 0 && a.Dims[0] == n*b.Dims[0] && a.Size() == n*b.Size()
}

// distinct says that no two keys get one name, or one part of it.
func (s *scheme) distinct(sd *StateDict) bool {
	seen := map[renaming]bool{}
	for _, e := range sd.entries {
		to := s.rename(e.Name)
		if seen[to] {
			return false
		}
		seen[to] = true
	}
	return true
}
