package engine

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"slices"

	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/onnxio"
)

// Exchange connects the Trainers of a data-parallel run: each has a part of every joint batch, and
// all make the same update.
//
// A gradient of the joint batch is the sum of the parts' gradients, each weighted by its share of the images.
// The backward pass posts gradients in buckets as they are complete, in an order that depends on the model
// alone, and goes on; the update waits for all of them.
type Exchange interface {
	// Part says that the step has so many images of the joint batch's total, from number first on. Where
	// images is 0 the step runs on a batch of one image that does not count.
	Part() (first, images, total int)
	// Post hands over weighted gradients, which are to be added up over all
	// processes, in place and meanwhile.
	Post(x []float32)
	// Wait returns when all that was posted has been added up.
	Wait() error
	// Sum adds up x over all processes, in place, before it returns. Gradients may be on their way.
	Sum(x []float32) error
	// Same reports whether all processes have the same hash.
	Same(hash uint64) (bool, error)
}

// shareOf is this process's weight in sums over the joint batch.
func shareOf(e Exchange) float32 {
	_, images, total := e.Part()
	return float32(images) / float32(total)
}

// exchangeNode stands for the exchange of gradients in a plan's description.
var exchangeNode = &ops.Node{Node: &onnxio.Node{OpType: "Exchange", Domain: layoutDomain, Name: "exchange"}}

// bucketFloats is the number of floats from which on a bucket is complete: 4 MiB take 3 ms at 10 Gbit/s,
// where a message has a latency of some 50 us.
const bucketFloats = 1 << 20

// bucket is a set of gradients that are added up together, each in the form of Trainer.forms.
type bucket struct {
	names []string
	forms []*packing
	at    []int // where each begins
	data  []float32
	after int // the op after which all are there
}

// backwardOrder sorts parameters by the moment at which the backward pass has their gradients, as it was
// written: no pass that depends on shapes has run yet, so that all processes have the same order.
func backwardOrder(g *graph, params []*value, grads map[*value]*value) []string {
	index := map[*op]int{}
	for i, o := range g.ops {
		index[o] = i + 1
	}
	params = slices.Clone(params)
	slices.SortStableFunc(params, func(a, b *value) int {
		return cmp.Compare(index[grads[a].producer], index[grads[b].producer])
	})
	names := make([]string, len(params))
	for i, v := range params {
		names[i] = v.name
	}
	return names
}

// agreeOnForms chooses the forms in which gradients are exchanged, for good: those in which the first plan
// has them, where all processes' first plans have the same; else plain numbers.
func (t *Trainer) agreeOnForms(names []string, grads map[*value]*value, g *graph) error {
	forms, h := map[string]*packing{}, fnv.New64a()
	for _, name := range names {
		forms[name] = grads[g.values[name]].pack
		fmt.Fprintf(h, "%q %q\n", name, forms[name].name())
	}
	same, err := t.opt.Exchange.Same(h.Sum64())
	if !same {
		clear(forms)
	}
	t.forms = forms
	return err
}

// name is a packing's key, "" of plain numbers.
func (p *packing) name() string {
	if p == nil {
		return ""
	}
	return p.key
}

// toForm writes the numbers of v in a form.
func (v *value) toForm(form *packing, to []float32) {
	from := v.buf.data
	if form.name() == v.pack.name() {
		copy(to, from)
		return
	}
	if v.pack != nil {
		from = make([]float32, v.size())
		v.pack.conv.Unpack(from, v.buf.data)
	}
	if form != nil {
		form.conv.Pack(to, from)
	} else {
		copy(to, from)
	}
}

// fromForm is the reverse of toForm.
func (v *value) fromForm(form *packing, from []float32) {
	if form.name() == v.pack.name() {
		copy(v.buf.data, from)
		return
	}
	if form != nil {
		plain := make([]float32, v.size())
		form.conv.Unpack(plain, from)
		from = plain
	}
	if v.pack != nil {
		v.pack.conv.Pack(v.buf.data, from)
	} else {
		copy(v.buf.data, from)
	}
}

// planBuckets parts the gradients among buckets. A bucket is posted after those before it. Plans
// share the buckets' memory.
func (t *Trainer) planBuckets(g *graph, names []string, grads map[string]*value) []*bucket {
	written := map[*value]int{}
	for i, o := range g.ops {
		for _, v := range o.out {
			written[v] = i
		}
	}
	var all []*bucket
	size := 0
	for _, name := range names {
		if len(all) == 0 || size >= bucketFloats {
			next := &bucket{at: []int{0}}
			if len(all) > 0 {
				next.after = all[len(all)-1].after
			}
			all, size = append(all, next), 0
		}
		b, form := all[len(all)-1], t.forms[name]
		if form != nil {
			size += form.conv.WeightSize()
		} else {
			size += int(grads[name].size())
		}
		b.names, b.forms, b.at = append(b.names, name), append(b.forms, form), append(b.at, size)
		b.after = max(b.after, written[grads[name]])
	}
	for i, b := range all {
		if i == len(t.sums) {
			t.sums = append(t.sums, nil)
		}
		if n := b.at[len(b.names)]; len(t.sums[i]) != n {
			t.sums[i] = make([]float32, n)
		}
		b.data = t.sums[i]
	}
	return all
}

// lowerPost appends the steps that gather a bucket's gradients and hand them over.
func (t *Trainer) lowerPost(l *lowering, b *bucket, grads map[string]*value) {
	var from []*value
	var bufs []*buffer
	for _, name := range b.names {
		from, bufs = append(from, grads[name]), append(bufs, l.of(grads[name]))
	}
	e := t.opt.Exchange
	s := l.add("gather gradients", len(from), bufs, func() func(int, int) {
		return func(i, _ int) {
			to, weight := b.data[b.at[i]:b.at[i+1]], shareOf(e)
			if weight == 0 { // times which not every number is 0
				clear(to)
				return
			}
			from[i].toForm(b.forms[i], to)
			for j := range to {
				to[j] *= weight
			}
		}
	})
	s.op = &op{node: exchangeNode, origin: "exchange"}
	s = l.add("post gradients", 1, nil, func() func(int, int) { return func(int, int) { e.Post(b.data) } })
	s.op = &op{node: exchangeNode, origin: "exchange"}
}

// lowerSums appends the steps that wait for the sums and put them where the update finds gradients.
func (t *Trainer) lowerSums(l *lowering, buckets []*bucket, grads map[string]*value) {
	e, fail := t.opt.Exchange, l.err
	s := l.add("wait for gradients", 1, nil, func() func(int, int) {
		return func(int, int) {
			if err := e.Wait(); err != nil && *fail == nil {
				*fail = err
			}
		}
	})
	s.op = &op{node: exchangeNode, origin: "exchange"}
	for _, b := range buckets {
		var to []*value
		var bufs []*buffer
		for _, name := range b.names {
			v := grads[name]
			if v.kind != computed { // what holds its numbers is not the gradient's alone
				own := *v
				v, own.kind, own.buf = &own, computed, l.buffer(int(v.size()))
				grads[name] = v
			}
			to, bufs = append(to, v), append(bufs, l.of(v))
		}
		s := l.add("take sums", len(to), bufs, func() func(int, int) {
			return func(i, _ int) { to[i].fromForm(b.forms[i], b.data[b.at[i]:b.at[i+1]]) }
		})
		s.op = &op{node: exchangeNode, origin: "exchange"}
	}
}

// lowerDrawn lowers the number-th op that draws random numbers to its reference kernel. What it
// draws depends on the seed, the update and the op, not on the plan, whose steps differ from one
// batch size to another; and, since the kernel is told where in the joint batch the step's images
// stand, not on the number of processes.
func (t *Trainer) lowerDrawn(l *lowering, o *op, number uint64) {
	l.at = o
	var place func(*ops.Eval)
	if e := t.opt.Exchange; e != nil {
		place = func(ev *ops.Eval) {
			first, images, _ := e.Part()
			ev.First, ev.Images = first, max(1, images)
		}
	}
	l.evaluate(o, number, place)
}

// unsynchronized refuses a BatchNormalization in training that would keep to the statistics of its part.
func unsynchronized(o *op) error {
	if o.node.Def.Running == nil || !training(o) || o.out[0].layout != nil || o.out[0].lines != nil {
		return nil
	}
	return &onnxio.UnsupportedError{Op: o.node.OpType, Node: o.String(),
		Reason: "its statistics are synchronized for maps " +
			"[N,C,H,W] float32 alone: train without sync_bn"}
}

// jointMoments makes the mean and the variance of a part's channels those of the joint batch. The second sum
// is of squares of differences from the joint mean: of squares themselves the difference would cancel.
func (l *lowering) jointMoments(mean, variance []float32) {
	if l.sync == nil {
		return
	}
	weight, joint := shareOf(l.sync), make([]float32, len(mean))
	for i, m := range mean {
		joint[i] = weight * m
	}
	if !l.sum(joint) {
		return
	}
	for i, m := range mean {
		d := m - joint[i]
		mean[i], variance[i] = joint[i], weight*(variance[i]+d*d)
	}
	l.sum(variance)
}

// jointSums makes the gradients of scale and bias those of the joint batch. A part's own loss is the mean
// over its images, so that its gradient by x, which takes the sums' mean over the part, comes out as the
// joint one over the part's share.
func (l *lowering) jointSums(dscale, dbias []float32) {
	if l.sync == nil {
		return
	}
	weight, n := shareOf(l.sync), len(dscale)
	both := append(slices.Clone(dscale), dbias...)
	for i := range both {
		if both[i] *= weight; weight == 0 {
			both[i] = 0
		}
	}
	if l.sum(both) {
		copy(dscale, both[:n])
		copy(dbias, both[n:])
	}
}

// sum adds up x over all processes, or ends the step.
func (l *lowering) sum(x []float32) bool {
	err := l.sync.Sum(x)
	if err != nil && *l.err == nil {
		*l.err = err
	}
	return err == nil
}

// jointCount is the number of elements of a channel in the joint batch, of x [N,C,H,W].
func (l *lowering) jointCount(x *value) int64 {
	n := x.size() / x.dims[1]
	if l.sync == nil {
		return n
	}
	_, _, total := l.sync.Part()
	return n / x.dims[0] * int64(total)
}
