package train

import (
	"fmt"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/spec"
)

// Berman, Triki and Blaschko, arXiv:1705.08790: the errors of a class, from the largest, times what each adds
// to its Jaccard loss where those before it are missed.

// whole appends a constant of whole numbers.
func (l *LossGraph) whole(name string, v ...int64) string {
	t := onnxio.NewTensor(onnxio.Int64, int64(len(v)))
	copy(onnxio.Data[int64](t), v)
	return l.Constant(name, t)
}

// extension is the sum over the columns of errors [C,P] of the loss of each row [C]; truth
// [C,P] is 1 where the class is.
func (l *LossGraph) extension(errors, truth string) string {
	one, axis := l.number("lovasz/one", 1), l.whole("lovasz/axis", 1)
	count := l.Node("Gather", "columns", []string{l.Node("Shape", "shape", []string{errors}), axis})
	l.graph.Nodes = append(l.graph.Nodes, &onnxio.Node{Name: l.prefix + "sorted", OpType: "TopK",
		Inputs:  []string{errors, count},
		Outputs: []string{l.prefix + "sorted", l.prefix + "order"},
		Attrs:   []*onnxio.Attribute{onnxio.IntAttr("axis", 1)}})
	sorted := l.Node("GatherElements", "truth_sorted", []string{truth, l.prefix + "order"},
		onnxio.IntAttr("axis", 1))
	at := l.Constant("lovasz/cumulative", onnxio.Scalar(onnxio.Int64, int64(1)))
	hits := l.Node("CumSum", "hits", []string{sorted, at})
	misses := l.Node("CumSum", "misses", []string{l.two("Sub", "other", one, sorted), at})
	all := l.Node("ReduceSum", "all_of_class", []string{truth, axis}, onnxio.IntAttr("keepdims", 1))
	union := l.two("Add", "union", all, misses)
	jaccard := l.two("Sub", "jaccard", one, l.two("Div", "iou", l.two("Sub", "intersection", all, hits),
		l.two("Max", "union_or_one", union, one)))
	// what a column adds: jaccard less that of the column before it, 0 before the first
	zero := l.whole("lovasz/zero", 0)
	end := l.whole("lovasz/end", -1)
	first := l.Node("Slice", "first", []string{jaccard, zero, l.whole("lovasz/first", 1), axis})
	before := l.Node("Slice", "before", []string{jaccard, zero, end, axis})
	none := l.two("Sub", "none", first, first)
	shifted := l.Node("Concat", "shifted", []string{none, before}, onnxio.IntAttr("axis", 1))
	weighted := l.two("Mul", "weighted_errors", l.prefix+"sorted", l.two("Sub", "adds", jaccard, shifted))
	return l.Node("ReduceSum", "by_class", []string{weighted, axis}, onnxio.IntAttr("keepdims", 0))
}

// emitLovaszHinge: the errors are 1 - y where the mask is and 1 + y where it is not,
// those below 0 counting as 0.
func emitLovaszHinge(l *LossGraph) (string, error) {
	flat := l.whole("lovasz/flat", 1, -1)
	y := l.Node("Reshape", "y", []string{l.Y, flat})
	t := l.Node("Reshape", "t", []string{l.Target, flat})
	one := l.number("hinge/one", 1)
	sign := l.two("Sub", "sign", l.two("Add", "twice", t, t), one)
	errors := l.two("Sub", "errors", one, l.two("Mul", "signed", y, sign))
	return l.over("ReduceSum", "lovasz", l.extension(l.Node("Relu", "positive_errors", []string{errors}),
		t)), nil
}

// emitLovasz: the errors of a class are 1 - p where it is and p where it is not, and 0
// where the target is void.
func emitLovasz(l *LossGraph) (string, error) {
	n, err := classes(l.y)
	if err != nil {
		return "", err
	}
	if n < 2 {
		return "", fmt.Errorf("the model has %d classes: two are wanted, or lovasz-hinge", n)
	}
	p := l.Node("Softmax", "probabilities", []string{l.Y}, onnxio.IntAttr("axis", 1))
	if l.Scale == spec.LogProbabilities {
		p = l.Node("Exp", "probabilities_of_logs", []string{l.Y})
	}
	perm := []int64{1, 0}
	for i := 2; i < len(l.Shape); i++ {
		perm = append(perm, int64(i))
	}
	rows := l.whole("lovasz/rows", int64(n), -1)
	p = l.Node("Reshape", "p", []string{l.Node("Transpose", "classes_first", []string{p},
		onnxio.IntsAttr("perm", perm...)), rows})
	labels := l.Node("Reshape", "labels", []string{l.Target, l.whole("lovasz/row", 1, -1)}) // [1,P]
	numbers := make([]int64, n)
	for i := range numbers {
		numbers[i] = int64(i)
	}
	column := onnxio.NewTensor(onnxio.Int64, int64(n), 1)
	copy(onnxio.Data[int64](column), numbers)
	is := l.Node("Equal", "is", []string{labels, l.Constant("lovasz/classes", column)}) // [C,P]
	truth := l.Node("Cast", "truth", []string{is}, onnxio.IntAttr("to", int64(onnxio.Float)))
	// 0 where void
	counts := l.Node("ReduceSum", "counts", []string{truth, l.whole("lovasz/over_classes", 0)},
		onnxio.IntAttr("keepdims", 1))
	errors := l.two("Mul", "errors",
		l.Node("Abs", "distance", []string{l.two("Sub", "difference", truth, p)}), counts)
	pixels := l.Node("ReduceSum", "pixels", []string{truth, l.whole("lovasz/over_pixels", 1)},
		onnxio.IntAttr("keepdims", 0))
	present := l.two("Min", "present", pixels, l.number("lovasz/once", 1))
	sum := l.over("ReduceSum", "lovasz", l.two("Mul", "of_present", l.extension(errors, truth), present))
	return l.two("Div", "mean_of_present", sum,
		l.two("Max", "some", l.over("ReduceSum", "number_present", present),
			l.number("lovasz/one_class", 1))), nil
}
