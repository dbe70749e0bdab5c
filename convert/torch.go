package convert

import (
	"io"
	"math"

	"github.com/cnnkit/cnnkit/internal/pickle"
	"github.com/cnnkit/cnnkit/onnxio"
)

// newPickle reads what torch.save has pickled.
func newPickle(r io.ReaderAt, off, size int64, lim Limits) *pickle.Machine {
	return pickle.New(r, off, size, pickle.Rules{Format: formatPT, Holds: "a state dict", Max: lim.MaxObjects,
		Allowed: allowedGlobal, Reduce: rebuild, Build: build, Python2: true, Opaque: true})
}

// storageTypes maps torch's typed storages to element types; UntypedStorage counts bytes.
var storageTypes = map[string]onnxio.DataType{
	"FloatStorage": onnxio.Float, "DoubleStorage": onnxio.Double, "HalfStorage": onnxio.Float16,
	"BFloat16Storage": onnxio.BFloat16, "LongStorage": onnxio.Int64, "IntStorage": onnxio.Int32,
	"ShortStorage": onnxio.Int16, "CharStorage": onnxio.Int8, "ByteStorage": onnxio.Uint8,
	"BoolStorage":         onnxio.Bool,
	"ComplexFloatStorage": onnxio.Complex64, "ComplexDoubleStorage": onnxio.Complex128,
	"UntypedStorage": onnxio.Uint8,
	"QInt8Storage":   onnxio.Int8, "QUInt8Storage": onnxio.Uint8, "QInt32Storage": onnxio.Int32,
}

// torchTypes maps torch.dtype names to element types.
var torchTypes = map[string]onnxio.DataType{
	"float32": onnxio.Float, "float64": onnxio.Double, "float16": onnxio.Float16, "bfloat16": onnxio.BFloat16,
	"int64": onnxio.Int64, "int32": onnxio.Int32, "int16": onnxio.Int16, "int8": onnxio.Int8,
	"uint8":  onnxio.Uint8,
	"uint16": onnxio.Uint16, "uint32": onnxio.Uint32, "uint64": onnxio.Uint64, "bool": onnxio.Bool,
	"complex64": onnxio.Complex64, "complex128": onnxio.Complex128,
	"float8_e4m3fn": onnxio.Float8E4M3FN, "float8_e4m3fnuz": onnxio.Float8E4M3FNUZ,
	"float8_e5m2": onnxio.Float8E5M2, "float8_e5m2fnuz": onnxio.Float8E5M2FNUZ,
	"float8_e8m0fnu": onnxio.Float8E8M0,
}

// torchNames are torch's other names that a pickle may hold as values: quantized types and schemes.
var torchNames = map[string]bool{
	"Size": true, "qint8": true, "quint8": true, "qint32": true, "quint4x2": true, "quint2x4": true,
	"per_tensor_affine": true, "per_tensor_symmetric": true, "per_channel_affine": true,
	"per_channel_symmetric": true, "per_channel_affine_float_qparams": true,
}

// allowedGlobal is the whole list of names that mean something here; any other becomes a *pickle.Opaque.
func allowedGlobal(g pickle.Global) bool {
	switch g.Module {
	case "collections":
		return g.Name == "OrderedDict"
	case "torch._utils":
		switch g.Name {
		case "_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter",
			"_rebuild_parameter_with_state", "_rebuild_sparse_tensor", "_rebuild_qtensor":
			return true
		}
	case "torch._tensor":
		return g.Name == "_rebuild_from_type_v2"
	case "torch.serialization":
		return g.Name == "_get_layout"
	case "torch", "torch.storage":
		if _, ok := storageTypes[g.Name]; ok {
			return true
		}
		if g.Module == "torch" {
			_, ok := torchTypes[g.Name]
			return ok || torchNames[g.Name]
		}
	}
	return false
}

// pyStorage is a persistent id: a storage, or in legacy files a view of one.
type pyStorage struct {
	key    string
	typ    onnxio.DataType
	numel  int64 // of the whole storage
	offset int64 // of the view, in elements
	view   int64 // length of the view
}

// pyTensor is what a tensor rebuilder was told.
type pyTensor struct {
	storage       *pyStorage
	typ           onnxio.DataType
	offset        int64
	sizes, stride []int64
}

// tensorValue is a tensor that a pickle describes.
type tensorValue interface {
	rank() int
	// load reads the tensor from its storages.
	load(c *checkpoint, name string) (*onnxio.Tensor, error)
}

func (t *pyTensor) rank() int { return len(t.sizes) }

func (t *pyTensor) load(c *checkpoint, name string) (*onnxio.Tensor, error) { return c.tensor(name, t) }

// rebuild stands for the call that REDUCE asks for.
func rebuild(g pickle.Global, args []any) (any, error) {
	bad := malformed(formatPT, "pickle", "arguments of %s.%s are not what torch.save writes",
		g.Module, g.Name)
	for _, a := range args {
		if o, ok := a.(*pickle.Opaque); ok && g.Module == "torch._utils" {
			bad = malformed(formatPT, "pickle",
				"an object of %s where %s wants a tensor's parts; nothing was executed",
				o.Name, g.Name)
		}
	}
	switch g.Name {
	case "OrderedDict":
		return orderedDict(args, bad)
	case "Size", "_get_layout":
		if len(args) != 1 {
			return nil, bad
		}
		t, isTuple := args[0].(*pickle.Tuple)
		layout, isString := args[0].(string)
		switch {
		case isTuple && g.Name == "Size":
			return t, nil
		case isString && g.Name == "_get_layout":
			return pickle.Global{Module: "layout", Name: layout}, nil
		}
	case "_rebuild_parameter", "_rebuild_parameter_with_state":
		if len(args) >= 3 && len(args) <= 4 {
			if t, ok := args[0].(tensorValue); ok {
				return t, nil
			}
		}
	case "_rebuild_from_type_v2": // a subclass of Tensor: function, class, its arguments, state
		return rebuildSubclass(args, bad)
	case "_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3":
		return rebuildTensor(g.Name, args, bad)
	case "_rebuild_sparse_tensor":
		return rebuildSparse(args, bad)
	case "_rebuild_qtensor":
		return rebuildQuantized(args, bad)
	}
	return nil, bad
}

// rebuildSubclass rebuilds the plain tensor; an opaque function makes an opaque value.
func rebuildSubclass(args []any, bad error) (any, error) {
	if len(args) != 4 {
		return nil, bad
	}
	inner, ok := args[2].(*pickle.Tuple)
	if !ok {
		return nil, bad
	}
	switch f := args[0].(type) {
	case *pickle.Opaque:
		return &pickle.Opaque{Name: f.Name, Args: inner.Items}, nil
	case pickle.Global:
		if f.Module == "torch._utils" {
			return rebuild(f, inner.Items)
		}
	}
	return nil, bad
}

// build drops the state that BUILD gives: an OrderedDict's _metadata.
func build(target, _ any) (any, error) {
	switch target.(type) {
	case *pickle.Dict, tensorValue:
		return target, nil
	}
	return nil, malformed(formatPT, "pickle",
		"BUILD on a value that is neither a dict nor a tensor; nothing was executed")
}

// orderedDict takes no arguments, or Python 2's list of pairs.
func orderedDict(args []any, bad error) (any, error) {
	d := &pickle.Dict{}
	if len(args) == 0 {
		return d, nil
	}
	l, ok := args[0].(*pickle.List)
	if !ok || len(args) != 1 {
		return nil, bad
	}
	for _, it := range l.Items {
		var pair []any
		switch p := it.(type) {
		case *pickle.List:
			pair = p.Items
		case *pickle.Tuple:
			pair = p.Items
		}
		if len(pair) != 2 {
			return nil, bad
		}
		d.Set(pair[0], pair[1])
	}
	return d, nil
}

func rebuildTensor(name string, args []any, bad error) (any, error) {
	if len(args) < 4 || len(args) > 8 {
		return nil, bad
	}
	t := &pyTensor{}
	var ok [4]bool
	t.storage, ok[0] = args[0].(*pyStorage)
	t.offset, ok[1] = args[1].(int64)
	t.sizes, ok[2] = ints(args[2])
	t.stride, ok[3] = ints(args[3])
	if ok != [4]bool{true, true, true, true} {
		return nil, bad
	}
	t.typ = t.storage.typ
	if name == "_rebuild_tensor_v3" {
		if len(args) < 7 {
			return nil, bad
		}
		g, _ := args[6].(pickle.Global)
		typ, known := torchTypes[g.Name]
		if t.typ = typ; !known || g.Module != "torch" {
			return nil, bad
		}
	}
	return t, t.check()
}

func ints(v any) ([]int64, bool) {
	t, ok := v.(*pickle.Tuple)
	if !ok || len(t.Items) > 64 {
		return nil, false
	}
	out := make([]int64, len(t.Items))
	for i, it := range t.Items {
		if out[i], ok = it.(int64); !ok {
			return nil, false
		}
	}
	return out, true
}

// check keeps every element inside the storage: offset + sum((size-1) * stride) < storage length.
func (t *pyTensor) check() error {
	bad := malformed(formatPT, "tensor",
		"offset %d, sizes %v and strides %v leave a storage of %d %v elements",
		t.offset, t.sizes, t.stride, t.storage.view, t.storage.typ)
	if len(t.sizes) != len(t.stride) || t.offset < 0 {
		return bad
	}
	if _, err := onnxio.CheckedBytes(t.typ, t.sizes); err != nil {
		return malformed(formatPT, "tensor", "%v", err)
	}
	last, empty := t.offset, false
	for i, d := range t.sizes {
		s := t.stride[i]
		if s < 0 {
			return bad
		}
		if d == 0 {
			empty = true
			continue
		}
		if d > 1 && s > (math.MaxInt64-last)/(d-1) {
			return bad
		}
		last += (d - 1) * s
	}
	length := t.storage.view * int64(t.storage.typ.Bits()/8) / int64(t.typ.Bits()/8)
	if (!empty && last >= length) || (empty && t.offset > length) {
		return bad
	}
	return nil
}

// contiguous reports whether the elements follow one another in row-major order.
func (t *pyTensor) contiguous() bool {
	want := int64(1)
	for i := len(t.sizes) - 1; i >= 0; i-- {
		if t.sizes[i] != 1 && t.stride[i] != want {
			return false
		}
		want *= t.sizes[i]
	}
	return true
}

// storageID reads ('storage', type, key, location, numel[, view]).
func storageID(id any) (*pyStorage, error) {
	bad := malformed(formatPT, "pickle", "a persistent id is not ('storage', type, key, location, count)")
	t, ok := id.(*pickle.Tuple)
	if !ok || len(t.Items) < 5 || len(t.Items) > 6 || t.Items[0] != any("storage") {
		return nil, bad
	}
	if o, opaque := t.Items[1].(*pickle.Opaque); opaque {
		return nil, malformed(formatPT, "pickle",
			"a storage of type %s, which is not known; nothing was executed", o.Name)
	}
	g, ok1 := t.Items[1].(pickle.Global)
	key, ok2 := t.Items[2].(string)
	_, ok3 := t.Items[3].(string)
	numel, ok4 := t.Items[4].(int64)
	typ, ok5 := storageTypes[g.Name]
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || numel < 0 {
		return nil, bad
	}
	if _, err := onnxio.CheckedBytes(typ, []int64{numel}); err != nil {
		return nil, malformed(formatPT, "storage "+key, "%v", err)
	}
	s := &pyStorage{key: key, typ: typ, numel: numel, view: numel}
	if len(t.Items) == 6 && t.Items[5] != nil {
		v, ok := t.Items[5].(*pickle.Tuple)
		if !ok || len(v.Items) != 3 {
			return nil, bad
		}
		var ok1, ok2 bool
		s.offset, ok1 = v.Items[1].(int64)
		s.view, ok2 = v.Items[2].(int64)
		if !ok1 || !ok2 || s.offset < 0 || s.view < 0 || s.offset > numel || s.view > numel-s.offset {
			return nil, malformed(formatPT, "storage "+key, "a view leaves the storage")
		}
	}
	return s, nil
}
