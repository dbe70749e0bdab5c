package convert

import (
	"archive/zip"
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
	"unsafe"

	"github.com/cnnkit/cnnkit/internal/pickle"
	"github.com/cnnkit/cnnkit/onnxio"
)

// storageNames and dtypeNames are the inverse of storageTypes and torchTypes.
var storageNames, dtypeNames = func() (map[onnxio.DataType]string, map[onnxio.DataType]string) {
	s, d := map[onnxio.DataType]string{}, map[onnxio.DataType]string{}
	for name, t := range storageTypes {
		if name != "UntypedStorage" && !strings.HasPrefix(name, "Q") { // those of quantized tensors
			s[t] = name
		}
	}
	for name, t := range torchTypes {
		d[t] = name
	}
	return s, d
}()

// pickler writes protocol 2.
type pickler struct{ b []byte }

func (p *pickler) op(ops ...byte) { p.b = append(p.b, ops...) }

func (p *pickler) global(module, name string) {
	p.op(pickle.OpGlobal)
	p.b = append(p.b, module+"\n"+name+"\n"...)
}

func (p *pickler) str(s string) {
	p.op(pickle.OpBinUnicode)
	p.b = append(binary.LittleEndian.AppendUint32(p.b, uint32(len(s))), s...)
}

func (p *pickler) int(v int64) {
	if v == int64(int32(v)) {
		p.op(pickle.OpBinInt)
		p.b = binary.LittleEndian.AppendUint32(p.b, uint32(v))
		return
	}
	p.op(pickle.OpLong1, 8)
	p.b = binary.LittleEndian.AppendUint64(p.b, uint64(v))
}

func (p *pickler) ints(v []int64) {
	p.op(pickle.OpMark)
	for _, x := range v {
		p.int(x)
	}
	p.op(pickle.OpTuple)
}

// tensor writes a call of _rebuild_tensor_v2, or of _v3 for element types that have no typed storage.
func (p *pickler) tensor(t *onnxio.Tensor, key int) {
	typed, ok := storageNames[t.Type]
	version := "_rebuild_tensor_v2"
	if !ok {
		version = "_rebuild_tensor_v3"
	}
	p.global("torch._utils", version)
	p.op(pickle.OpMark, pickle.OpMark)
	p.str("storage")
	if ok {
		p.global("torch", typed)
	} else {
		p.global("torch.storage", "UntypedStorage")
	}
	p.str(strconv.Itoa(key))
	p.str("cpu")
	if ok {
		p.int(t.Size())
	} else {
		p.int(int64(len(t.Raw)))
	}
	p.op(pickle.OpTuple, pickle.OpBinPersID)
	p.int(0)
	p.ints(t.Dims)
	strides := make([]int64, len(t.Dims))
	for i, n := len(t.Dims)-1, int64(1); i >= 0; i-- {
		strides[i] = n
		n *= max(t.Dims[i], 1)
	}
	p.ints(strides)
	p.op(pickle.OpNewFalse)
	p.global("collections", "OrderedDict")
	p.op(pickle.OpEmptyTuple, pickle.OpReduce)
	if !ok {
		p.global("torch", dtypeNames[t.Type])
	}
	p.op(pickle.OpTuple, pickle.OpReduce)
}

// version gives the state dict the attribute _metadata, {"": {"version": 2}}: that its keys are those of the
// newest form of the module. torchvision's MNASNet loads no state dict that does not say so; others take one
// that says nothing for an old one.
func (p *pickler) version() {
	p.op(pickle.OpEmptyDict)
	p.str("_metadata")
	p.global("collections", "OrderedDict")
	p.op(pickle.OpEmptyTuple, pickle.OpReduce)
	p.str("")
	p.op(pickle.OpEmptyDict)
	p.str("version")
	p.int(2)
	p.op(pickle.OpSetItem, pickle.OpSetItem, pickle.OpSetItem, pickle.OpBuild)
}

// WritePT writes a state dict as torch.save does since 1.6: an OrderedDict of tensors in a zip whose entries
// are stored, each at a multiple of 64 bytes. torch.load reads it with weights_only=True. Tensors that share
// their bytes, type and length become one storage: tied weights stay tied.
func WritePT(w io.Writer, sd *StateDict) error {
	if err := sd.check(); err != nil {
		return err
	}
	type piece struct {
		p *byte
		n int
		t onnxio.DataType
	}
	var p pickler
	var storages [][]byte
	keys := map[piece]int{}
	p.op(pickle.OpProto, 2)
	p.global("collections", "OrderedDict")
	p.op(pickle.OpEmptyTuple, pickle.OpReduce, pickle.OpMark)
	for _, e := range sd.entries {
		if _, ok := dtypeNames[e.Tensor.Type]; !ok {
			return &onnxio.UnsupportedError{Op: "torch tensor", Node: e.Name,
				Reason: "PyTorch has no element type " + e.Tensor.Type.String()}
		}
		if !utf8.ValidString(e.Name) {
			return fmt.Errorf("state dict: %q cannot be a key: not UTF-8", e.Name)
		}
		id := piece{unsafe.SliceData(e.Tensor.Raw), len(e.Tensor.Raw), e.Tensor.Type}
		key, ok := keys[id]
		if !ok || id.n == 0 {
			key = len(storages)
			keys[id] = key
			storages = append(storages, e.Tensor.Raw)
		}
		p.str(e.Name)
		p.tensor(e.Tensor, key)
	}
	p.op(pickle.OpSetItems)
	p.version()
	p.op(pickle.OpStop)
	z := newZipWriter(w)
	z.add("data.pkl", p.b)
	z.add("byteorder", []byte("little"))
	for i, s := range storages {
		z.add("data/"+strconv.Itoa(i), s)
	}
	z.add("version", []byte("3\n"))
	return z.close()
}

// zipWriter stores entries at multiples of 64 bytes, without times, so that the same
// content gives the same bytes.
type zipWriter struct {
	count countWriter
	z     *zip.Writer
	err   error
}

type countWriter struct {
	w *bufio.Writer
	n int64
}

func (c *countWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

func newZipWriter(w io.Writer) *zipWriter {
	z := &zipWriter{count: countWriter{w: bufio.NewWriterSize(w, 1<<16)}}
	z.z = zip.NewWriter(&z.count)
	return z
}

func (z *zipWriter) add(name string, data []byte) {
	if z.err != nil {
		return
	}
	if z.err = z.z.Flush(); z.err != nil {
		return
	}
	name = "archive/" + name
	// The padding is an extra field "FB", as PyTorch's own writer pads.
	start := z.count.n + 30 + int64(len(name)) + 4
	pad := int(-start & 63)
	extra := append([]byte{'F', 'B', byte(pad), 0}, make([]byte, pad)...)
	f, err := z.z.CreateRaw(&zip.FileHeader{Name: name, Method: zip.Store, CRC32: crc32.ChecksumIEEE(data),
		CompressedSize64: uint64(len(data)), UncompressedSize64: uint64(len(data)), Extra: extra})
	if err == nil {
		_, err = f.Write(data)
	}
	z.err = err
}

func (z *zipWriter) close() error {
	if z.err == nil {
		z.err = z.z.Close()
	}
	if z.err == nil {
		z.err = z.count.w.Flush()
	}
	return z.err
}
