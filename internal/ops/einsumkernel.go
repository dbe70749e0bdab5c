package ops

import (
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
)

// factor is an operand of a product: elements, and the distance between neighbors along each
// label that it varies with.
type factor[T numeric] struct {
	data    []T
	strides map[int]int64
}

// factorOf views a tensor of shape dims by the labels of its dimensions. A label that it has twice walks its
// diagonal; along one whose dimension is 1 it is constant.
func factorOf[T numeric](data []T, dims []int64, labels []int) factor[T] {
	f := factor[T]{data, map[int]int64{}}
	for i, s := range strides(dims) {
		if dims[i] != 1 {
			f.strides[labels[i]] += s
		}
	}
	return f
}

// along is the strides of a factor along labels.
func (f *factor[T]) along(labels []int) []int64 {
	out := make([]int64, len(labels))
	for i, label := range labels {
		out[i] = f.strides[label]
	}
	return out
}

// multiply adds the product of the factors up into to, whose labels are out.
func multiply[T numeric](s *summing, to factor[T], out []int, factors []factor[T]) {
	order := slices.Clone(out)
	for _, f := range factors {
		for _, label := range sortedLabels(f.strides) {
			if !slices.Contains(order, label) {
				order = append(order, label)
			}
		}
	}
	views := [][]int64{to.along(order)}
	for _, f := range factors {
		views = append(views, f.along(order))
	}
	last := len(order) - 1
	step := make([]int64, len(views))
	for i, v := range views {
		if last >= 0 {
			step[i] = v[last]
		}
	}
	if len(factors) == 2 {
		a, b, c := factors[0].data, factors[1].data, to.data
		walk(s.shape(order), views, func(n int64, at []int64) {
			if step[0] == 0 {
				c[at[0]] += dotApart(a[at[1]:], b[at[2]:], n, step[1], step[2])
				return
			}
			for k := range n {
				c[at[0]+k*step[0]] += a[at[1]+k*step[1]] * b[at[2]+k*step[2]]
			}
		})
		return
	}
	walk(s.shape(order), views, func(n int64, at []int64) {
		for k := range n {
			p := T(1)
			for i := range factors {
				p *= factors[i].data[at[i+1]+k*step[i+1]]
			}
			to.data[at[0]+k*step[0]] += p
		}
	})
}

// dotApart is the sum of n products of elements that lie steps apart.
func dotApart[T numeric](a, b []T, n, stepA, stepB int64) (sum T) {
	if stepA == 1 && stepB == 1 {
		b = b[:n]
		for i, v := range a[:n] {
			sum += v * b[i]
		}
		return sum
	}
	for k := range n {
		sum += a[k*stepA] * b[k*stepB]
	}
	return sum
}

func sortedLabels(m map[int]int64) []int {
	out := make([]int, 0, len(m))
	for label := range m {
		out = append(out, label)
	}
	slices.Sort(out)
	return out
}

// fresh is a factor of zeros with its own elements, of the given labels.
func fresh[T numeric](s *summing, labels []int) factor[T] {
	dims := s.shape(labels)
	return factorOf(make([]T, sizeOf(dims)), dims, labels)
}

// without sums a factor over the labels that nothing else has: not out, and no other factor.
func without[T numeric](s *summing, factors []factor[T], i int, out []int) factor[T] {
	kept, all := []int{}, sortedLabels(factors[i].strides)
	for _, label := range all {
		if slices.Contains(out, label) || held(factors[:i], label) || held(factors[i+1:], label) {
			kept = append(kept, label)
		}
	}
	if len(kept) == len(all) {
		return factors[i]
	}
	sum := fresh[T](s, kept)
	multiply(s, sum, kept, factors[i:i+1])
	return sum
}

// held reports whether a factor varies with a label.
func held[T numeric](factors []factor[T], label int) bool {
	return slices.ContainsFunc(factors, func(f factor[T]) bool {
		_, has := f.strides[label]
		return has
	})
}

// contract adds the product of the factors up into to. Labels of one factor alone are summed first, and more
// than two factors multiplied two by two as long as what lies between is not larger than what is there.
func contract[T numeric](s *summing, to factor[T], out []int, factors []factor[T]) {
	factors = slices.Clone(factors)
	for i := range factors {
		factors[i] = without(s, factors, i, out)
	}
	for len(factors) > 2 {
		both := []int{}
		for _, f := range factors[:2] {
			for _, label := range sortedLabels(f.strides) {
				if !slices.Contains(both, label) && (slices.Contains(out, label) ||
					held(factors[2:], label)) {
					both = append(both, label)
				}
			}
		}
		if s.count(both) > max(1<<20, len(to.data), len(factors[0].data), len(factors[1].data)) {
			break
		}
		product := fresh[T](s, both)
		multiply(s, product, both, factors[:2])
		factors = append([]factor[T]{product}, factors[2:]...)
	}
	multiply(s, to, out, factors)
}

// count is the number of elements of a tensor of some labels, or more than any tensor has.
func (s *summing) count(labels []int) int {
	n, err := onnxio.CheckedBytes(onnxio.Uint8, s.shape(labels))
	if err != nil {
		return MaxBytes
	}
	return int(n)
}

// evalEinsum64 computes floats in float64.
func evalEinsum64(c *Eval) error {
	wide := make([]*onnxio.Tensor, len(c.In))
	for i, t := range c.In {
		var err error
		if t == nil || t.Type != c.In[0].Type {
			return c.Node.Errorf("operand %d is missing or of another type", i)
		}
		if wide[i], err = asFloat64(c, t); err != nil {
			return err
		}
	}
	inner := &Eval{Node: c.Node, In: wide}
	if err := evalEinsum[float64](inner); err != nil {
		return err
	}
	y, err := c.Alloc(0, c.In[0].Type, inner.Out[0].Dims...)
	if err != nil {
		return err
	}
	return cast(c.Node, y, inner.Out[0], false)
}

func evalEinsum[T numeric](c *Eval) error {
	s, err := summingOf(c.Node, c.In)
	if err != nil {
		return err
	}
	y, err := c.Alloc(0, c.In[0].Type, s.shape(s.out)...)
	if err != nil {
		return err
	}
	to := factorOf(onnxio.Data[T](y), y.Dims, s.out)
	clear(to.data)
	factors := make([]factor[T], len(c.In))
	for i, t := range c.In {
		factors[i] = factorOf(onnxio.Data[T](t), t.Dims, s.labels[i])
	}
	contract(s, to, s.out, factors)
	return nil
}

// evalEinsumGrad is the product of dy and the other operands, summed over what the operand lacks, and
// repeated along what only the operand has.
func evalEinsumGrad[T floating](c *Eval) error {
	in, k := c.In[1:], c.Node.Int("operand", 0)
	s, err := summingOf(c.Node, in)
	if err != nil {
		return err
	}
	if k < 0 || k >= int64(len(in)) || c.In[0].Type != in[0].Type || !equal(c.In[0].Dims, s.shape(s.out)) {
		return c.Node.Errorf("dy %s for operand %d of %d", dimsText(c.In[0].Dims), k, len(in))
	}
	x := in[k]
	dx, err := c.Alloc(0, x.Type, x.Dims...)
	if err != nil {
		return err
	}
	factors := []factor[float64]{}
	for i, t := range c.In {
		if int64(i) == k+1 {
			continue
		}
		wide, err := asFloat64(c, t)
		if err != nil {
			return err
		}
		labels := s.out
		if i > 0 {
			labels = s.labels[i-1]
		}
		factors = append(factors, factorOf(onnxio.Data[float64](wide), t.Dims, labels))
	}
	to := factorOf(onnxio.Data[T](dx), x.Dims, s.labels[k])
	clear(to.data)
	own := sortedLabels(to.strides)
	shared := slices.DeleteFunc(slices.Clone(own), func(label int) bool { return !held(factors, label) })
	product := fresh[float64](s, shared)
	contract(s, product, shared, factors)
	from := product.along(own)
	onto := to.along(own)
	walk(s.shape(own), [][]int64{onto, from}, func(n int64, at []int64) {
		var a, b int64
		if last := len(own) - 1; last >= 0 {
			a, b = onto[last], from[last]
		}
		for i := range n {
			to.data[at[0]+i*a] = T(product.data[at[1]+i*b])
		}
	})
	return nil
}
