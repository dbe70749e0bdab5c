package builders

import (
	"math"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Operators on boxes. How many there are often follows from data, so that values are names here, and shapes
// are comments. A box is x1, y1, x2, y2.

// found are boxes [n,4], their scores [n] and labels [n].
type found struct{ boxes, scores, labels string }

// halves splits the last axis, of 4, in two.
func (b *Builder) halves(name, x string) (first, second string) {
	first = b.numbers("Split", name, []string{x, b.ints(name, "sizes", 2, 2)}, onnxio.IntAttr("axis", -1))
	return first, b.second(name)
}

// second is a further output of the last node.
func (b *Builder) second(name string) string {
	if b.root.err != nil {
		return ""
	}
	n := b.root.graph.Nodes[len(b.root.graph.Nodes)-1]
	n.Outputs = append(n.Outputs, b.unique(b.path(name)))
	return n.Outputs[1]
}

// with applies an operator to x and constants.
func (b *Builder) with(op, name, x string, v ...float32) string {
	return b.numbers(op, name, []string{x, b.floats(name, "constant", v...)})
}

// join joins values along an axis.
func (b *Builder) join(name string, axis int64, values ...string) string {
	return b.numbers("Concat", name, values, onnxio.IntAttr("axis", axis))
}

// take picks places of an axis.
func (b *Builder) take(name, x, places string, axis int64) string {
	return b.numbers("Gather", name, []string{x, places}, onnxio.IntAttr("axis", axis))
}

// best are the k largest numbers of the last axis, largest first, and their places.
func (b *Builder) best(name, x, k string) (values, places string) {
	values = b.numbers("TopK", name, []string{x, k}, onnxio.IntAttr("axis", -1))
	return values, b.second(name)
}

// longest keeps a box's sides finite: deltas of more than this count as this.
var longest = float32(math.Log(1000. / 16))

// decoded are boxes [...,4] from deltas of anchors, as torchvision's BoxCoder has them: shifts of the center
// in sides of the anchor, times scale[0], and logarithms of factors of the sides, times scale[1].
func (b *Builder) decoded(name, deltas, anchors string, scale [2]float32) string {
	s := b.Scope(name)
	from, to := s.halves("anchors", anchors)
	sides := s.numbers("Sub", "sides", []string{to, from})
	center := s.numbers("Add", "center", []string{from, s.with("Mul", "half_sides", sides, 0.5)})
	shift, factor := s.halves("deltas", deltas)
	if scale != [2]float32{1, 1} {
		shift, factor = s.with("Div", "shift", shift, scale[0]), s.with("Div", "factor", factor, scale[1])
	}
	center = s.numbers("Add", "moved", []string{s.numbers("Mul", "distance", []string{shift, sides}), center})
	factor = s.numbers("Exp", "factors", []string{s.with("Min", "limited", factor, longest)})
	half := s.with("Mul", "half", s.numbers("Mul", "new_sides", []string{factor, sides}), 0.5)
	return s.join("boxes", -1, s.numbers("Sub", "low", []string{center, half}),
		s.numbers("Add", "high", []string{center, half}))
}

// reaching are boxes [...,4] from distances of the anchor's center in its sides, as
// torchvision's BoxLinearCoder has them.
func (b *Builder) reaching(name, distances, anchors string) string {
	s := b.Scope(name)
	from, to := s.halves("anchors", anchors)
	sides := s.numbers("Sub", "sides", []string{to, from})
	center := s.with("Mul", "center", s.numbers("Add", "sum", []string{from, to}), 0.5)
	low, high := s.halves("distances", distances)
	low = s.numbers("Sub", "low", []string{center, s.numbers("Mul", "before", []string{low, sides})})
	high = s.numbers("Add", "high", []string{center, s.numbers("Mul", "behind", []string{high, sides})})
	return s.join("boxes", -1, low, high)
}

// inside cuts boxes off at the image's edges.
func (b *Builder) inside(name, boxes string, size [2]int64) string {
	h, w := float32(size[0]), float32(size[1])
	return b.with("Min", name, b.with("Max", name+".positive", boxes, 0), w, h, w, h)
}

// rejected marks scores that never count.
const rejected = -1

// ofSize are the scores of boxes whose sides are both at least that long, rejected of the others.
func (b *Builder) ofSize(name, boxes, scores string, least float32) string {
	s := b.Scope(name)
	from, to := s.halves("corners", boxes)
	sides := s.numbers("Sub", "sides", []string{to, from})
	width := s.numbers("Split", "width", []string{sides, s.ints("width", "sizes", 1, 1)},
		onnxio.IntAttr("axis", -1))
	shorter := s.numbers("Min", "shorter", []string{width, s.second("height")})
	shorter = s.numbers("Squeeze", "side", []string{shorter, s.ints("side", "axes", -1)})
	return s.numbers("Where", "scores", []string{s.with("GreaterOrEqual", "large", shorter, least), scores,
		s.floats("scores", "no", rejected)})
}

// suppression says which boxes stay: the best of those that overlap by more than
// overlap, with scores above least.
type suppression struct {
	overlap, least float32
	most           int // in all
}

// suppress gives [k,3]: batch, class and place of those of boxes [B,M,4] that stay by scores [B,C,M].
func (b *Builder) suppress(name, boxes, scores string, s suppression) string {
	return b.numbers("NonMaxSuppression", name, []string{boxes, scores, b.ints(name, "most", math.MaxInt32),
		b.floats(name, "overlap", s.overlap), b.floats(name, "least", s.least)})
}

// bestOfClasses suppresses boxes [C,M,4] class by class by scores [C,M]. The classes
// are labeled from first on.
func (b *Builder) bestOfClasses(name string, boxes, scores string, first int64, s suppression) found {
	n := b.Scope(name)
	stay := n.suppress("stay", boxes, n.numbers("Unsqueeze", "scores",
		[]string{scores, n.ints("scores", "axes", 1)}), s)
	places := n.take("places", stay, n.ints("places", "columns", 0, 2), 1)
	labels := n.take("class", stay, n.ints("class", "column", 0), 1)
	labels = n.numbers("Squeeze", "classes", []string{labels, n.ints("classes", "axes", 1)})
	labels = n.numbers("Add", "labels", []string{labels, n.ints("labels", "first", first)})
	at := func(what, of string) string { return n.numbers("GatherND", what, []string{of, places}) }
	return n.ranked("best", found{at("boxes_left", boxes), at("scores_left", scores), labels}, s.most)
}

// bestOfAll suppresses boxes [M,4] label by label, of which there are so many from 0 on.
func (b *Builder) bestOfAll(name string, f found, labels int, s suppression) found {
	n := b.Scope(name)
	each := make([]int64, labels)
	for i := range each {
		each[i] = int64(i)
	}
	column := n.numbers("Unsqueeze", "column", []string{n.ints("column", "labels", each...),
		n.ints("column", "axes", 1)})
	own := n.numbers("Equal", "own", []string{f.labels, column})
	scores := n.numbers("Where", "scores", []string{own, f.scores, n.floats("scores", "no", rejected)})
	batch := n.ints("batch", "axes", 0)
	boxes := n.numbers("Unsqueeze", "boxes", []string{f.boxes, batch})
	stay := n.suppress("stay", boxes, n.numbers("Unsqueeze", "batch", []string{scores, batch}), s)
	places := n.numbers("Squeeze", "places", []string{n.take("place", stay, n.ints("place", "column", 2), 1),
		n.ints("places", "axes", 1)})
	at := func(what, of string) string { return n.take(what, of, places, 0) }
	return n.ranked("best", found{at("boxes_left", f.boxes), at("scores_left", f.scores),
		at("labels_left", f.labels)}, s.most)
}

// ranked are at most so many, best first.
func (b *Builder) ranked(name string, f found, most int) found {
	n := b.Scope(name)
	count := n.numbers("Min", "count", []string{n.numbers("Shape", "number", []string{f.scores}),
		n.ints("count", "most", int64(most))})
	scores, places := n.best("scores", f.scores, count)
	f.scores = scores
	f.boxes = n.take("boxes", f.boxes, places, 0)
	if f.labels != "" {
		f.labels = n.take("labels", f.labels, places, 0)
	}
	return f
}
