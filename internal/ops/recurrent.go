package ops

import (
	"math"

	"github.com/cnnkit/cnnkit/onnxio"
)

// RNN, GRU and LSTM. One recurrent value resolves a node; recurrentcell.go has the equations of one step,
// forward and backward; recurrentgrad.go walks a sequence back. All is computed in float64 and rounded once.
//
// Shapes, D being the number of directions, G the number of gates (RNN 1, GRU 3: zrh, LSTM 4: iofc):
//
//	X [T,N,I]  W [D,G*H,I]  R [D,G*H,H]  B [D,2*G*H]  P [D,3*H]  sequence_lens [N]
//	Y [T,D,N,H]  initial_h, initial_c, Y_h, Y_c [D,N,H]
//
// With layout=1 (version 14) the batch is first: X [N,T,I], Y [N,T,D,H], states [N,D,H].

// recurrentTol: errors of a step pass through all later ones.
var recurrentTol = Tolerance{Abs: 1e-5, Rel: 1e-4}

func init() {
	lists := []AttrDef{floatsA("activation_alpha"), floatsA("activation_beta"), stringsA("activations"),
		floatA("clip"),
		stringA("direction"), intA("hidden_size"), intA("layout").since(14), intA("output_sequence")}
	def := func(name string, versions []int64, sequence int64, attrs ...AttrDef) *Def {
		own := append([]AttrDef{}, lists...)
		own[len(own)-1] = own[len(own)-1].until(sequence)
		return &Def{Name: name, Versions: versions, Attrs: append(own, attrs...), Weights: []int{1, 2, 3},
			Inputs: []Param{formal("X", "T"), formal("W", "T"), formal("R", "T"), formal("B", "T").optional(),
				formal("sequence_lens", "T1").optional(), formal("initial_h", "T").optional()},
			Outputs: []Param{formal("Y", "T").optional(), formal("Y_h", "T").optional()},
			Types:   map[string]TypeSet{"T": Floats, "T1": Set(onnxio.Int32)},
			Check:   checkRecurrent, Infer: inferRecurrent, Eval: byFloat(evalRecurrent, evalRecurrent),
			Grad: gradRecurrent, Tol: recurrentTol}
	}
	lstm := def("LSTM", []int64{1, 7, 14, 22}, 1, intA("input_forget"))
	lstm.Inputs = append(lstm.Inputs, formal("initial_c", "T").optional(), formal("P", "T").optional())
	lstm.Outputs = append(lstm.Outputs, formal("Y_c", "T").optional())
	lstm.Weights = append(lstm.Weights, 7)
	gru := def("GRU", []int64{1, 3, 7, 14, 22}, 3, intA("linear_before_reset").since(3))
	register(def("RNN", []int64{1, 7, 14, 22}, 1), gru, lstm, recurrentGradDef(lstm))
}

// recurrent is a node resolved: first what its attributes say, then the sizes of its inputs.
type recurrent struct {
	op           string
	gates        int
	reverse      []bool           // per direction
	functions    [][]gateFunction // per direction: f, g, h
	clip         float64
	coupled      bool // LSTM: the forget gate is one minus the input gate
	linear       bool // GRU: linear_before_reset
	batchFirst   bool
	steps, batch int
	input        int
	hidden       int
	lens         []int32 // steps per batch element; nil: all
}

// gatesOf is how many gates an operator has, and functionsOf how many activation functions a direction.
var (
	gatesOf     = map[string]int{"RNN": 1, "GRU": 3, "LSTM": 4}
	functionsOf = map[string][]string{"RNN": {"tanh"}, "GRU": {"sigmoid", "tanh"},
		"LSTM": {"sigmoid", "tanh", "tanh"}}
)

// newRecurrent reads the attributes of a node of the operator op.
func newRecurrent(n *Node, op string) (*recurrent, error) {
	r := &recurrent{op: op, gates: gatesOf[op], clip: math.Inf(1), coupled: n.Int("input_forget", 0) != 0,
		linear: n.Int("linear_before_reset", 0) != 0}
	switch d := n.Str("direction", "forward"); d {
	case "forward", "foward": // GRU-1's default is misspelled
		r.reverse = []bool{false}
	case "reverse":
		r.reverse = []bool{true}
	case "bidirectional":
		r.reverse = []bool{false, true}
	default:
		return nil, n.Errorf("direction %q is not forward, reverse or bidirectional", d)
	}
	if a := n.Attr("clip"); a != nil {
		if r.clip = float64(a.F); !(r.clip > 0) {
			return nil, n.Errorf("clip %v is not positive", a.F)
		}
	}
	switch l := n.Int("layout", 0); l {
	case 0, 1:
		r.batchFirst = l == 1
	default:
		return nil, n.Errorf("layout %d is not 0 or 1", l)
	}
	if h := n.Int("hidden_size", 1); h < 1 {
		return nil, n.Errorf("hidden_size %d is not positive", h)
	}
	var err error
	r.functions, err = recurrentFunctions(n, op, len(r.reverse))
	return r, err
}

func checkRecurrent(n *Node) error {
	_, err := newRecurrent(n, n.OpType)
	return err
}

// size takes the sizes from the shapes of X and R, and compares all inputs with them: in[i] is nil where
// input i is omitted, in the order of LSTM.
func (r *recurrent) size(n *Node, in [8][]int64) error {
	x, w, rec := in[0], in[1], in[2]
	if len(x) != 3 || len(w) != 3 || len(rec) != 3 {
		return n.Errorf("X %s, W %s and R %s do not all have three dimensions",
			dimsText(x), dimsText(w), dimsText(rec))
	}
	r.steps, r.batch, r.input, r.hidden = int(x[0]), int(x[1]), int(x[2]), int(rec[2])
	if r.batchFirst {
		r.steps, r.batch = r.batch, r.steps
	}
	if h := n.Int("hidden_size", rec[2]); h != rec[2] {
		return n.Errorf("hidden_size %d with R %s", h, dimsText(rec))
	}
	d, h, g := int64(len(r.reverse)), rec[2], int64(r.gates)
	states := []int64{d, int64(r.batch), h}
	if r.batchFirst {
		states = []int64{int64(r.batch), d, h}
	}
	wants := [8][]int64{x, {d, g * h, x[2]}, {d, g * h, h}, {d, 2 * g * h}, {int64(r.batch)}, states,
		states, {d, 3 * h}}
	for i, want := range wants {
		if in[i] != nil && !equal(in[i], want) {
			return n.Errorf("input %d of shape %s where %s is wanted", i, dimsText(in[i]), dimsText(want))
		}
	}
	return nil
}

// inferRecurrent derives the outputs from X and R, and leaves what it does not know to the run.
func inferRecurrent(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	r, err := newRecurrent(c.Node, c.Node.OpType)
	if err != nil {
		return err
	}
	for i := range c.Out {
		c.SetType(i, c.In[0].Type)
	}
	if err := r.inferSizes(c); err != nil || !shaped(c, 0) {
		return err
	}
	steps, batch, d := c.In[0].Shape[0], c.In[0].Shape[1], knownDim(int64(len(r.reverse)))
	hidden := unknownDim
	if h := c.Node.Int("hidden_size", 0); h > 0 {
		hidden = knownDim(h)
	} else if shaped(c, 2) {
		hidden = c.In[2].Shape[2]
	}
	y, state := []onnxio.Dim{steps, d, batch, hidden}, []onnxio.Dim{d, batch, hidden}
	if r.batchFirst {
		steps, batch = batch, steps
		y, state = []onnxio.Dim{batch, steps, d, hidden}, []onnxio.Dim{batch, d, hidden}
	}
	c.Set(0, c.In[0].Type, y)
	c.Set(1, c.In[0].Type, state)
	c.Set(2, c.In[0].Type, state)
	return nil
}

// inferSizes checks the ranks, and where all shapes are numbers the shapes.
func (r *recurrent) inferSizes(c *Infer) error {
	var dims [8][]int64
	all := true
	for i, rank := range [8]int{3, 3, 3, 2, 1, 3, 3, 2} {
		if !c.Has(i) {
			continue
		}
		if c.In[i].HasShape && len(c.In[i].Shape) != rank {
			return c.Node.Errorf("input %d of shape %s has not %d dimensions", i,
				shapeText(c.In[i].Shape), rank)
		}
		d, ok := c.In[i].Dims()
		dims[i], all = d, all && ok
	}
	if !all {
		return nil
	}
	return r.size(c.Node, dims)
}

// sizeInputs checks the inputs of a run, LSTM's first eight.
func (r *recurrent) sizeInputs(c *Eval) error {
	var dims [8][]int64
	for i := range dims {
		if c.Has(i) {
			dims[i] = append([]int64{}, c.In[i].Dims...)
		}
	}
	if err := r.size(c.Node, dims); err != nil || !c.Has(4) {
		return err
	}
	r.lens = onnxio.Data[int32](c.In[4])
	for i, l := range r.lens {
		if l < 0 || int(l) > r.steps {
			return c.Node.Errorf("sequence_lens[%d] is %d of %d steps", i, l, r.steps)
		}
	}
	return nil
}

// length is how many steps batch element n has.
func (r *recurrent) length(n int) int {
	if r.lens == nil {
		return r.steps
	}
	return int(r.lens[n])
}

// shapes are those of Y and of a state.
func (r *recurrent) shapes() (y, state []int64) {
	t, n, h, d := int64(r.steps), int64(r.batch), int64(r.hidden), int64(len(r.reverse))
	if r.batchFirst {
		return []int64{n, t, d, h}, []int64{n, d, h}
	}
	return []int64{t, d, n, h}, []int64{d, n, h}
}

// atX is where step t of batch element n begins in X.
func (r *recurrent) atX(t, n int) int {
	if r.batchFirst {
		return (n*r.steps + t) * r.input
	}
	return (t*r.batch + n) * r.input
}

// atY is where step t of batch element n in direction d begins in Y.
func (r *recurrent) atY(t, d, n int) int {
	if r.batchFirst {
		return ((n*r.steps+t)*len(r.reverse) + d) * r.hidden
	}
	return ((t*len(r.reverse)+d)*r.batch + n) * r.hidden
}

// atState is where batch element n in direction d begins in a state.
func (r *recurrent) atState(d, n int) int {
	if r.batchFirst {
		return (n*len(r.reverse) + d) * r.hidden
	}
	return (d*r.batch + n) * r.hidden
}

// at is the time of the k-th step in direction d over a sequence of the given length.
func (r *recurrent) at(k, d, length int) int {
	if r.reverse[d] {
		return length - 1 - k
	}
	return k
}

// weightsOf are the weights of direction d.
func (r *recurrent) weightsOf(d int, w, rec, b, p []float64) *cellWeights {
	gh := r.gates * r.hidden
	out := &cellWeights{w: w[d*gh*r.input:][:gh*r.input], r: rec[d*gh*r.hidden:][:gh*r.hidden]}
	if b != nil {
		out.bw, out.br = b[d*2*gh:][:gh], b[d*2*gh+gh:][:gh]
	}
	if p != nil {
		out.p = p[d*3*r.hidden:][:3*r.hidden]
	}
	return out
}

// evalRecurrent runs every sequence of the batch by itself, in each direction. Steps beyond a sequence's
// length give zeros; the states after a sequence of no steps are zero too, as ONNX Runtime has them.
func evalRecurrent(c *Eval) error {
	r, err := newRecurrent(c.Node, c.Node.OpType)
	if err != nil {
		return err
	}
	if err := r.sizeInputs(c); err != nil {
		return err
	}
	y, state := r.shapes()
	var out [3]*onnxio.Tensor
	wanted := false
	for i, dims := range [][]int64{y, state, state}[:len(c.Node.OutParams())] {
		if c.Wants(i) {
			if out[i], err = c.Alloc(i, c.In[0].Type, dims...); err != nil {
				return err
			}
			clear(out[i].Raw)
			wanted = true
		}
	}
	if !wanted || r.steps == 0 || r.hidden == 0 {
		return nil
	}
	x, h0, c0 := doubles(c, 0), doubles(c, 5), doubles(c, 6)
	w, rec, b, p := doubles(c, 1), doubles(c, 2), doubles(c, 3), doubles(c, 7)
	s := r.newStep()
	for d := range r.reverse {
		weights := r.weightsOf(d, w, rec, b, p)
		for n := range r.batch {
			s.start(r, h0, c0, r.atState(d, n))
			for k := range r.length(n) {
				t := r.at(k, d, r.length(n))
				r.forward(d, weights, s, x[r.atX(t, n):][:r.input])
				putFloats(out[0], r.atY(t, d, n), s.hNext)
				s.h, s.hNext, s.c, s.cNext = s.hNext, s.h, s.cNext, s.c
			}
			if r.length(n) > 0 {
				putFloats(out[1], r.atState(d, n), s.h)
				putFloats(out[2], r.atState(d, n), s.c)
			}
		}
	}
	return nil
}

// doubles is input i, float32 or float64, in float64; nil when omitted.
func doubles(c *Eval, i int) []float64 {
	if !c.Has(i) {
		return nil
	}
	if c.In[i].Type == onnxio.Double {
		return onnxio.Data[float64](c.In[i])
	}
	src := c.In[i].Float32s()
	out := make([]float64, len(src))
	for k, v := range src {
		out[k] = float64(v)
	}
	return out
}

// putFloats rounds v into t from element at on; a nil t is not wanted.
func putFloats(t *onnxio.Tensor, at int, v []float64) {
	switch {
	case t == nil:
	case t.Type == onnxio.Double:
		copy(onnxio.Data[float64](t)[at:], v)
	default:
		dst := t.Float32s()[at:]
		for i, x := range v {
			dst[i] = float32(x)
		}
	}
}
