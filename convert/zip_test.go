package convert

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// entry is one file of an archive under construction.
type entry struct {
	name   string
	data   []byte
	method uint16
}

// goodEntries are those of a small state dict.
func goodEntries(t *testing.T) []entry {
	t.Helper()
	sd := &StateDict{}
	sd.Set("w", onnxio.Floats([]float32{1, 2, 3, 4}, 2, 2))
	var b bytes.Buffer
	if err := WritePT(&b, sd); err != nil {
		t.Fatal(err)
	}
	z, err := zip.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	var out []entry
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, entry{f.Name, data, zip.Store})
	}
	return out
}

// archive packs entries with sizes and sums in the local headers, as torch does.
func archive(t *testing.T, entries []entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: e.method}
		if e.method == zip.Store {
			h.CRC32, h.CompressedSize64, h.UncompressedSize64 = crc32.ChecksumIEEE(e.data),
				uint64(len(e.data)), uint64(len(e.data))
			f, err := w.CreateRaw(h)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.Write(e.data); err != nil {
				t.Fatal(err)
			}
			continue
		}
		f, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(e.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// patched replaces the little-endian number at a signature's field, in every header with that signature.
func patched(raw []byte, signature string, offset int, change func(old uint16) uint16) []byte {
	out := bytes.Clone(raw)
	for at := 0; ; {
		i := bytes.Index(out[at:], []byte(signature))
		if i < 0 {
			return out
		}
		field := out[at+i+offset:]
		binary.LittleEndian.PutUint16(field, change(binary.LittleEndian.Uint16(field)))
		at += i + 4
	}
}

const (
	localHeader   = "PK\x03\x04"
	centralRecord = "PK\x01\x02"
)

// Each archive breaks one rule; the reader must say so by a typed error that names the matter.
func TestHostileZips(t *testing.T) {
	good := goodEntries(t)
	root, _, _ := strings.Cut(good[0].name, "/")
	with := func(more ...entry) []entry { return append(append([]entry{}, good...), more...) }
	without := func(name string) []entry {
		var out []entry
		for _, e := range good {
			if e.name != root+"/"+name {
				out = append(out, e)
			}
		}
		return out
	}
	if sd, err := LoadReader(bytes.NewReader(archive(t, good)), int64(len(archive(t, good))),
		Limits{}); err != nil || sd.Len() != 1 {
		t.Fatalf("the sound archive: %v", err)
	}
	flag := func(bit uint16) func(uint16) uint16 { return func(old uint16) uint16 { return old | bit } }
	raw := archive(t, good)
	storage := bytes.Index(raw, []byte("\x00\x00\x80\x3f\x00\x00\x00\x40"))
	corrupt := bytes.Clone(raw)
	corrupt[storage] ^= 1
	bomb := entry{root + "/data/bomb", make([]byte, 64<<20), zip.Deflate}
	for name, c := range map[string]struct {
		raw  []byte
		want string
	}{
		"duplicate entry": {archive(t, with(entry{root + "/data.pkl", good[0].data, zip.Store})),
			"duplicate"},
		"two roots": {archive(t, with(entry{"other/data.pkl", nil, zip.Store})), "root"},
		"no root":   {archive(t, with(entry{"data.pkl", nil, zip.Store})), "folder"},
		"data.pkl elsewhere": {archive(t,
			append(without("data.pkl"), entry{root + "/sub/data.pkl", good[0].data, zip.Store})), "data.pkl"},
		"no storage": {archive(t, without("data/0")), "no such entry"},
		"storage of wrong size": {archive(t,
			append(without("data/0"), entry{root + "/data/0", make([]byte, 12), zip.Store})), "12 bytes"},
		"encrypted":          {patched(raw, centralRecord, 8, flag(1)), "encrypted"},
		"strongly encrypted": {patched(raw, centralRecord, 8, flag(1<<6)), "encrypted"},
		"unknown method": {patched(raw, centralRecord, 10, func(uint16) uint16 { return 12 }),
			"neither stored nor deflated"},
		"methods disagree": {patched(raw, localHeader, 8, func(uint16) uint16 { return 8 }),
			"disagree"},
		"names disagree": {bytes.Replace(raw, []byte(root+"/data.pkl"), []byte(root+"/dbta.pkl"),
			1), "disagree"},
		"sums disagree": {patched(raw, localHeader, 14, func(old uint16) uint16 {
			return old ^ 1
		}), "disagree"},
		"sizes disagree": {patched(raw, localHeader, 22, func(old uint16) uint16 {
			return old + 1
		}), "disagree"},
		"content does not match": {corrupt, "CRC"},
		"name with a NUL": {archive(t, with(entry{root + "/a\x00b", nil, zip.Store})),
			"entry name"},
		"name with a backslash": {archive(t, with(entry{root + `/..\b`, nil, zip.Store})), "entry name"},
		"TorchScript": {archive(t, with(entry{root + "/constants.pkl", nil, zip.Store})),
			"TorchScript"},
		"deflate bomb":              {archive(t, with(bomb)), "unpacked bytes"},
		"more entries than allowed": {archive(t, with(make([]entry, 0)...)), ""},
	} {
		t.Run(name, func(t *testing.T) {
			lim := Limits{}
			if c.want == "" {
				lim.MaxEntries, c.want = 2, "entries"
			}
			_, err := LoadReader(bytes.NewReader(c.raw), int64(len(c.raw)), lim)
			if !typed(err) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want a typed error about %q", err, c.want)
			}
		})
	}
}

// Deflated entries, which other writers make, are read; a big-endian file's numbers are turned round.
func TestOtherZips(t *testing.T) {
	var deflated, big []entry
	for _, e := range goodEntries(t) {
		e.method = zip.Deflate
		deflated = append(deflated, e)
		e.method = zip.Store
		switch {
		case strings.HasSuffix(e.name, "/byteorder"):
			e.data = []byte("big")
		case strings.HasSuffix(e.name, "/data/0"):
			turned := make([]byte, len(e.data))
			for i := range turned {
				turned[i] = e.data[i&^3+3-i&3]
			}
			e.data = turned
		}
		big = append(big, e)
	}
	for name, entries := range map[string][]entry{"deflated": deflated, "big-endian": big} {
		raw := archive(t, entries)
		sd, err := LoadReader(bytes.NewReader(raw), int64(len(raw)), Limits{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if w := sd.Get("w").Float32s(); w[0] != 1 || w[3] != 4 {
			t.Errorf("%s: %v", name, w)
		}
	}
}
