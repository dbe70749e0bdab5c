package ops

import (
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
)

// NonMaxSuppression: of the boxes of each class, best score first, those that overlap no box already taken
// by more than a threshold. Overlap is intersection over union in float32, as ONNX Runtime computes it.
// Equal scores go by index.

func init() {
	register(&Def{Name: "NonMaxSuppression", Versions: []int64{10, 11},
		Attrs: []AttrDef{intA("center_point_box")},
		Inputs: []Param{{Name: "boxes", Type: "F"}, {Name: "scores", Type: "F"},
			{Name: "max_output_boxes_per_class", Type: "I", Optional: true},
			{Name: "iou_threshold", Type: "F", Optional: true}, {Name: "score_threshold", Type: "F",
				Optional: true}},
		Outputs: []Param{{Name: "selected_indices", Type: "I"}},
		Types:   map[string]TypeSet{"F": Set(onnxio.Float), "I": Set(onnxio.Int64)},
		Check:   func(n *Node) error { _, err := centerBoxes(n); return err },
		Infer:   inferNonMaxSuppression, Eval: evalNonMaxSuppression})
}

// centerBoxes reports whether a box is [x center, y center, width, height] instead of two corners.
func centerBoxes(n *Node) (bool, error) {
	v := n.Int("center_point_box", 0)
	if v != 0 && v != 1 {
		return false, n.Errorf("center_point_box is %d, not 0 or 1", v)
	}
	return v == 1, nil
}

func inferNonMaxSuppression(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	if _, err := centerBoxes(c.Node); err != nil {
		return err
	}
	if shaped(c, 0, 1) {
		b, s := c.In[0].Shape, c.In[1].Shape
		if len(b) != 3 || len(s) != 3 || !agree(b[2], knownDim(4)) || !agree(b[0], s[0]) ||
			!agree(b[1], s[2]) {
			return c.Node.Errorf("boxes %s with scores %s; [N,B,4] with [N,C,B] are wanted", shapeText(b),
				shapeText(s))
		}
	}
	c.Set(0, onnxio.Int64, []onnxio.Dim{unknownDim, knownDim(3)})
	return nil
}

// box is a rectangle with its area.
type box struct{ x0, y0, x1, y1, area float32 }

func boxOf(v []float32, center bool) box {
	var b box
	if center {
		w, h := v[2]/2, v[3]/2
		b = box{x0: v[0] - w, y0: v[1] - h, x1: v[0] + w, y1: v[1] + h}
	} else {
		b = box{x0: min(v[1], v[3]), y0: min(v[0], v[2]), x1: max(v[1], v[3]), y1: max(v[0], v[2])}
	}
	b.area = (b.x1 - b.x0) * (b.y1 - b.y0)
	return b
}

// overlaps reports whether the intersection of two boxes over their union is above the threshold.
func (b *box) overlaps(o *box, threshold float32) bool {
	w, h := min(b.x1, o.x1)-max(b.x0, o.x0), min(b.y1, o.y1)-max(b.y0, o.y0)
	if !(w > 0 && h > 0 && b.area > 0 && o.area > 0) {
		return false
	}
	both := w * h
	union := b.area + o.area - both
	return both > 0 && union > 0 && both/union > threshold
}

// suppression is a NonMaxSuppression node with its scalars read.
type suppression struct {
	center    bool
	most      int64 // boxes of a class
	threshold float32
	hasLeast  bool
	least     float32 // scores up to this one do not count
}

func suppressionOf(c *Eval) (s suppression, err error) {
	if s.center, err = centerBoxes(c.Node); err != nil {
		return s, err
	}
	for i := 2; i < 5; i++ {
		if c.Has(i) && (c.In[i].Size() != 1 || (c.In[i].Type == onnxio.Int64) != (i == 2)) {
			return s, c.Node.Errorf("%s must be one number, not %v %s", c.Node.Def.Inputs[i].Name,
				c.In[i].Type,
				dimsText(c.In[i].Dims))
		}
	}
	if c.Has(2) {
		s.most = onnxio.Data[int64](c.In[2])[0]
	}
	if c.Has(3) {
		s.threshold = c.In[3].Float32s()[0]
	}
	if !(s.threshold >= 0 && s.threshold <= 1) {
		return s, c.Node.Errorf("iou_threshold is %v, not from 0 to 1", s.threshold)
	}
	if s.hasLeast = c.Has(4); s.hasLeast {
		s.least = c.In[4].Float32s()[0]
	}
	return s, nil
}

func evalNonMaxSuppression(c *Eval) error {
	if err := evalReady(c); err != nil {
		return err
	}
	b, s := c.In[0].Dims, c.In[1].Dims
	if c.In[0].Type != onnxio.Float || len(b) != 3 || len(s) != 3 || b[2] != 4 || b[0] != s[0] ||
		b[1] != s[2] {
		return c.Node.Errorf("boxes %v %s with scores %s; float32 [N,B,4] with [N,C,B] are wanted",
			c.In[0].Type,
			dimsText(b), dimsText(s))
	}
	how, err := suppressionOf(c)
	if err != nil {
		return err
	}
	corners, scores := c.In[0].Float32s(), c.In[1].Float32s()
	count := int(b[1])
	boxes := make([]box, count)
	var picked []int64
	for n := range int(b[0]) {
		for i := range boxes {
			boxes[i] = boxOf(corners[(n*count+i)*4:][:4], how.center)
		}
		for class := range int(s[1]) {
			for _, i := range how.pick(boxes, scores[(n*int(s[1])+class)*count:][:count]) {
				picked = append(picked, int64(n), int64(class), int64(i))
			}
		}
	}
	y, err := c.Alloc(0, onnxio.Int64, int64(len(picked)/3), 3)
	if err == nil {
		copy(onnxio.Data[int64](y), picked)
	}
	return err
}

// candidate is a box by its score.
type candidate struct {
	score float32
	index int
}

// compare puts better scores first, NaN last, and equals in order of their index.
func (c candidate) compare(o candidate) int {
	switch {
	case c.score > o.score, o.score != o.score && c.score == c.score:
		return -1
	case c.score < o.score, c.score != c.score && o.score == o.score:
		return 1
	}
	return c.index - o.index
}

// pick gives the boxes of one class that stay, best first. A score that is NaN is below all others.
func (s *suppression) pick(boxes []box, scores []float32) (kept []int) {
	if s.most <= 0 {
		return nil
	}
	var candidates []candidate
	for i, v := range scores {
		if !s.hasLeast || v > s.least {
			candidates = append(candidates, candidate{v, i})
		}
	}
	slices.SortFunc(candidates, candidate.compare)
	for _, c := range candidates {
		if int64(len(kept)) >= s.most {
			break
		}
		b := &boxes[c.index]
		if !slices.ContainsFunc(kept, func(k int) bool { return boxes[k].overlaps(b, s.threshold) }) {
			kept = append(kept, c.index)
		}
	}
	return kept
}
