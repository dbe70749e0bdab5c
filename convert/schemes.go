package convert

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cnnkit/cnnkit/onnxio"
)

// scheme is how another library names torchvision's modules. This file is the table of those that Apply finds by itself.
type scheme struct {
	name   string
	rules  []schemeRule
	blocks []int // of timm's stages, whose keys blocks.STAGE.BLOCK become _blocks.NUMBER before the rules; nil: they stay
}

type schemeRule struct {
	pattern *regexp.Regexp
	to      string
}

// rename gives torchvision's key by the first rule that fits.
func (s *scheme) rename(key string) string {
	key = s.numbered(key)
	for _, r := range s.rules {
		if at := r.pattern.FindStringSubmatchIndex(key); at != nil {
			return string(r.pattern.ExpandString(nil, r.to, key, at))
		}
	}
	return key
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

// rules compiles pairs of a pattern for the whole key and what it becomes.
func rules(pairs ...string) []schemeRule {
	var out []schemeRule
	for i := 0; i+1 < len(pairs); i += 2 {
		out = append(out, schemeRule{regexp.MustCompile(`^(?:` + pairs[i] + `)$`), pairs[i+1]})
	}
	return out
}

var schemes = slices.Concat(otherNames, timmLites())

var otherNames = []*scheme{
	{name: "torchvision's DenseNet files (norm.1)", rules: rules(
		`(.*denselayer\d+\.(?:norm|relu|conv))\.([12])\.(.*)`, `$1$2.$3`)},
	{name: "timm's VGG", rules: rules(
		`pre_logits\.fc1\.(.*)`, `classifier.0.$1`, `pre_logits\.fc2\.(.*)`, `classifier.3.$1`, `head\.fc\.(.*)`, `classifier.6.$1`)},
	{name: "timm's ViT", rules: rules(
		`cls_token`, `class_token`, `pos_embed`, `encoder.pos_embedding`, `patch_embed\.proj\.(.*)`, `conv_proj.$1`,
		`blocks\.(\d+)\.norm([12])\.(.*)`, `encoder.layers.encoder_layer_$1.ln_$2.$3`,
		`blocks\.(\d+)\.attn\.qkv\.(.*)`, `encoder.layers.encoder_layer_$1.self_attention.in_proj_$2`,
		`blocks\.(\d+)\.attn\.proj\.(.*)`, `encoder.layers.encoder_layer_$1.self_attention.out_proj.$2`,
		`blocks\.(\d+)\.mlp\.fc1\.(.*)`, `encoder.layers.encoder_layer_$1.mlp.0.$2`,
		`blocks\.(\d+)\.mlp\.fc2\.(.*)`, `encoder.layers.encoder_layer_$1.mlp.3.$2`,
		`norm\.(.*)`, `encoder.ln.$1`, `head\.(.*)`, `heads.head.$1`)},
	{name: "timm's ConvNeXt", rules: slices.Concat(rules(
		`stem\.(.*)`, `features.0.$1`, `head\.norm\.(.*)`, `classifier.0.$1`, `head\.fc\.(.*)`, `classifier.2.$1`),
		stages(4, `stages\.%d\.downsample\.(.*)`, `features.%d.$1`, 0),
		stages(4, `stages\.%d\.blocks\.(\d+)\.gamma`, `features.%d.$1.layer_scale`, 1),
		stages(4, `stages\.%d\.blocks\.(\d+)\.conv_dw\.(.*)`, `features.%d.$1.block.0.$2`, 1),
		stages(4, `stages\.%d\.blocks\.(\d+)\.norm\.(.*)`, `features.%d.$1.block.2.$2`, 1),
		stages(4, `stages\.%d\.blocks\.(\d+)\.mlp\.fc1\.(.*)`, `features.%d.$1.block.3.$2`, 1),
		stages(4, `stages\.%d\.blocks\.(\d+)\.mlp\.fc2\.(.*)`, `features.%d.$1.block.5.$2`, 1))},
	{name: "timm's Swin", rules: slices.Concat(rules(
		`patch_embed\.proj\.(.*)`, `features.0.0.$1`, `patch_embed\.norm\.(.*)`, `features.0.2.$1`, `head\.fc\.(.*)`, `head.$1`),
		stages(4, `layers\.%d\.downsample\.(.*)`, `features.%d.$1`, 0),
		stages(4, `layers\.%d\.blocks\.(\d+)\.mlp\.fc1\.(.*)`, `features.%d.$1.mlp.0.$2`, 1),
		stages(4, `layers\.%d\.blocks\.(\d+)\.mlp\.fc2\.(.*)`, `features.%d.$1.mlp.3.$2`, 1),
		stages(4, `layers\.%d\.blocks\.(.*)`, `features.%d.$1`, 1))},
	{name: "timm's EfficientNet; of timm's tf_ variants, which pad otherwise, the answers would differ", rules: slices.Concat(rules(
		`conv_stem\.(.*)`, `features.0.0.$1`, `bn1\.(.*)`, `features.0.1.$1`, `conv_head\.(.*)`, `features.8.0.$1`,
		`bn2\.(.*)`, `features.8.1.$1`, `classifier\.(.*)`, `classifier.1.$1`),
		rules(
			`blocks\.0\.(\d+)\.conv_dw\.(.*)`, `features.1.$1.block.0.0.$2`, `blocks\.0\.(\d+)\.bn1\.(.*)`, `features.1.$1.block.0.1.$2`,
			`blocks\.0\.(\d+)\.se\.conv_reduce\.(.*)`, `features.1.$1.block.1.fc1.$2`,
			`blocks\.0\.(\d+)\.se\.conv_expand\.(.*)`, `features.1.$1.block.1.fc2.$2`,
			`blocks\.0\.(\d+)\.conv_pw\.(.*)`, `features.1.$1.block.2.0.$2`, `blocks\.0\.(\d+)\.bn2\.(.*)`, `features.1.$1.block.2.1.$2`),
		mobile(`blocks\.%d\.(\d+)\.`, `features.%d.$1.block.`))},
	{name: "timm's MobileNet v2", rules: mobileNetV2Rules()},
	{name: "Hugging Face's ResNet", rules: slices.Concat(rules(
		`(?:resnet\.)?embedder\.embedder\.convolution\.(.*)`, `conv1.$1`, `(?:resnet\.)?embedder\.embedder\.normalization\.(.*)`, `bn1.$1`,
		`classifier\.1\.(.*)`, `fc.$1`), residualRules())},
	{name: "Hugging Face's ConvNeXt", rules: slices.Concat(rules(
		`(?:convnext\.)?embeddings\.patch_embeddings\.(.*)`, `features.0.0.$1`, `(?:convnext\.)?embeddings\.layernorm\.(.*)`, `features.0.1.$1`,
		`(?:convnext\.)?layernorm\.(.*)`, `classifier.0.$1`, `classifier\.(weight|bias)`, `classifier.2.$1`),
		stages(4, `(?:convnext\.)?encoder\.stages\.%d\.downsampling_layer\.(.*)`, `features.%d.$1`, 0),
		stages(4, `(?:convnext\.)?encoder\.stages\.%d\.layers\.(\d+)\.layer_scale_parameter`, `features.%d.$1.layer_scale`, 1),
		stages(4, `(?:convnext\.)?encoder\.stages\.%d\.layers\.(\d+)\.dwconv\.(.*)`, `features.%d.$1.block.0.$2`, 1),
		stages(4, `(?:convnext\.)?encoder\.stages\.%d\.layers\.(\d+)\.layernorm\.(.*)`, `features.%d.$1.block.2.$2`, 1),
		stages(4, `(?:convnext\.)?encoder\.stages\.%d\.layers\.(\d+)\.pwconv1\.(.*)`, `features.%d.$1.block.3.$2`, 1),
		stages(4, `(?:convnext\.)?encoder\.stages\.%d\.layers\.(\d+)\.pwconv2\.(.*)`, `features.%d.$1.block.5.$2`, 1))},
}

// timmLites are timm's EfficientNet-Lites, whose keys here are those of efficientnet-lite-pytorch. Lite0, Lite1 and
// Lite2, Lite3, and Lite4 differ in how many blocks their stages have.
func timmLites() []*scheme {
	to := rules(`conv_stem\.(.*)`, `_conv_stem.$1`, `bn1\.(.*)`, `_bn0.$1`, `conv_head\.(.*)`, `_conv_head.$1`, `bn2\.(.*)`, `_bn1.$1`,
		`classifier\.(.*)`, `_fc.$1`, `_blocks\.0\.bn1\.(.*)`, `_blocks.0._bn1.$1`, `_blocks\.0\.bn2\.(.*)`, `_blocks.0._bn2.$1`,
		`_blocks\.0\.conv_pw\.(.*)`, `_blocks.0._project_conv.$1`, `_blocks\.(\d+)\.conv_dw\.(.*)`, `_blocks.$1._depthwise_conv.$2`,
		`_blocks\.(\d+)\.conv_pw\.(.*)`, `_blocks.$1._expand_conv.$2`, `_blocks\.(\d+)\.bn1\.(.*)`, `_blocks.$1._bn0.$2`,
		`_blocks\.(\d+)\.bn2\.(.*)`, `_blocks.$1._bn1.$2`, `_blocks\.(\d+)\.conv_pwl\.(.*)`, `_blocks.$1._project_conv.$2`,
		`_blocks\.(\d+)\.bn3\.(.*)`, `_blocks.$1._bn2.$2`)
	var out []*scheme
	for _, n := range [][]int{{1, 2, 2, 3, 3, 4, 1}, {1, 3, 3, 4, 4, 5, 1}, {1, 3, 3, 5, 5, 6, 1}, {1, 4, 4, 6, 6, 8, 1}} {
		out = append(out, &scheme{name: "timm's EfficientNet-Lite", rules: to, blocks: n})
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
		out = append(out, rules(f+`conv_pw\.(.*)`, t+`0.0.$2`, f+`bn1\.(.*)`, t+`0.1.$2`, f+`conv_dw\.(.*)`, t+`1.0.$2`,
			f+`bn2\.(.*)`, t+`1.1.$2`, f+`se\.conv_reduce\.(.*)`, t+`2.fc1.$2`, f+`se\.conv_expand\.(.*)`, t+`2.fc2.$2`,
			f+`conv_pwl\.(.*)`, t+`3.0.$2`, f+`bn3\.(.*)`, t+`3.1.$2`)...)
	}
	return out
}

// mobileNetV2Rules number all blocks of timm's stages in one row.
func mobileNetV2Rules() []schemeRule {
	out := rules(`conv_stem\.(.*)`, `features.0.0.$1`, `bn1\.(.*)`, `features.0.1.$1`, `conv_head\.(.*)`, `features.18.0.$1`,
		`bn2\.(.*)`, `features.18.1.$1`, `classifier\.(.*)`, `classifier.1.$1`,
		`blocks\.0\.0\.conv_dw\.(.*)`, `features.1.conv.0.0.$1`, `blocks\.0\.0\.bn1\.(.*)`, `features.1.conv.0.1.$1`,
		`blocks\.0\.0\.conv_pw\.(.*)`, `features.1.conv.1.$1`, `blocks\.0\.0\.bn2\.(.*)`, `features.1.conv.2.$1`)
	at := 2
	for i, blocks := range []int{2, 3, 4, 3, 3, 1} {
		for j := range blocks {
			f, t := fmt.Sprintf(`blocks\.%d\.%d\.`, i+1, j), fmt.Sprintf(`features.%d.conv.`, at)
			out = append(out, rules(f+`conv_pw\.(.*)`, t+`0.0.$1`, f+`bn1\.(.*)`, t+`0.1.$1`, f+`conv_dw\.(.*)`, t+`1.0.$1`,
				f+`bn2\.(.*)`, t+`1.1.$1`, f+`conv_pwl\.(.*)`, t+`2.$1`, f+`bn3\.(.*)`, t+`3.$1`)...)
			at++
		}
	}
	return out
}

// residualRules are the blocks of Hugging Face's ResNet.
func residualRules() []schemeRule {
	var out []schemeRule
	for i := range 4 {
		f, t := fmt.Sprintf(`(?:resnet\.)?encoder\.stages\.%d\.layers\.(\d+)\.`, i), fmt.Sprintf(`layer%d.$1.`, i+1)
		out = append(out, rules(f+`shortcut\.convolution\.(.*)`, t+`downsample.0.$2`, f+`shortcut\.normalization\.(.*)`, t+`downsample.1.$2`)...)
		for j := range 3 {
			out = append(out, rules(fmt.Sprintf(`%slayer\.%d\.convolution\.(.*)`, f, j), fmt.Sprintf(`%sconv%d.$2`, t, j+1),
				fmt.Sprintf(`%slayer\.%d\.normalization\.(.*)`, f, j), fmt.Sprintf(`%sbn%d.$2`, t, j+1))...)
		}
	}
	return out
}

// schemeFor is the naming under which every key of the state dict fits the model, where more do than under their own names.
// num_batches_tracked does not count.
func schemeFor(sd *StateDict, inits map[string]*onnxio.Tensor) *scheme {
	count := func(rename func(string) string) (fit, of int) {
		for _, e := range sd.entries {
			if countsBatches(e.Name) {
				continue
			}
			of++
			if t := inits[rename(e.Name)]; t != nil && sameForm(t, e.Tensor) {
				fit++
			} else if fit+64 < of { // hopeless
				return fit, of
			}
		}
		return fit, of
	}
	own, of := count(func(key string) string { return key })
	if own == of {
		return nil
	}
	for _, s := range schemes {
		if fit, of := count(s.rename); fit == of && fit > own && s.distinct(sd) {
			return s
		}
	}
	return nil
}

// translated is the state dict under the model's names. Where a tensor has as many numbers as the model's in another form, such as a
// linear layer that was a 1x1 convolution, it takes that form.
func (s *scheme) translated(sd *StateDict, inits map[string]*onnxio.Tensor) *StateDict {
	out := &StateDict{Skipped: sd.Skipped, Notes: sd.Notes, objects: sd.objects}
	for _, e := range sd.entries {
		name, t := s.rename(e.Name), *e.Tensor
		if to := inits[name]; to != nil && sameForm(to, &t) {
			t.Dims = slices.Clone(to.Dims)
		}
		t.Name = name
		out.Set(name, &t)
	}
	return out
}

// sameForm says that two tensors have the same outputs, and as many numbers for each.
func sameForm(a, b *onnxio.Tensor) bool {
	return len(a.Dims) > 0 && len(b.Dims) > 0 && a.Dims[0] == b.Dims[0] && a.Size() == b.Size()
}

// distinct says that no two keys get one name.
func (s *scheme) distinct(sd *StateDict) bool {
	seen := map[string]bool{}
	for _, e := range sd.entries {
		name := s.rename(e.Name)
		if seen[name] {
			return false
		}
		seen[name] = true
	}
	return true
}
