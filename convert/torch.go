package convert

import (
	"encoding/binary"
	"io"
	"math"
	"slices"
	"strings"
	"unsafe"

	"github.com/cnnkit/cnnkit/internal/pickle"
	"github.com/cnnkit/cnnkit/onnxio"
)

// newPickle reads what torch.save has pickled.
func newPickle(r io.ReaderAt, off, size int64, lim Limits) *pickle.Machine {
	return pickle.New(r, off, size, pickle.Rules{Format: formatPT, Holds: "a state dict", Max: lim.MaxObjects,
		Allowed: allowedGlobal, Reduce: rebuild, Build: build})
}

// storageTypes maps torch's typed storages to element types; UntypedStorage counts bytes.
var storageTypes = map[string]onnxio.DataType{
	"FloatStorage": onnxio.Float, "DoubleStorage": onnxio.Double, "HalfStorage": onnxio.Float16,
	"BFloat16Storage": onnxio.BFloat16, "LongStorage": onnxio.Int64, "IntStorage": onnxio.Int32,
	"ShortStorage": onnxio.Int16, "CharStorage": onnxio.Int8, "ByteStorage": onnxio.Uint8, "BoolStorage": onnxio.Bool,
	"ComplexFloatStorage": onnxio.Complex64, "ComplexDoubleStorage": onnxio.Complex128, "UntypedStorage": onnxio.Uint8,
}

// torchTypes maps torch.dtype names to element types.
var torchTypes = map[string]onnxio.DataType{
	"float32": onnxio.Float, "float64": onnxio.Double, "float16": onnxio.Float16, "bfloat16": onnxio.BFloat16,
	"int64": onnxio.Int64, "int32": onnxio.Int32, "int16": onnxio.Int16, "int8": onnxio.Int8, "uint8": onnxio.Uint8,
	"uint16": onnxio.Uint16, "uint32": onnxio.Uint32, "uint64": onnxio.Uint64, "bool": onnxio.Bool,
	"complex64": onnxio.Complex64, "complex128": onnxio.Complex128,
	"float8_e4m3fn": onnxio.Float8E4M3FN, "float8_e4m3fnuz": onnxio.Float8E4M3FNUZ,
	"float8_e5m2": onnxio.Float8E5M2, "float8_e5m2fnuz": onnxio.Float8E5M2FNUZ, "float8_e8m0fnu": onnxio.Float8E8M0,
}

// allowedGlobal is the whole list of names that a pickle may hold.
func allowedGlobal(g pickle.Global) bool {
	switch g.Module {
	case "collections":
		return g.Name == "OrderedDict"
	case "torch._utils":
		switch g.Name {
		case "_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter", "_rebuild_parameter_with_state":
			return true
		}
	case "torch", "torch.storage":
		if _, ok := storageTypes[g.Name]; ok {
			return true
		}
		if g.Module == "torch" {
			_, ok := torchTypes[g.Name]
			return ok || g.Name == "Size"
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

// rebuild stands for the call that REDUCE asks for.
func rebuild(g pickle.Global, args []any) (any, error) {
	bad := malformed(formatPT, "pickle", "arguments of %s.%s are not what torch.save writes", g.Module, g.Name)
	switch g.Name {
	case "OrderedDict":
		return orderedDict(args, bad)
	case "Size":
		if len(args) == 1 {
			if t, ok := args[0].(*pickle.Tuple); ok {
				return t, nil
			}
		}
	case "_rebuild_parameter", "_rebuild_parameter_with_state":
		if len(args) >= 3 && len(args) <= 4 {
			if t, ok := args[0].(*pyTensor); ok {
				return t, nil
			}
		}
	case "_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3":
		return rebuildTensor(g.Name, args, bad)
	}
	return nil, bad
}

// build drops the state that BUILD gives: an OrderedDict's _metadata.
func build(target, _ any) (any, error) {
	switch target.(type) {
	case *pickle.Dict, *pyTensor:
		return target, nil
	}
	return nil, malformed(formatPT, "pickle", "BUILD on a value that is neither a dict nor a tensor; nothing was executed")
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
	bad := malformed(formatPT, "tensor", "offset %d, sizes %v and strides %v leave a storage of %d %v elements",
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

// checkpoint turns a pickle's value into a state dict.
type checkpoint struct {
	size    int64 // of the file
	lim     Limits
	key     string
	ids     map[string]*pyStorage // first mention of each storage
	read    func(s *pyStorage) ([]byte, error)
	loaded  map[string][]byte
	views   map[string]*onnxio.Tensor // of (storage, geometry): tied weights share bytes
	total   int64                     // bytes of distinct views
	storage int64                     // bytes of storages read
}

// persistent resolves a storage; one key must mean one storage all through the file.
func (c *checkpoint) persistent(id any) (any, error) {
	s, err := storageID(id)
	if err != nil {
		return nil, err
	}
	first, seen := c.ids[s.key]
	if !seen {
		c.ids[s.key] = s
	} else if first.typ != s.typ || first.numel != s.numel {
		return nil, malformed(formatPT, "storage "+s.key, "is %d elements of %v here and %d of %v there", first.numel, first.typ, s.numel, s.typ)
	}
	return s, nil
}

func (c *checkpoint) stateDict(root any) (*StateDict, error) {
	top, ok := root.(*pickle.Dict)
	if !ok {
		return nil, malformed(formatPT, "", "holds no dict at its top, so no state dict")
	}
	dict, name, err := choose(top, c.key)
	if err != nil {
		return nil, err
	}
	sd := &StateDict{}
	if dict != top {
		first, _, _ := strings.Cut(name, ".")
		for _, k := range top.Keys {
			if s, ok := k.(string); ok && s != first {
				sd.Skipped = append(sd.Skipped, s)
			}
		}
	}
	for i, k := range dict.Keys {
		s, isString := k.(string)
		t, isTensor := dict.Values[i].(*pyTensor)
		if !isString {
			continue
		}
		if !isTensor {
			sd.Skipped = append(sd.Skipped, s)
			continue
		}
		if int64(sd.Len()) >= c.lim.MaxEntries {
			return nil, &onnxio.LimitError{What: "tensors of a state dict", Got: int64(len(dict.Keys)), Limit: c.lim.MaxEntries}
		}
		out, err := c.tensor(s, t)
		if err != nil {
			return nil, err
		}
		sd.Set(s, out)
	}
	return sd, nil
}

// preferred are the keys under which training scripts put a model's state dict.
var preferred = []string{"state_dict", "model_state_dict", "model", "net", "module", "network", "weights"}

type candidate struct {
	name string
	dict *pickle.Dict
}

// choose finds the state dict: the one under a usual key, else the top itself, else the only one there is.
func choose(top *pickle.Dict, key string) (*pickle.Dict, string, error) {
	found := candidates(top)
	var names []string
	var usual []candidate
	for _, c := range found {
		if key != "" && c.name == key {
			return c.dict, key, nil
		}
		names = append(names, c.name)
		if slices.Contains(preferred, c.name[strings.LastIndexByte(c.name, '.')+1:]) {
			usual = append(usual, c)
		}
	}
	switch {
	case key != "":
		return nil, "", malformed(formatPT, "", "no state dict under %q; there are %q", key, names)
	case len(usual) == 1:
		return usual[0].dict, usual[0].name, nil
	case len(usual) == 0 && len(found) > 0 && found[0].dict == top, len(found) == 1:
		return found[0].dict, found[0].name, nil
	case len(found) == 0 && len(top.Keys) == 0:
		return top, "", nil
	case len(found) == 0:
		return nil, "", malformed(formatPT, "", "no dict in it holds tensors under string keys")
	}
	return nil, "", malformed(formatPT, "", "several state dicts, choose one by its key: %q", names)
}

// candidates lists the dicts that hold tensors, the top first, following string keys three levels down. A dict met
// twice counts once, so shared and cyclic dicts cost nothing.
func candidates(top *pickle.Dict) []candidate {
	var found []candidate
	seen := map[*pickle.Dict]bool{top: true}
	level := []candidate{{"", top}}
	for depth := 0; depth < 4 && len(level) > 0; depth++ {
		var next []candidate
		for _, c := range level {
			tensors := false
			for i, k := range c.dict.Keys {
				s, ok := k.(string)
				if !ok {
					continue
				}
				switch v := c.dict.Values[i].(type) {
				case *pyTensor:
					tensors = true
				case *pickle.Dict:
					if !seen[v] {
						seen[v] = true
						next = append(next, candidate{strings.TrimPrefix(c.name+"."+s, "."), v})
					}
				}
			}
			if tensors {
				found = append(found, c)
			}
		}
		level = next
	}
	return found
}

// tensor copies a view out of its storage, or shares the storage's bytes where they are contiguous.
func (c *checkpoint) tensor(name string, t *pyTensor) (*onnxio.Tensor, error) {
	id := viewKey(t)
	if v, ok := c.views[id]; ok {
		tied := *v
		tied.Name = name
		return &tied, nil
	}
	data, ok := c.loaded[t.storage.key]
	if !ok {
		var err error
		if data, err = c.read(t.storage); err != nil {
			return nil, err
		}
		c.loaded[t.storage.key] = data
		c.storage += int64(len(data))
	}
	n, _ := onnxio.CheckedBytes(t.typ, t.sizes)
	c.total += n
	if c.total > c.lim.MaxBytes {
		return nil, &onnxio.LimitError{What: "bytes of tensors", Got: c.total, Limit: c.lim.MaxBytes}
	}
	if allowed := c.storage + c.lim.MaxAlias; c.total > allowed {
		return nil, &onnxio.LimitError{What: "bytes of overlapping views", Got: c.total, Limit: allowed}
	}
	width := int64(t.typ.Bits() / 8)
	data = data[t.storage.offset*int64(t.storage.typ.Bits()/8):]
	out := &onnxio.Tensor{Name: name, Type: t.typ, Dims: append([]int64{}, t.sizes...)}
	switch {
	case n == 0:
		out.Raw = []byte{}
	case t.contiguous() && aligned(data[t.offset*width:], t.typ):
		out.Raw = data[t.offset*width : t.offset*width+n : t.offset*width+n]
	default:
		out.Raw = gather(t, data, width, n)
	}
	if err := out.Check(); err != nil {
		return nil, &onnxio.FormatError{Format: formatPT, Where: name, Msg: "tensor", Err: err}
	}
	c.views[id] = out
	return out, nil
}

func viewKey(t *pyTensor) string {
	var b []byte
	for _, v := range append(append([]int64{int64(t.typ), t.storage.offset, t.offset, int64(len(t.sizes))}, t.sizes...), t.stride...) {
		b = binary.LittleEndian.AppendUint64(b, uint64(v))
	}
	return string(b) + t.storage.key
}

// aligned reports whether elements of this type may be read in place: a view of an untyped storage can start anywhere.
func aligned(data []byte, typ onnxio.DataType) bool {
	return uintptr(unsafe.Pointer(unsafe.SliceData(data)))%uintptr(min(typ.Bits()/8, 8)) == 0
}

// gather copies a strided view, row-major.
func gather(t *pyTensor, data []byte, width, n int64) []byte {
	out := make([]byte, 0, n)
	at := t.offset
	index := make([]int64, len(t.sizes))
	for {
		out = append(out, data[at*width:(at+1)*width]...)
		i := len(index) - 1
		for ; i >= 0; i-- {
			index[i]++
			at += t.stride[i]
			if index[i] < t.sizes[i] {
				break
			}
			at -= t.stride[i] * t.sizes[i]
			index[i] = 0
		}
		if i < 0 {
			return out
		}
	}
}

func newCheckpoint(size int64, lim Limits, key string) *checkpoint {
	return &checkpoint{size: size, lim: lim, key: key, ids: map[string]*pyStorage{},
		loaded: map[string][]byte{}, views: map[string]*onnxio.Tensor{}}
}
