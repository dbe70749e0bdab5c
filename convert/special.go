package convert

import (
	"fmt"
	"math"

	"github.com/cnnkit/cnnkit/internal/pickle"
	"github.com/cnnkit/cnnkit/onnxio"
)

// plainGrowth is how many times their stored bytes sparse and quantized tensors may take as plain ones.
const plainGrowth = 16

// grow allows n bytes for a plain tensor made of stored bytes.
func (c *checkpoint) grow(n, stored int64) error {
	if limit := plainGrowth*stored + c.lim.MaxAlias; n > limit {
		return &onnxio.LimitError{What: "bytes of a tensor made dense", Got: n, Limit: limit}
	}
	if c.made += n; c.made > c.lim.MaxBytes {
		return &onnxio.LimitError{What: "bytes of tensors", Got: c.made, Limit: c.lim.MaxBytes}
	}
	if limit := plainGrowth*c.size + c.lim.MaxAlias; c.made > limit {
		return &onnxio.LimitError{What: "bytes of tensors made dense", Got: c.made, Limit: limit}
	}
	return nil
}

// pySparse is a sparse tensor: index[0] holds coordinates [dims, n] (coo), or row starts (csr) or column
// starts (csc) with index[1], the other coordinate of each value.
type pySparse struct {
	layout string
	index  []*pyTensor
	values *pyTensor
	sizes  []int64
}

func (t *pySparse) rank() int { return len(t.sizes) }

// rebuildSparse reads (layout, (indices, values, size[, coalesced])) or (layout, (starts, others, values,
// size)).
func rebuildSparse(args []any, bad error) (any, error) {
	if len(args) != 2 {
		return nil, bad
	}
	layout, ok1 := args[0].(pickle.Global)
	data, ok2 := args[1].(*pickle.Tuple)
	if !ok1 || !ok2 || layout.Module != "layout" || len(data.Items) < 3 || len(data.Items) > 4 {
		return nil, bad
	}
	t := &pySparse{layout: layout.Name}
	n := 1
	switch t.layout {
	case "torch.sparse_coo":
	case "torch.sparse_csr", "torch.sparse_csc":
		n = 2
	default:
		return nil, &onnxio.UnsupportedError{Op: fmt.Sprintf("tensor of layout %.40q", t.layout),
			Reason: "only coo, csr and csc are read; save it dense with .to_dense()"}
	}
	if len(data.Items) < n+2 {
		return nil, bad
	}
	for _, it := range data.Items[:n] {
		x, ok := it.(*pyTensor)
		if !ok {
			return nil, bad
		}
		t.index = append(t.index, x)
	}
	t.values, ok1 = data.Items[n].(*pyTensor)
	t.sizes, ok2 = ints(data.Items[n+1])
	if !ok1 || !ok2 {
		return nil, bad
	}
	return t, t.check(bad)
}

// check compares the shapes of the parts.
func (t *pySparse) check(bad error) error {
	if _, err := onnxio.CheckedBytes(t.values.typ, t.sizes); err != nil {
		return malformed(formatPT, "sparse tensor", "%v", err)
	}
	for _, x := range t.index {
		if x.typ != onnxio.Int64 && x.typ != onnxio.Int32 {
			return bad
		}
	}
	if len(t.values.sizes) < 1 {
		return bad
	}
	n := t.values.sizes[0]
	if t.layout == "torch.sparse_coo" {
		x := t.index[0].sizes
		if len(x) != 2 || x[0] > int64(len(t.sizes)) || x[1] != n {
			return bad
		}
		if len(t.values.sizes) != 1+len(t.sizes)-int(x[0]) {
			return bad
		}
		for i, d := range t.values.sizes[1:] {
			if d != t.sizes[int(x[0])+i] {
				return bad
			}
		}
		return nil
	}
	starts, others := t.index[0].sizes, t.index[1].sizes
	if len(t.sizes) != 2 || len(t.values.sizes) != 1 || len(starts) != 1 || len(others) != 1 ||
		others[0] != n ||
		starts[0] != t.sizes[t.compressed()]+1 {
		return bad
	}
	return nil
}

// compressed is the dimension whose starts are stored.
func (t *pySparse) compressed() int {
	if t.layout == "torch.sparse_csc" {
		return 1
	}
	return 0
}

// load makes the tensor dense. Values at one place add up, as PyTorch has it.
func (t *pySparse) load(c *checkpoint, name string) (*onnxio.Tensor, error) {
	values, err := c.tensor(name, t.values)
	if err != nil {
		return nil, err
	}
	var index [][]int64
	stored := int64(len(values.Raw))
	for _, x := range t.index {
		part, err := c.tensor(name, x)
		if err != nil {
			return nil, err
		}
		stored += int64(len(part.Raw))
		index = append(index, asInt64(part))
	}
	n, _ := onnxio.CheckedBytes(t.values.typ, t.sizes)
	if err := c.grow(n, stored); err != nil {
		return nil, err
	}
	rows, err := t.rows(name, index)
	if err != nil {
		return nil, err
	}
	out := onnxio.NewTensor(values.Type, t.sizes...)
	out.Name = name
	if !scatter(out, values, rows) {
		return nil, &onnxio.UnsupportedError{Op: fmt.Sprintf("sparse tensor of %v", values.Type), Node: name,
			Reason: "two of its values have one place: save it coalesced, or dense with .to_dense()"}
	}
	c.notes = append(c.notes, fmt.Sprintf("%s: sparse, made dense", name))
	return out, nil
}

// rows gives the place of each value, in units of a value's size.
func (t *pySparse) rows(name string, index [][]int64) ([]int64, error) {
	outside := malformed(formatPT, name, "a sparse tensor's index leaves its shape %v", t.sizes)
	n := t.values.sizes[0]
	rows := make([]int64, n) // no longer than the values, which were read
	if t.layout == "torch.sparse_coo" {
		for d := range t.index[0].sizes[0] {
			for i := range n {
				x := index[0][d*n+i]
				if x < 0 || x >= t.sizes[d] {
					return nil, outside
				}
				rows[i] = rows[i]*t.sizes[d] + x
			}
		}
		return rows, nil
	}
	major := t.compressed()
	starts, others := index[0], index[1]
	if starts[0] != 0 || starts[len(starts)-1] != n {
		return nil, outside
	}
	for m := range t.sizes[major] {
		if starts[m] > starts[m+1] || starts[m+1] > n {
			return nil, outside
		}
		for i := starts[m]; i < starts[m+1]; i++ {
			x := others[i]
			if x < 0 || x >= t.sizes[1-major] {
				return nil, outside
			}
			at := [2]int64{}
			at[major], at[1-major] = m, x
			rows[i] = at[0]*t.sizes[1] + at[1]
		}
	}
	return rows, nil
}

// scatter puts rows of values into out; where two meet, floats are added, and other types are refused.
func scatter(out, values *onnxio.Tensor, rows []int64) bool {
	if len(rows) == 0 || len(values.Raw) == 0 {
		return true
	}
	width := len(values.Raw) / len(rows)
	each := int64(1)
	for _, d := range values.Dims[1:] {
		each *= d
	}
	taken := make([]bool, len(out.Raw)/width)
	for i, r := range rows {
		if !taken[r] {
			taken[r] = true
			copy(out.Raw[int(r)*width:], values.Raw[i*width:(i+1)*width])
			continue
		}
		if !isFloat(out.Type) {
			return false
		}
		for k := range each {
			to := int(r*each + k)
			setFloat(out, to, floatAt(out, to)+floatAt(values, i*int(each)+int(k)))
		}
	}
	return true
}

// asInt64 widens an index.
func asInt64(t *onnxio.Tensor) []int64 {
	if t.Type == onnxio.Int64 {
		return onnxio.Data[int64](t)
	}
	out := make([]int64, t.Size())
	for i, v := range onnxio.Data[int32](t) {
		out[i] = int64(v)
	}
	return out
}

// pyQuantized is a quantized tensor: codes, and for each slice along axis (the whole, if axis is negative)
// the scale and the zero point.
type pyQuantized struct {
	codes         *pyTensor
	axis          int
	scale, zero   float64
	scales, zeros *pyTensor
}

func (t *pyQuantized) rank() int { return len(t.codes.sizes) }

// rebuildQuantized reads (storage, offset, size, stride, (scheme, ...), requires_grad, hooks).
func rebuildQuantized(args []any, bad error) (any, error) {
	if len(args) < 5 {
		return nil, bad
	}
	v, err := rebuildTensor("_rebuild_tensor_v2", args[:4], bad)
	if err != nil {
		return nil, err
	}
	t := &pyQuantized{codes: v.(*pyTensor), axis: -1}
	switch t.codes.typ {
	case onnxio.Int8, onnxio.Uint8, onnxio.Int32:
	default:
		return nil, bad
	}
	params, ok := args[4].(*pickle.Tuple)
	if !ok || len(params.Items) < 3 {
		return nil, bad
	}
	scheme, _ := params.Items[0].(pickle.Global)
	if scheme.Name == "per_tensor_affine" && len(params.Items) == 3 {
		zero, ok1 := params.Items[2].(int64)
		scale, ok2 := params.Items[1].(float64)
		if t.scale, t.zero = scale, float64(zero); !ok1 || !ok2 {
			return nil, bad
		}
		return t, nil
	}
	perChannel := scheme.Name == "per_channel_affine" || scheme.Name == "per_channel_affine_float_qparams"
	if !perChannel || len(params.Items) != 4 {
		return nil, bad
	}
	axis, ok := params.Items[3].(int64)
	if !ok || axis < 0 || axis >= int64(t.rank()) {
		return nil, bad
	}
	t.axis = int(axis)
	var ok1, ok2 bool
	t.scales, ok1 = params.Items[1].(*pyTensor)
	t.zeros, ok2 = params.Items[2].(*pyTensor)
	if !ok1 || !ok2 || len(t.scales.sizes) != 1 || len(t.zeros.sizes) != 1 ||
		t.scales.sizes[0] != t.codes.sizes[axis] || t.zeros.sizes[0] != t.codes.sizes[axis] {
		return nil, bad
	}
	return t, nil
}

// load gives the numbers that the codes stand for, (code - zero point) * scale, as float32.
func (t *pyQuantized) load(c *checkpoint, name string) (*onnxio.Tensor, error) {
	codes, err := c.tensor(name, t.codes)
	if err != nil {
		return nil, err
	}
	n, err := onnxio.CheckedBytes(onnxio.Float, codes.Dims)
	if err != nil {
		return nil, malformed(formatPT, name, "%v", err)
	}
	if err := c.grow(n, int64(len(codes.Raw))); err != nil {
		return nil, err
	}
	scales, zeros, err := t.parameters(c, name)
	if err != nil {
		return nil, err
	}
	inner := int64(1)
	for i := t.axis + 1; t.axis >= 0 && i < len(codes.Dims); i++ {
		inner *= codes.Dims[i]
	}
	out := onnxio.NewTensor(onnxio.Float, codes.Dims...)
	out.Name = name
	for i := range out.Float32s() {
		if t.axis < 0 { // PyTorch multiplies in float32 here, and in float64 where each slice has its scale
			out.Float32s()[i] = float32(code(codes, i)-zeros[0]) * float32(scales[0])
			continue
		}
		s := int64(i) / inner % codes.Dims[t.axis]
		out.Float32s()[i] = float32((code(codes, i) - zeros[s]) * scales[s])
	}
	c.notes = append(c.notes, fmt.Sprintf("%s: quantized, made float32", name))
	return out, nil
}

// parameters gives the scale and the zero point of each slice.
func (t *pyQuantized) parameters(c *checkpoint, name string) (scales, zeros []float64, err error) {
	if t.axis < 0 {
		return []float64{t.scale}, []float64{t.zero}, nil
	}
	for _, p := range []struct {
		from *pyTensor
		to   *[]float64
	}{{t.scales, &scales}, {t.zeros, &zeros}} {
		x, err := c.tensor(name, p.from)
		if err != nil {
			return nil, nil, err
		}
		for i := range int(x.Size()) {
			v := code(x, i)
			if math.IsNaN(v) {
				return nil, nil, malformed(formatPT, name, "a scale or zero point is NaN or of type %v",
					x.Type)
			}
			*p.to = append(*p.to, v)
		}
	}
	return scales, zeros, nil
}

// code is an element as a number, NaN where the type has none.
func code(t *onnxio.Tensor, i int) float64 {
	switch t.Type {
	case onnxio.Int8:
		return float64(onnxio.Data[int8](t)[i])
	case onnxio.Uint8:
		return float64(onnxio.Data[uint8](t)[i])
	case onnxio.Int32:
		return float64(onnxio.Data[int32](t)[i])
	case onnxio.Int64:
		return float64(onnxio.Data[int64](t)[i])
	}
	if isFloat(t.Type) {
		return floatAt(t, i)
	}
	return math.NaN()
}
