package convert

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/internal/pickle"
	"github.com/cnnkit/cnnkit/onnxio"
)

// view is a tensor as a pickle tells it.
type view struct {
	name, storage, key    string
	numel, offset         int64
	sizes, stride         []int64
	dtype                 string // for _rebuild_tensor_v3
	viewOffset, viewCount int64  // a legacy view of the storage, when viewCount > 0
}

// statePickle writes a state dict of views.
func statePickle(views ...view) []byte {
	p := &pickler{}
	p.op(pickle.OpProto, 2, pickle.OpEmptyDict, pickle.OpMark)
	for _, v := range views {
		p.str(v.name)
		version := "_rebuild_tensor_v2"
		if v.dtype != "" {
			version = "_rebuild_tensor_v3"
		}
		p.global("torch._utils", version)
		p.op(pickle.OpMark, pickle.OpMark)
		p.str("storage")
		p.global("torch", v.storage)
		p.str(v.key)
		p.str("cpu")
		p.int(v.numel)
		if v.viewCount > 0 {
			p.op(pickle.OpMark)
			p.str("view")
			p.int(v.viewOffset)
			p.int(v.viewCount)
			p.op(pickle.OpTuple)
		}
		p.op(pickle.OpTuple, pickle.OpBinPersID)
		p.int(v.offset)
		p.ints(v.sizes)
		p.ints(v.stride)
		p.op(pickle.OpNewFalse, pickle.OpEmptyDict)
		if v.dtype != "" {
			p.global("torch", v.dtype)
		}
		p.op(pickle.OpTuple, pickle.OpReduce)
	}
	p.op(pickle.OpSetItems, pickle.OpStop)
	return p.b
}

// torchZip wraps a pickle and the storages 0, 1, ... as torch.save does.
func torchZip(pickle []byte, storages ...[]byte) []byte {
	var w bytes.Buffer
	z := newZipWriter(&w)
	z.add("data.pkl", pickle)
	for i, s := range storages {
		z.add("data/"+string(rune('0'+i)), s)
	}
	if err := z.close(); err != nil {
		panic(err)
	}
	return w.Bytes()
}

const (
	legacyHead   = "\x80\x02\x8a\x0a" + string(legacyMagic) + "."
	legacyProto  = "\x80\x02M\xe9\x03."
	legacySystem = "\x80\x02}X\x0d\x00\x00\x00little_endian\x88s."
	legacyKeys   = "\x80\x02]X\x01\x00\x00\x000a."
)

// legacyFile joins the parts of a legacy file; counts precede the elements.
func legacyFile(head string, pickle []byte, keys string, count int64, data []byte) []byte {
	b := append([]byte(head), pickle...)
	b = append(b, keys...)
	b = binary.LittleEndian.AppendUint64(b, uint64(count))
	return append(b, data...)
}

func loadBytes(b []byte, lim Limits) (*StateDict, error) {
	return LoadReader(bytes.NewReader(b), int64(len(b)), lim)
}

func limited(err error) bool {
	var l *onnxio.LimitError
	return errors.As(err, &l)
}

// Views with stride 0 make much out of little: that much is bounded, in one tensor and over all of them.
func TestAliasExpansionIsBounded(t *testing.T) {
	four := make([]byte, 16)
	expanded := func(name string, n int64) view {
		return view{name: name, storage: "FloatStorage", key: "0", numel: 4, sizes: []int64{n},
			stride: []int64{0}}
	}
	sd, err := loadBytes(torchZip(statePickle(expanded("a", 1000)), four), Limits{})
	if err != nil || sd.Get("a").Size() != 1000 {
		t.Fatalf("a small expansion: %v", err)
	}
	if _, err := loadBytes(torchZip(statePickle(expanded("a", 1<<20)), four), Limits{}); !limited(err) {
		t.Errorf("one large expansion: %v", err)
	}
	if _, err := loadBytes(torchZip(statePickle(expanded("a", 1<<50)), four),
		Limits{MaxAlias: 1 << 62}); !limited(err) {
		t.Errorf("an expansion beyond all memory: %v", err)
	}
	var many []view
	for i := range 300 {
		many = append(many, expanded(strings.Repeat("x", i+1), 1000+int64(i)))
	}
	if _, err := loadBytes(torchZip(statePickle(many...), four), Limits{}); !limited(err) {
		t.Errorf("many small expansions: %v", err)
	}
	if _, err := loadBytes(torchZip(statePickle(many[:10]...), four), Limits{MaxAlias: 100}); !limited(err) {
		t.Errorf("the caller's limit: %v", err)
	}
}

// Depth costs no stack: nothing in the machine or in the search for a state dict is recursive.
func TestDeepNesting(t *testing.T) {
	const depth = 200_000
	for name, p := range map[string]string{
		"lists":  "\x80\x02" + strings.Repeat("]", depth) + strings.Repeat("a", depth-1) + ".",
		"tuples": "\x80\x02)" + strings.Repeat("\x85", depth) + ".",
		"dicts":  "\x80\x02" + strings.Repeat("}U\x01a", depth) + "}" + strings.Repeat("s", depth) + ".",
		"marks":  "\x80\x02" + strings.Repeat("(", depth) + ".",
		"itself": "\x80\x02}q\x00U\x01ah\x00s.",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := loadBytes(torchZip([]byte(p)), Limits{}); !typed(err) {
				t.Fatalf("error %v", err)
			}
		})
	}
}

// Lists of lists of one memoized list count their references, not what they would unfold to; values, marks
// and the memo have a limit.
func TestMemoBomb(t *testing.T) {
	laughs := "\x80\x02]q\x00"
	for i := range 100 {
		laughs += "0](" + strings.Repeat("h"+string([]byte{byte(i)}), 100) + "eq" +
			string([]byte{byte(i + 1)})
	}
	if _, err := loadBytes(torchZip([]byte(laughs+".")), Limits{}); !typed(err) {
		t.Errorf("error %v", err)
	}
	for name, p := range map[string]string{
		"values": strings.Repeat("N", 2000),
		"gets":   "Nq\x00" + strings.Repeat("h\x00", 2000),
		"dups":   "N" + strings.Repeat("2", 2000),
		"marks":  strings.Repeat("(", 2000),
		"memo":   "N" + strings.Repeat("\x94", 2000),
	} {
		if _, err := loadBytes(torchZip([]byte("\x80\x04"+p+".")), Limits{MaxObjects: 1000}); !limited(err) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// A view of an untyped storage may start at any byte; its elements are moved to where they can be read.
func TestMisalignedViews(t *testing.T) {
	data := make([]byte, 13)
	binary.LittleEndian.PutUint32(data[5:], 0x3fc00000) // 1.5
	v := view{name: "a", storage: "UntypedStorage", key: "0", numel: 13, viewOffset: 5, viewCount: 8,
		sizes: []int64{2}, stride: []int64{1}, dtype: "float32"}
	for name, b := range map[string][]byte{
		"zip":    torchZip(statePickle(v), data),
		"legacy": legacyFile(legacyHead+legacyProto+legacySystem, statePickle(v), legacyKeys, 13, data),
	} {
		sd, err := loadBytes(b, Limits{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		x := sd.Get("a")
		if !aligned(x.Raw, onnxio.Float) || !slices.Equal(x.Float32s(), []float32{1.5, 0}) {
			t.Errorf("%s: aligned %v, %v", name, aligned(x.Raw, onnxio.Float), x.Float32s())
		}
	}
}

// Everything that a legacy file says twice must be said the same way.
func TestHostileLegacy(t *testing.T) {
	const head = legacyHead + legacyProto + legacySystem
	v := view{name: "a", storage: "FloatStorage", key: "0", numel: 2, sizes: []int64{2}, stride: []int64{1}}
	huge := v
	huge.numel = 1 << 40
	p, data := statePickle(v), make([]byte, 8)
	if _, err := loadBytes(legacyFile(head, p, legacyKeys, 2, data), Limits{}); err != nil {
		t.Fatalf("the sound file: %v", err)
	}
	for name, b := range map[string][]byte{
		"magic": legacyFile("\x80\x02\x8a\x0a\x6d"+string(legacyMagic[1:])+"."+legacyProto+
			legacySystem, p, legacyKeys, 2, data),
		"magic a string": legacyFile("\x80\x02U\x01a."+legacyProto+legacySystem, p, legacyKeys, 2, data),
		"protocol":       legacyFile(legacyHead+"\x80\x02M\xe8\x03."+legacySystem, p, legacyKeys, 2, data),
		"system a list":  legacyFile(legacyHead+legacyProto+"\x80\x02].", p, legacyKeys, 2, data),
		"big endian": legacyFile(legacyHead+legacyProto+strings.Replace(legacySystem, "\x88", "\x89",
			1), p, legacyKeys, 2, data),
		"keys a dict":    legacyFile(head, p, "\x80\x02}.", 2, data),
		"key unknown":    legacyFile(head, p, "\x80\x02]X\x01\x00\x00\x001a.", 2, data),
		"key twice":      legacyFile(head, p, "\x80\x02](X\x01\x00\x00\x000X\x01\x00\x00\x000e.", 2, data),
		"key missing":    legacyFile(head, p, "\x80\x02].", 2, data),
		"count smaller":  legacyFile(head, p, legacyKeys, 1, data),
		"count larger":   legacyFile(head, p, legacyKeys, 3, data),
		"count negative": legacyFile(head, p, legacyKeys, -1, data),
		"count and size": legacyFile(head, statePickle(huge), legacyKeys, 1<<40, data),
		"bytes after":    legacyFile(head, p, legacyKeys, 2, make([]byte, 9)),
		"storage in magic": legacyFile(string(statePickle(v))+legacyProto+legacySystem, p,
			legacyKeys, 2, data),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := loadBytes(b, Limits{}); !typed(err) {
				t.Fatalf("error %v", err)
			}
		})
	}
}

// The tar format of torch before 0.1.10 is named and refused, nothing of it is extracted.
func TestTarIsRefused(t *testing.T) {
	var w bytes.Buffer
	z := tar.NewWriter(&w)
	err := errors.Join(z.WriteHeader(&tar.Header{Name: "sys_info", Mode: 0o600, Size: 4}))
	if _, e := z.Write([]byte("\x80\x02}.")); err != nil || e != nil || z.Close() != nil {
		t.Fatal(err, e)
	}
	var u *onnxio.UnsupportedError
	if _, err := loadBytes(w.Bytes(), Limits{}); !errors.As(err, &u) ||
		!strings.Contains(err.Error(), "tar") {
		t.Fatalf("error %v", err)
	}
}

// allocated is what f took from the heap, freed or not.
func allocated(f func()) int64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc)
}

// A length that a small file claims is not allocated before the bytes are seen to be there.
func TestClaimedLengthsAreNotAllocated(t *testing.T) {
	v := view{name: "a", storage: "FloatStorage", key: "0", numel: 1 << 28, sizes: []int64{1 << 28},
		stride: []int64{1}}
	for name, b := range map[string][]byte{
		"zip storage": torchZip(statePickle(v), make([]byte, 8)),
		"legacy storage": legacyFile(legacyHead+legacyProto+legacySystem, statePickle(v), legacyKeys, 1<<28,
			make([]byte, 8)),
		"pickle string": torchZip([]byte("\x80\x02X\xff\xff\xff\x7f.")),
		"pickle long":   torchZip([]byte("\x80\x02\x8b\xff\xff\xff\x7f.")),
		"safetensors": safeFile(
			`{"a":{"dtype":"F32","shape":[268435456],"data_offsets":[0,1073741824]}}`, 8),
		"safetensors head": append([]byte{0xff, 0xff, 0xff, 5, 0, 0, 0, 0}, '{', '}'),
	} {
		t.Run(name, func(t *testing.T) {
			var err error
			if n := allocated(func() { _, err = loadBytes(b, Limits{}) }); n > 1<<20 {
				t.Errorf("%d bytes for a file of %d", n, len(b))
			}
			if !typed(err) {
				t.Errorf("error %v", err)
			}
		})
	}
}
