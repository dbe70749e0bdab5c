package convert

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"hash/crc32"
	"io"
	"math"
	"sort"
	"strings"
	"unicode/utf8"

	"github.com/cnnkit/cnnkit/onnxio"
)

// zipEntry is one file of an archive (PKWARE APPNOTE 4.3.12).
type zipEntry struct {
	name         string
	flags        uint16
	method       uint16
	crc          uint32
	packed, size int64
	header       int64 // offset of the local header
	data         int64 // offset of the content
}

// zipArchive is a strict reader: one disk, no encryption, no duplicate names, local headers that agree with
// the central directory, contents that do not overlap.
type zipArchive struct {
	r       io.ReaderAt
	entries map[string]*zipEntry
}

func zipError(msg string, args ...any) error { return malformed(formatPT, "zip", msg, args...) }

func openZip(r io.ReaderAt, size int64, lim Limits) (*zipArchive, error) {
	count, dirSize, dirOff, err := zipEnd(r, size)
	if err != nil {
		return nil, err
	}
	if int64(count) > lim.MaxEntries {
		return nil, &onnxio.LimitError{What: "entries of a zip", Got: int64(min(count, math.MaxInt64)),
			Limit: lim.MaxEntries}
	}
	if count > uint64(dirSize)/46 {
		return nil, zipError("%d entries in a directory of %d bytes", count, dirSize)
	}
	dir := make([]byte, dirSize) // zipEnd saw that the file holds it
	if err := readAt(r, dir, dirOff, formatPT, "zip"); err != nil {
		return nil, err
	}
	a := &zipArchive{r: r, entries: map[string]*zipEntry{}}
	order := make([]*zipEntry, 0, count)
	for range count {
		e, rest, err := centralHeader(dir)
		if err != nil {
			return nil, err
		}
		if a.entries[e.name] != nil {
			return nil, zipError("duplicate entry %q", e.name)
		}
		dir = rest
		a.entries[e.name] = e
		order = append(order, e)
	}
	if len(dir) != 0 {
		return nil, zipError("%d bytes after the last directory entry", len(dir))
	}
	sort.Slice(order, func(i, j int) bool { return order[i].header < order[j].header })
	total, end := int64(0), int64(0)
	for _, e := range order {
		if e.header < end {
			return nil, zipError("entry %q overlaps another", e.name)
		}
		if err := a.localHeader(e, dirOff); err != nil {
			return nil, err
		}
		end = e.data + e.packed
		if total += e.size; total > 8*size+1<<20 || total > lim.MaxBytes {
			return nil, &onnxio.LimitError{What: "unpacked bytes of a zip", Got: total,
				Limit: min(8*size+1<<20, lim.MaxBytes)}
		}
	}
	return a, nil
}

// zipEnd finds the end of central directory record, and its zip64 form.
func zipEnd(r io.ReaderAt, size int64) (count uint64, dirSize, dirOff int64, err error) {
	tail := make([]byte, min(size, 22+65535))
	base := size - int64(len(tail))
	if err = readAt(r, tail, base, formatPT, "zip"); err != nil {
		return
	}
	i := bytes.LastIndex(tail, []byte("PK\x05\x06"))
	if i < 0 || len(tail)-i < 22 {
		err = zipError("no end of central directory: truncated?")
		return
	}
	e, le := tail[i:], binary.LittleEndian
	at := base + int64(i)
	if int(le.Uint16(e[20:])) != len(e)-22 || le.Uint16(e[4:]) != le.Uint16(e[6:]) {
		err = zipError("end of central directory is wrong")
		return
	}
	count = uint64(le.Uint16(e[10:]))
	sz, off, end := uint64(le.Uint32(e[12:])), uint64(le.Uint32(e[16:])), at
	if i >= 20 && bytes.HasPrefix(tail[i-20:], []byte("PK\x06\x07")) {
		end = int64(le.Uint64(tail[i-12:]))
		if end < 0 || end > at-20-56 {
			err = zipError("zip64 end of central directory is wrong")
			return
		}
		var z [56]byte
		if err = readAt(r, z[:], end, formatPT, "zip"); err != nil {
			return
		}
		if !bytes.HasPrefix(z[:], []byte("PK\x06\x06")) || le.Uint32(z[16:]) != 0 ||
			le.Uint64(z[24:]) != le.Uint64(z[32:]) {
			err = zipError("zip64 end of central directory is wrong")
			return
		}
		n64, sz64, off64 := le.Uint64(z[32:]), le.Uint64(z[40:]), le.Uint64(z[48:])
		if (count != 0xffff && count != n64) || (sz != 0xffffffff && sz != sz64) ||
			(off != 0xffffffff && off != off64) {
			err = zipError("the two ends of central directory disagree")
			return
		}
		count, sz, off = n64, sz64, off64
	} else if le.Uint16(e[4:]) != 0 || le.Uint16(e[8:]) != le.Uint16(e[10:]) {
		err = zipError("more than one disk")
		return
	}
	if off > uint64(end) || sz != uint64(end)-off {
		err = zipError("central directory of %d bytes at %d does not end at %d", sz, off, end)
		return
	}
	return count, int64(sz), int64(off), nil
}

func centralHeader(b []byte) (*zipEntry, []byte, error) {
	le := binary.LittleEndian
	if len(b) < 46 || string(b[:4]) != "PK\x01\x02" {
		return nil, nil, zipError("a directory entry is wrong")
	}
	n, x, c := int(le.Uint16(b[28:])), int(le.Uint16(b[30:])), int(le.Uint16(b[32:]))
	if len(b) < 46+n+x+c {
		return nil, nil, zipError("a directory entry is cut off")
	}
	e := &zipEntry{name: string(b[46 : 46+n]), flags: le.Uint16(b[8:]), method: le.Uint16(b[10:]),
		crc: le.Uint32(b[16:])}
	packed, size, off := uint64(le.Uint32(b[20:])), uint64(le.Uint32(b[24:])), uint64(le.Uint32(b[42:]))
	if err := zip64Extra(b[46+n:46+n+x], &size, &packed, &off); err != nil {
		return nil, nil, err
	}
	switch {
	case e.flags&(1|1<<6|1<<13) != 0:
		return nil, nil, zipError("entry %q is encrypted", e.name)
	case n == 0 || !utf8.ValidString(e.name) || strings.ContainsAny(e.name, "\x00\\"):
		return nil, nil, zipError("entry name %q", e.name)
	case e.method != 0 && e.method != 8:
		return nil, nil, &onnxio.UnsupportedError{Op: "zip compression", Reason: "entry " + e.name +
			" is neither stored nor deflated"}
	case packed > math.MaxInt64 || size > math.MaxInt64 || off > math.MaxInt64:
		return nil, nil, zipError("entry %q has impossible sizes", e.name)
	case e.method == 0 && packed != size:
		return nil, nil, zipError("entry %q is stored, but its sizes %d and %d differ", e.name, packed, size)
	case le.Uint16(b[34:]) != 0 && le.Uint16(b[34:]) != 0xffff:
		return nil, nil, zipError("more than one disk")
	}
	e.packed, e.size, e.header = int64(packed), int64(size), int64(off)
	return e, b[46+n+x+c:], nil
}

// zip64Extra replaces the fields that are all ones by those of extra field 1 (APPNOTE 4.5.3).
func zip64Extra(x []byte, fields ...*uint64) error {
	le := binary.LittleEndian
	for len(x) >= 4 {
		id, n := le.Uint16(x), int(le.Uint16(x[2:]))
		if len(x) < 4+n {
			return zipError("an extra field is cut off")
		}
		if body := x[4 : 4+n]; id == 1 {
			for _, f := range fields {
				if *f != 0xffffffff {
					continue
				}
				if len(body) < 8 {
					return zipError("the zip64 extra field is cut off")
				}
				*f, body = le.Uint64(body), body[8:]
			}
			return nil
		}
		x = x[4+n:]
	}
	return nil
}

// localHeader compares an entry's own header with the directory, and finds its content.
func (a *zipArchive) localHeader(e *zipEntry, dirOff int64) error {
	le := binary.LittleEndian
	if dirOff-e.header < 30 {
		return zipError("entry %q lies outside the file", e.name)
	}
	var b [30]byte
	if err := readAt(a.r, b[:], e.header, formatPT, "zip"); err != nil {
		return err
	}
	n, x := int64(le.Uint16(b[26:])), int64(le.Uint16(b[28:]))
	if string(b[:4]) != "PK\x03\x04" || dirOff-e.header-30 < n+x || dirOff-e.header-30-n-x < e.packed {
		return zipError("entry %q lies outside the file", e.name)
	}
	rest := make([]byte, n+x)
	if err := readAt(a.r, rest, e.header+30, formatPT, "zip"); err != nil {
		return err
	}
	crc, packed, size := le.Uint32(b[14:]), uint64(le.Uint32(b[18:])), uint64(le.Uint32(b[22:]))
	if err := zip64Extra(rest[n:], &size, &packed); err != nil {
		return err
	}
	// With bit 3 the numbers follow the content, and the header's own may be zero.
	late := le.Uint16(b[6:])&8 != 0 && crc == 0 && packed == 0 && size == 0
	same := crc == e.crc && packed == uint64(e.packed) && size == uint64(e.size)
	if string(rest[:n]) != e.name || le.Uint16(b[8:]) != e.method || le.Uint16(b[6:])&^8 != e.flags&^8 ||
		!(late || same) {
		return zipError("entry %q: local header and directory disagree", e.name)
	}
	e.data = e.header + 30 + n + x
	return nil
}

// read gives an entry's content, its CRC checked.
func (a *zipArchive) read(e *zipEntry) ([]byte, error) {
	var out []byte
	if e.method == 0 {
		out = make([]byte, e.size)
		if err := readAt(a.r, out, e.data, formatPT, e.name); err != nil {
			return nil, err
		}
	} else {
		var buf bytes.Buffer // grows with what comes out, not with what is claimed
		f := flate.NewReader(io.NewSectionReader(a.r, e.data, e.packed))
		n, err := io.Copy(&buf, io.LimitReader(f, e.size+1))
		if err != nil {
			return nil, &onnxio.FormatError{Format: formatPT, Where: e.name, Msg: "cannot inflate", Err: err}
		}
		if n != e.size {
			return nil, zipError("entry %q inflates to something other than %d bytes", e.name, e.size)
		}
		out = buf.Bytes()
	}
	if crc32.ChecksumIEEE(out) != e.crc {
		return nil, zipError("entry %q: wrong CRC", e.name)
	}
	return out, nil
}

// root is the one folder that all entries are in.
func (a *zipArchive) root() (string, error) {
	root := ""
	for name := range a.entries {
		r, _, ok := strings.Cut(name, "/")
		if !ok || r == "" {
			return "", zipError("an entry outside any folder: not a torch.save file")
		}
		if root != "" && r != root {
			return "", zipError("more than one root folder")
		}
		root = r
	}
	return root, nil
}

// loadZip reads torch.save's format since 1.6: root/data.pkl, root/byteorder and
// root/data/KEY for each storage.
func loadZip(r io.ReaderAt, size int64, lim Limits, key string) (*StateDict, error) {
	a, err := openZip(r, size, lim)
	if err != nil {
		return nil, err
	}
	root, err := a.root()
	if err != nil {
		return nil, err
	}
	pkl := a.entries[root+"/data.pkl"]
	if pkl == nil {
		return nil, zipError("no data.pkl in its root folder")
	}
	if a.entries[root+"/constants.pkl"] != nil {
		return nil, &onnxio.UnsupportedError{Op: "TorchScript archive",
			Reason: "save the module's state_dict() instead"}
	}
	big, err := a.bigEndian(root)
	if err != nil {
		return nil, err
	}
	data, err := a.read(pkl)
	if err != nil {
		return nil, err
	}
	c := newCheckpoint(size, lim, key)
	vm := newPickle(bytes.NewReader(data), 0, int64(len(data)), lim)
	vm.Persistent = c.persistent
	top, err := vm.Load()
	if err != nil {
		return nil, err
	}
	if vm.Left != 0 {
		return nil, malformed(formatPT, "pickle", "%d bytes after STOP", vm.Left)
	}
	c.read = func(s *pyStorage) ([]byte, error) { return a.storage(root, s, big) }
	return c.stateDict(top)
}

// storage reads root/data/KEY; big says that its elements must be turned round.
func (a *zipArchive) storage(root string, s *pyStorage, big bool) ([]byte, error) {
	e := a.entries[root+"/data/"+s.key]
	if e == nil {
		return nil, malformed(formatPT, "storage "+s.key, "no such entry")
	}
	if n, err := onnxio.CheckedBytes(s.typ, []int64{s.numel}); err != nil || n != e.size {
		return nil, malformed(formatPT, "storage "+s.key, "%d bytes where %d elements of %v ask for %d",
			e.size, s.numel, s.typ, n)
	}
	b, err := a.read(e)
	if err != nil || !big {
		return b, err
	}
	width := s.typ.Bits() / 8
	if s.typ == onnxio.Complex64 || s.typ == onnxio.Complex128 {
		width /= 2
	}
	for i := 0; i+width <= len(b); i += width {
		for j, k := i, i+width-1; j < k; j, k = j+1, k-1 {
			b[j], b[k] = b[k], b[j]
		}
	}
	return b, nil
}

func (a *zipArchive) bigEndian(root string) (bool, error) {
	e := a.entries[root+"/byteorder"]
	if e == nil {
		return false, nil
	}
	if e.size <= 6 {
		b, err := a.read(e)
		if err != nil {
			return false, err
		}
		switch string(b) {
		case "little":
			return false, nil
		case "big":
			return true, nil
		}
	}
	return false, zipError("byteorder is neither little nor big")
}
