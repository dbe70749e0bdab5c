package ops

import (
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

func TestAttentionGradients(t *testing.T) {
	heads := func(q, kv int64) []*onnxio.Attribute {
		return attrsOf(onnxio.IntAttr("q_num_heads", q), onnxio.IntAttr("kv_num_heads", kv))
	}
	attention := func(name string, in []*onnxio.Tensor, attrs ...*onnxio.Attribute) gradCase {
		return gradCase{name: name, op: "Attention", opset: 25, in: in, attrs: attrs}
	}
	q, k, v := random(1, 2, 2, 3, 4), random(2, 2, 2, 5, 4), random(3, 2, 2, 5, 3)
	open := onnxio.NewTensor(onnxio.Bool, 3, 5) // the second query sees nothing
	for _, i := range []int{0, 2, 3, 10, 11, 12, 13, 14} {
		onnxio.Data[bool](open)[i] = true
	}
	causal := onnxio.IntAttr("is_causal", 1)
	past := attention("past", []*onnxio.Tensor{q, k, v, nil, random(4, 2, 2, 2, 4), random(5, 2, 2, 2, 3)},
		causal)
	past.frozen = []int{4, 5}
	padded := attention("padded", []*onnxio.Tensor{q, k, v, nil, nil, nil, onnxio.Int64s([]int64{5, 2})},
		causal)
	boolean := attention("boolean mask", []*onnxio.Tensor{q, k, v, open})
	checkGrads(t, []gradCase{
		attention("4-D", []*onnxio.Tensor{q, k, v}),
		attention("scale and cap", []*onnxio.Tensor{q, k, v}, onnxio.FloatAttr("scale", 0.7),
			onnxio.FloatAttr("softcap", 1.5)),
		attention("causal", []*onnxio.Tensor{q, k, v}, causal),
		attention("window", []*onnxio.Tensor{q, k, v}, onnxio.IntAttr("left_window_size", 1),
			onnxio.IntAttr("right_window_size", 1)),
		attention("mask for all heads", []*onnxio.Tensor{q, k, v, random(6, 3, 5)}),
		attention("mask per head", []*onnxio.Tensor{q, k, v, random(6, 2, 1, 5)}),
		attention("short mask", []*onnxio.Tensor{q, k, v, random(6, 2, 1, 3, 4)}),
		attention("3-D", []*onnxio.Tensor{random(1, 2, 3, 8), random(2, 2, 5, 8), random(3, 2, 5, 6)},
			heads(2, 2)...),
		attention("shared heads", []*onnxio.Tensor{random(1, 2, 3, 16), random(2, 2, 5, 8),
			random(3, 2, 5, 6)}, heads(4, 2)...),
		past, padded, boolean,
	})
}

// TestAttentionRefusals: what does not fit is named with its shapes.
func TestAttentionRefusals(t *testing.T) {
	shape := onnxio.Shape
	for _, c := range []struct {
		attrs  []*onnxio.Attribute
		shapes [][]onnxio.Dim
		want   string
	}{
		{nil, [][]onnxio.Dim{shape(1, 2, 3, 4), shape(1, 2, "L", 4), shape(1, 2, 5, 4)}, ""},
		{nil, [][]onnxio.Dim{shape(1, 3, 8), shape(1, 5, 8), shape(1, 5, 8)},
			"need q_num_heads and kv_num_heads"},
		{attrsOf(onnxio.IntAttr("q_num_heads", 3), onnxio.IntAttr("kv_num_heads", 2)),
			[][]onnxio.Dim{shape(1, 3, 8), shape(1, 5, 8), shape(1, 5, 8)},
			"3 heads do not divide Q [1,3,8]"},
		{nil, [][]onnxio.Dim{shape(1, 3, 3, 4), shape(1, 2, 5, 4), shape(1, 2, 5, 4)},
			"3 heads of Q cannot share 2 of K"},
		{nil, [][]onnxio.Dim{shape(1, 2, 3, 4), shape(1, 2, 5, 8), shape(1, 2, 5, 4)}, "do not fit"},
		{nil, [][]onnxio.Dim{shape(1, 2, 3, 4), shape(1, 2, 5, 4), shape(1, 2, 6, 4)}, "do not fit"},
	} {
		_, err := inferShapes(t, "Attention", 23, c.attrs, 1, c.shapes...)
		expectError(t, err, c.want)
	}
}

func TestRotaryEmbeddingGradients(t *testing.T) {
	ids := onnxio.Int64s([]int64{3, 0, 1, 2, 2, 1})
	ids.Dims = []int64{2, 3}
	turn := func(x *onnxio.Tensor, half int64, attrs ...*onnxio.Attribute) gradCase {
		return gradCase{op: "RotaryEmbedding", opset: 23, frozen: []int{1, 2}, attrs: attrs,
			in: []*onnxio.Tensor{x, random(2, 2, 3, half), random(3, 2, 3, half)}}
	}
	byID := turn(random(1, 2, 2, 3, 4), 2)
	byID.in = []*onnxio.Tensor{byID.in[0], random(2, 5, 2), random(3, 5, 2), ids}
	checkGrads(t, []gradCase{
		turn(random(1, 2, 2, 3, 4), 2), byID,
		turn(random(1, 2, 2, 3, 6), 2, onnxio.IntAttr("rotary_embedding_dim", 4),
			onnxio.IntAttr("interleaved", 1)),
		turn(random(1, 2, 3, 8), 2, onnxio.IntAttr("num_heads", 2)),
	})
}

func TestReverseSequenceGradients(t *testing.T) {
	checkGrads(t, []gradCase{
		{op: "ReverseSequence", in: []*onnxio.Tensor{random(1, 4, 3, 2), onnxio.Int64s([]int64{4, 2, 0})}},
		{op: "ReverseSequence", in: []*onnxio.Tensor{random(1, 3, 4), onnxio.Int64s([]int64{4, 1, 3})},
			attrs: attrsOf(onnxio.IntAttr("batch_axis", 0), onnxio.IntAttr("time_axis", 1))},
	})
}
