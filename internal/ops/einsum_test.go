package ops

import (
	"slices"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

func equationAttr(text string) *onnxio.Attribute { return onnxio.StringAttr("equation", text) }

func TestEinsumGradients(t *testing.T) {
	var cases []gradCase
	add := func(text string, shapes ...[]int64) {
		c := gradCase{op: "Einsum", name: text, attrs: attrsOf(equationAttr(text))}
		for i, s := range shapes {
			c.in = append(c.in, random(uint64(i+1), s...))
		}
		cases = append(cases, c)
	}
	add("ij,jk->ik", []int64{2, 3}, []int64{3, 4})
	add("ij,ij,jk->ik", []int64{2, 3}, []int64{2, 3}, []int64{3, 2})
	add("ii->", []int64{3, 3})
	add("iij->ij", []int64{2, 2, 3})
	add("iij,i->j", []int64{2, 2, 3}, []int64{2})
	add("ij->i", []int64{2, 3})
	add("ij,kl->", []int64{2, 3}, []int64{2, 2}) // every label is of one operand
	add("...i,...i->...", []int64{2, 1, 3}, []int64{4, 3})
	add("b...c,dc->b...d", []int64{2, 2, 2, 3}, []int64{2, 3})
	add("ij,jk->ik", []int64{2, 1}, []int64{3, 2}) // a dimension of 1 broadcasts
	add("->")
	cases[len(cases)-1].in = []*onnxio.Tensor{onnxio.Scalar(onnxio.Double, 1.5)}
	checkGrads(t, cases)
}

// TestEinsumSizes: what a product of labels alone would take for ever, and what would need terabytes.
func TestEinsumSizes(t *testing.T) {
	const n = 1 << 13
	long := onnxio.NewTensor(onnxio.Float, n)
	for i := range long.Float32s() {
		long.Float32s()[i] = 1
	}
	y := evalOf(t, "Einsum", 12, []*onnxio.Tensor{long, long, long}, equationAttr("a,b,c->"))
	if got := y.Float32s()[0]; got != n*n*n {
		t.Errorf("a,b,c-> gives %v", got)
	}
	b, err := Bind(&onnxio.Node{OpType: "Einsum", Attrs: attrsOf(equationAttr("a,b,c->abc"))}, 12)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Def.Eval(&Eval{Node: b, In: []*onnxio.Tensor{long, long, long}}); err == nil {
		t.Error("an output of 2 TiB is made")
	}
}

func TestEinsumIntegers(t *testing.T) {
	x := onnxio.Int64s([]int64{1<<53 + 1, 2, 3, 4}, 2, 2)
	y := evalOf(t, "Einsum", 12, []*onnxio.Tensor{x}, equationAttr("i j -> j i"))
	if got := onnxio.Data[int64](y); !slices.Equal(got, []int64{1<<53 + 1, 3, 2, 4}) {
		t.Errorf("a transposition gives %v", got)
	}
	empty := onnxio.NewTensor(onnxio.Float, 2, 0)
	y = evalOf(t, "Einsum", 12, []*onnxio.Tensor{empty, onnxio.NewTensor(onnxio.Float, 0, 3)},
		equationAttr("ij,jk"))
	if !equal(y.Dims, []int64{2, 3}) || slices.Max(y.Float32s()) != 0 {
		t.Errorf("a sum of nothing gives %v %v", y.Dims, y.Float32s())
	}
}

func TestEinsumInference(t *testing.T) {
	for _, tt := range []struct {
		text string
		in   [][]onnxio.Dim
		want string
	}{
		{"bhid,bhjd->bhij", [][]onnxio.Dim{onnxio.Shape("N", 2, "L", 8), onnxio.Shape("N", 2, "M", 8)},
			"[N,2,L,M]"},
		{"...ij,...jk", [][]onnxio.Dim{onnxio.Shape("N", 1, 2, 3), onnxio.Shape(4, 3, 5)}, "[N,4,2,5]"},
		{"Ba,ac", [][]onnxio.Dim{onnxio.Shape(2, 3), onnxio.Shape(3, 4)}, "[2,4]"},
		{"ii", [][]onnxio.Dim{onnxio.Shape("N", "N")}, "[]"},
	} {
		out, err := inferShapes(t, "Einsum", 12, attrsOf(equationAttr(tt.text)), 1, tt.in...)
		if err != nil || !out[0].HasShape || shapeText(out[0].Shape) != tt.want {
			t.Errorf("%s gives %s, %v, not %s", tt.text, shapeText(out[0].Shape), err, tt.want)
		}
	}
	two := [][]onnxio.Dim{onnxio.Shape(2, 3), onnxio.Shape(3, 4)}
	for _, text := range []string{"ij", "ij,jk,k", "ij,jk->iz", "ij,jk->ii", "ij,j->i", "i.j,jk",
		"ij,jk->i->k", "1j,jk", "...ij,jk->ik", "ij,kj->ik", "ijk,jk"} {
		if _, err := inferShapes(t, "Einsum", 12, attrsOf(equationAttr(text)), 1, two...); err == nil {
			t.Errorf("%s is no error", text)
		}
	}
}
