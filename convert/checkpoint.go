package convert

import (
	"encoding/binary"
	"strings"
	"unsafe"

	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/internal/pickle"
	"github.com/cnnkit/cnnkit/onnxio"
)

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
	made    int64                     // bytes of sparse and quantized tensors as plain ones
	visits  int64                     // modules flattened
	names   int64                     // bytes of the dotted keys that were made
	notes   []string
}

func newCheckpoint(size int64, lim Limits, key string) *checkpoint {
	return &checkpoint{size: size, lim: lim, key: key, ids: map[string]*pyStorage{},
		loaded: map[string][]byte{}, views: map[string]*onnxio.Tensor{}}
}

// persistent resolves a storage; one key must mean one storage all through the file. A legacy file also puts
// a module's class there, with its source.
func (c *checkpoint) persistent(id any) (any, error) {
	if t, ok := id.(*pickle.Tuple); ok && len(t.Items) == 4 && t.Items[0] == any("module") {
		return t.Items[1], nil
	}
	s, err := storageID(id)
	if err != nil {
		return nil, err
	}
	first, seen := c.ids[s.key]
	if !seen {
		c.ids[s.key] = s
	} else if first.typ != s.typ || first.numel != s.numel {
		return nil, malformed(formatPT, "storage "+s.key, "is %d elements of %v here and %d of %v there",
			first.numel, first.typ, s.numel, s.typ)
	}
	return s, nil
}

// stateDict reads the tensors of the state dict that the file holds or c.key names.
func (c *checkpoint) stateDict(root any) (*StateDict, error) {
	chosen, err := c.choose(root)
	if err != nil {
		return nil, err
	}
	sd := &StateDict{}
	if chosen.name != "" {
		first, _, _ := strings.Cut(chosen.name, ".")
		for _, m := range members(root) {
			if m.name != first && !strings.HasPrefix(chosen.name, m.name+".") {
				sd.Skipped = append(sd.Skipped, m.name)
			}
		}
	}
	for _, m := range members(chosen.dict) {
		t, isTensor := m.value.(tensorValue)
		if !isTensor {
			if err := sd.skip(m); err != nil {
				return nil, err
			}
			continue
		}
		if int64(sd.Len()) >= c.lim.MaxEntries {
			return nil, &onnxio.LimitError{What: "tensors of a state dict", Got: c.lim.MaxEntries + 1,
				Limit: c.lim.MaxEntries}
		}
		out, err := t.load(c, m.name)
		if err != nil {
			return nil, err
		}
		sd.Set(m.name, out)
	}
	sd.Notes = c.notes
	return sd, nil
}

// skip notes a value that is no tensor. An object under a key that is dotted as a parameter's is an error.
func (sd *StateDict) skip(m member) error {
	if o, ok := m.value.(*pickle.Opaque); ok {
		if engine.StateKey(m.name) && !strings.HasSuffix(m.name, "._extra_state") {
			return malformed(formatPT, m.name, "an object of %s where a tensor must be; nothing was executed",
				o.Name)
		}
		if sd.objects == nil {
			sd.objects = map[string]string{}
		}
		sd.objects[m.name] = o.Name
	}
	sd.Skipped = append(sd.Skipped, m.name)
	return nil
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
	for _, v := range append(append([]int64{int64(t.typ), t.storage.offset, t.offset, int64(len(t.sizes))},
		t.sizes...), t.stride...) {
		b = binary.LittleEndian.AppendUint64(b, uint64(v))
	}
	return string(b) + t.storage.key
}

// aligned reports whether elements of this type may be read in place: a view of an untyped storage can start
// anywhere.
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
