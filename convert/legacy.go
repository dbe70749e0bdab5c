package convert

import (
	"encoding/binary"
	"io"

	"github.com/cnnkit/cnnkit/internal/pickle"
	"github.com/cnnkit/cnnkit/onnxio"
)

// legacyMagic is 0x1950a86a20f9469cfc6c, torch/serialization.py's MAGIC_NUMBER, little-endian.
const legacyMagic = pickle.Long("\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19")

// loadLegacy reads what torch.save wrote before 1.6 (or with
// _use_new_zipfile_serialization=False): five pickles (magic, protocol, machine, object, storage
// keys), then for each key an int64 count and the elements.
func loadLegacy(r io.ReaderAt, size int64, lim Limits, key string) (*StateDict, error) {
	c := newCheckpoint(size, lim, key)
	vm := newPickle(r, 0, size, lim)
	magic, err := vm.Load()
	if err != nil {
		return nil, err
	}
	if magic != any(legacyMagic) {
		return nil, malformed(formatPT, "", "a pickle, but not one that torch.save wrote")
	}
	protocol, err := vm.Load()
	if err != nil {
		return nil, err
	}
	if protocol != any(int64(1001)) {
		return nil, malformed(formatPT, "", "legacy protocol is not 1001")
	}
	system, err := vm.Load()
	if err != nil {
		return nil, err
	}
	if d, ok := system.(*pickle.Dict); !ok || d.Get("little_endian") != any(true) {
		return nil, &onnxio.UnsupportedError{Op: "legacy checkpoint",
			Reason: "it was not written by a little-endian machine"}
	}
	vm.Persistent = c.persistent
	root, err := vm.Load()
	if err != nil {
		return nil, err
	}
	vm.Persistent = nil
	list, err := vm.Load()
	if err != nil {
		return nil, err
	}
	keys, ok := list.(*pickle.List)
	if !ok {
		return nil, malformed(formatPT, "", "the storage keys are not a list")
	}
	at, err := legacyStorages(r, size, vm.Used, keys.Items, c.ids)
	if err != nil {
		return nil, err
	}
	c.read = func(s *pyStorage) ([]byte, error) {
		n, _ := onnxio.CheckedBytes(s.typ, []int64{s.numel})
		b := make([]byte, n) // legacyStorages saw that the file holds it
		return b, readAt(r, b, at[s.key], formatPT, "storage "+s.key)
	}
	return c.stateDict(root)
}

// legacyStorages finds where the elements of each storage start.
func legacyStorages(r io.ReaderAt, size, off int64, keys []any, ids map[string]*pyStorage) (map[string]int64,
	error) {
	at := map[string]int64{}
	for _, k := range keys {
		key, _ := k.(string)
		s, ok := ids[key]
		if _, twice := at[key]; !ok || twice {
			return nil, malformed(formatPT, "", "storage key %.40q is listed twice or used nowhere", key)
		}
		var count [8]byte
		if size-off < 8 {
			return nil, malformed(formatPT, "storage "+key, "truncated")
		}
		if err := readAt(r, count[:], off, formatPT, "storage "+key); err != nil {
			return nil, err
		}
		off += 8
		if n := int64(binary.LittleEndian.Uint64(count[:])); n != s.numel {
			return nil, malformed(formatPT, "storage "+key, "holds %d elements where the pickle says %d",
				n, s.numel)
		}
		n, err := onnxio.CheckedBytes(s.typ, []int64{s.numel})
		if err != nil || n > size-off {
			return nil, malformed(formatPT, "storage "+key, "%d bytes where %d remain", n, size-off)
		}
		at[key] = off
		off += n
	}
	if len(at) != len(ids) {
		return nil, malformed(formatPT, "", "%d storages where the pickle names %d", len(at), len(ids))
	}
	if off != size {
		return nil, malformed(formatPT, "", "%d bytes after the last storage", size-off)
	}
	return at, nil
}
