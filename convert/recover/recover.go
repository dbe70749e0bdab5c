package recover

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cnnkit/cnnkit/convert"
	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/onnxio"
)

// Report says what Weights did.
type Report struct {
	Kept      int `json:"kept"`      // initializers that the file has under their own names
	Recovered int `json:"recovered"` // initializers whose names the exporter had lost
	// the network's own values of parts that the file has not, such as auxiliary heads
	Fresh    int      `json:"fresh"`
	Unfolded []string `json:"unfolded"` // BatchNormalizations that had been folded, by their modules
}

// Weights gives the weights of model under the names of the network like. A BatchNormalization that was
// folded comes back with statistics and weights under which it only adds the folded bias.
func Weights(model, like *onnxio.Model) (*convert.StateDict, Report, error) {
	var rep Report
	from, err := layersOf(model)
	if err != nil {
		return nil, rep, err
	}
	to, err := layersOf(like)
	if err != nil {
		return nil, rep, err
	}
	pairs, err := match(from, to)
	if err != nil {
		return nil, rep, err
	}
	r := &recovery{from: from, to: to, found: map[string]*onnxio.Tensor{}}
	for _, p := range pairs {
		if err := r.layer(p[0], p[1]); err != nil {
			return nil, rep, err
		}
	}
	if err := r.rest(model, like); err != nil {
		return nil, rep, err
	}
	sd, err := convert.FromModel(like)
	if err != nil {
		return nil, rep, err
	}
	out := &convert.StateDict{}
	for _, e := range sd.Entries() {
		t := e.Tensor
		if f := r.found[e.Name]; f != nil {
			t = f
		} else if t.Type == onnxio.Float {
			r.Fresh++
		}
		out.Set(e.Name, t)
	}
	return out, r.Report, nil
}

// match pairs the layers of both networks.
func match(from, to *network) ([][2]*layer, error) {
	color := colors(from, to)
	classes := func(n *network, by func(*layer) string) map[string][]*layer {
		out := map[string][]*layer{}
		for _, l := range n.layers {
			out[by(l)] = append(out[by(l)], l)
		}
		return out
	}
	byColor, bySign := func(l *layer) string { return color[l] }, func(l *layer) string { return l.sign }
	for _, by := range []func(*layer) string{byColor, bySign} {
		a, b := classes(from, by), classes(to, by)
		if !sameSizes(a, b) {
			continue
		}
		var pairs [][2]*layer
		for _, l := range to.layers { // in the order of the network
			c := by(l)
			pairs = append(pairs, [2]*layer{a[c][0], l})
			a[c] = a[c][1:]
		}
		return pairs, nil
	}
	return nil, different(from, to)
}

func sameSizes(a, b map[string][]*layer) bool {
	if len(a) != len(b) {
		return false
	}
	for c, list := range a {
		if len(b[c]) != len(list) {
			return false
		}
	}
	return true
}

// different says of which layers the networks have different numbers.
func different(from, to *network) error {
	count := map[string][2]int{}
	for i, n := range []*network{from, to} {
		for _, l := range n.layers {
			c := count[l.sign]
			c[i]++
			count[l.sign] = c
		}
	}
	var lines []string
	for sign, c := range count {
		if c[0] != c[1] {
			lines = append(lines, fmt.Sprintf("%s: %d in the file, %d in the network", sign, c[0], c[1]))
		}
	}
	slices.Sort(lines)
	more := ""
	if n := len(lines) - 12; n > 0 {
		lines, more = lines[:12], fmt.Sprintf("\n  and %d more", n)
	}
	return fmt.Errorf("the graph is not that network, whose layers are other ones:\n  %s%s",
		strings.Join(lines, "\n  "), more)
}

// recovery gathers tensors under the network's names.
type recovery struct {
	Report
	from, to *network
	found    map[string]*onnxio.Tensor
}

// give puts a tensor of the file under a name of the network.
func (r *recovery) give(name, was string, t *onnxio.Tensor) error {
	want := r.to.inits[name]
	if want == nil || t == nil {
		return fmt.Errorf("%q of the network has no tensor that belongs to it", name)
	}
	if t.Type != onnxio.Float || want.Type != onnxio.Float {
		return fmt.Errorf("%q is %v in the file: weights are recovered in float32", was, t.Type)
	}
	if !slices.Equal(t.Dims, want.Dims) {
		if t.Size() != want.Size() || len(t.Dims) == len(want.Dims) {
			return fmt.Errorf("%q is %v in the file, %q is %v in the network", was, t.Dims, name, want.Dims)
		}
	}
	own := *t
	own.Name, own.Dims = name, want.Dims
	r.found[name] = &own
	if was == name {
		r.Kept++
	} else {
		r.Recovered++
	}
	return nil
}

// layer takes over a layer's tensors.
func (r *recovery) layer(a, b *layer) error {
	switch b.node.OpType {
	case "Conv", "ConvTranspose", "Gemm", "MatMul":
	default:
		return r.inputs(a.node, b.node)
	}
	w := r.from.inits[a.weight]
	if w.Type != onnxio.Float {
		return fmt.Errorf("%q is %v in the file: weights are recovered in float32", a.weight, w.Type)
	}
	if a.turned != b.turned {
		w = turned(w)
	}
	if err := r.give(b.weight, a.weight, w); err != nil {
		return err
	}
	bias := r.from.inits[a.bias]
	if b.norm == nil {
		return r.bias(b, a.bias, bias)
	}
	if a.norm != nil {
		if err := r.bias(b, a.bias, bias); err != nil {
			return err
		}
		return r.inputs(a.norm, b.norm)
	}
	return r.unfold(a, b, bias)
}

// bias takes over a layer's own bias; one that the network has and the file has not is 0.
func (r *recovery) bias(b *layer, was string, bias *onnxio.Tensor) error {
	switch {
	case b.bias != "" && bias == nil:
		r.fill(b.bias, 0)
		return nil
	case b.bias != "":
		return r.give(b.bias, was, bias)
	case bias != nil && bias.Type != onnxio.Float:
		return fmt.Errorf("%q is %v in the file: weights are recovered in float32", was, bias.Type)
	case bias != nil && slices.ContainsFunc(bias.Float32s(), func(v float32) bool { return v != 0 }):
		return fmt.Errorf("%q is a bias in the file, and the network's layer %q has none", was, b.weight)
	}
	return nil
}

// fill makes a tensor of equal numbers.
func (r *recovery) fill(name string, v float32) {
	t := onnxio.NewTensor(onnxio.Float, r.to.inits[name].Dims...)
	for i := range t.Float32s() {
		t.Float32s()[i] = v
	}
	t.Name = name
	r.found[name] = t
}

// unfold gives a convolution back the BatchNormalization that was folded into it: y =
// (x-0)/sqrt(1-eps+eps)*1 + bias.
func (r *recovery) unfold(a, b *layer, bias *onnxio.Tensor) error {
	in := b.norm.Inputs
	if b.bias != "" {
		r.fill(b.bias, 0)
	}
	r.fill(in[1], 1)
	r.fill(in[3], 0)
	r.fill(in[4], 1-b.norm.Float("epsilon", 1e-5))
	r.Unfolded = append(r.Unfolded, strings.TrimSuffix(in[1], ".weight"))
	if bias == nil {
		r.fill(in[2], 0)
		return nil
	}
	return r.give(in[2], a.bias, bias)
}

// inputs takes over the tensors of a node, one by one.
func (r *recovery) inputs(a, b *onnxio.Node) error {
	for i, name := range b.Inputs {
		if r.to.inits[name] == nil {
			continue
		}
		if i >= len(a.Inputs) || r.from.inits[a.Inputs[i]] == nil {
			return fmt.Errorf("%s %q of the file has no input %d, which is %q in the network", a.OpType,
				a.Name, i, name)
		}
		if err := r.give(name, a.Inputs[i], r.from.inits[a.Inputs[i]]); err != nil {
			return err
		}
	}
	return nil
}

// rest takes over the weights that belong to no layer: scales, tokens, tables. Their own names
// count, then their shapes.
func (r *recovery) rest(model, like *onnxio.Model) error {
	free, err := engine.Trainable(model)
	if err != nil {
		return err
	}
	free = slices.DeleteFunc(free, func(name string) bool { return r.from.used[name] })
	want, err := engine.Trainable(like)
	if err != nil {
		return err
	}
	var lost []string
	for _, name := range want {
		if r.found[name] != nil {
			continue
		}
		if t := r.from.inits[name]; t != nil && slices.Equal(t.Dims, r.to.inits[name].Dims) {
			free = slices.DeleteFunc(free, func(f string) bool { return f == name })
			if err := r.give(name, name, t); err != nil {
				return err
			}
			continue
		}
		lost = append(lost, name)
	}
	var missing []string
	for _, name := range lost {
		i := slices.IndexFunc(free, func(f string) bool {
			return slices.Equal(r.from.inits[f].Dims, r.to.inits[name].Dims)
		})
		if i < 0 {
			missing = append(missing, fmt.Sprintf("%q %v", name, r.to.inits[name].Dims))
			continue
		}
		if err := r.give(name, free[i], r.from.inits[free[i]]); err != nil {
			return err
		}
		free = slices.Delete(free, i, i+1)
	}
	if missing != nil {
		return fmt.Errorf("the file has no tensors for %s", strings.Join(missing, ", "))
	}
	return nil
}

// turned is a matrix transposed.
func turned(t *onnxio.Tensor) *onnxio.Tensor {
	rows, cols := int(t.Dims[0]), int(t.Dims[1])
	out := onnxio.NewTensor(t.Type, t.Dims[1], t.Dims[0])
	x, y := t.Float32s(), out.Float32s()
	for i := range rows {
		for j := range cols {
			y[j*rows+i] = x[i*cols+j]
		}
	}
	return out
}
