package report

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"hash/crc32"
	"image/png"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden holds files that testdata/report/check_events.py has given to TensorBoard's own reader.
const golden = "../../testdata/report"

func clock() func() time.Time {
	at := time.Unix(1760000000, 0).UTC()
	return func() time.Time {
		at = at.Add(500 * time.Millisecond)
		return at
	}
}

// writeEvents writes two epochs, an image and a value that is not finite.
func writeEvents(t *testing.T, dir string) string {
	t.Helper()
	e, err := createEvents(dir, 0, clock())
	if err != nil {
		t.Fatal(err)
	}
	picture, err := PNG(slope(12, 8))
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		e.Epoch(Epoch{Epoch: 1, Values: map[string]float64{"train_loss": 1.5, "validation_loss": 1.25,
			"lr": 0.1, "top3": 0.75}}),
		e.Image("samples/0", 1, picture),
		e.Scalar("loss/step", 4_000_000_000, 0.5),
		e.Epoch(Epoch{Epoch: 2, Values: map[string]float64{"train_loss": math.Inf(1), "validation_loss": 0.3,
			"lr": 0.01, "top3": 1}}),
		e.Close(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return e.Name()
}

// The bytes are those that TensorBoard's reader has been seen to read.
func TestEventsGolden(t *testing.T) {
	got, err := os.ReadFile(writeEvents(t, t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(golden, "events.out.tfevents.1760000000.golden.0.0")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes, not the %d of %s; if that is meant, -update it and run check_events.py", len(got),
			len(want), path)
	}
}

// event is what readEvents finds.
type event struct {
	wall    float64
	step    int64
	version string
	start   bool
	tag     string
	value   float32
	image   []byte
}

// readEvents reads a file by the format's description, checksums included.
func readEvents(t *testing.T, path string) []event {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := func(b []byte) uint32 {
		c := crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
		return (c>>15 | c<<17) + 0xa282ead8
	}
	var out []event
	for len(b) > 0 {
		if len(b) < 16 {
			t.Fatalf("%d bytes are left", len(b))
		}
		n := binary.LittleEndian.Uint64(b)
		if got := binary.LittleEndian.Uint32(b[8:]); got != sum(b[:8]) || n > uint64(len(b)-16) {
			t.Fatalf("length %d, checksum %x, of it %x", n, got, sum(b[:8]))
		}
		data := b[12 : 12+n]
		if got := binary.LittleEndian.Uint32(b[12+n:]); got != sum(data) {
			t.Fatalf("checksum %x, of the data %x", got, sum(data))
		}
		b = b[16+n:]
		var e event
		fields(t, data, func(num protowire.Number, v uint64, sub []byte) {
			switch num {
			case 1:
				e.wall = math.Float64frombits(v)
			case 2:
				e.step = int64(v)
			case 3:
				e.version = string(sub)
			case 5:
				fields(t, sub, func(_ protowire.Number, _ uint64, value []byte) { e.read(t, value) })
			case 7:
				fields(t, sub, func(num protowire.Number, v uint64, _ []byte) {
					e.start = num == 1 && v == 1
				})
			}
		})
		out = append(out, e)
	}
	return out
}

func (e *event) read(t *testing.T, value []byte) {
	fields(t, value, func(num protowire.Number, v uint64, sub []byte) {
		switch num {
		case 1:
			e.tag = string(sub)
		case 2:
			e.value = math.Float32frombits(uint32(v))
		case 4:
			fields(t, sub, func(num protowire.Number, _ uint64, sub []byte) {
				if num == 4 {
					e.image = sub
				}
			})
		}
	})
}

func fields(t *testing.T, b []byte, f func(num protowire.Number, v uint64, sub []byte)) {
	t.Helper()
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		b = b[n:]
		var v uint64
		var sub []byte
		switch typ {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(b)
		case protowire.Fixed32Type:
			var x uint32
			x, n = protowire.ConsumeFixed32(b)
			v = uint64(x)
		case protowire.Fixed64Type:
			v, n = protowire.ConsumeFixed64(b)
		case protowire.BytesType:
			sub, n = protowire.ConsumeBytes(b)
		default:
			n = -1
		}
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		b = b[n:]
		f(num, v, sub)
	}
}

func TestEvents(t *testing.T) {
	path := writeEvents(t, t.TempDir())
	if !regexp.MustCompile(`^events\.out\.tfevents\.1760000000\.cnnkit\.\d+\.\d+$`).MatchString(
		filepath.Base(path)) {
		t.Error(path)
	}
	want := []event{{version: "brain.Event:2"}, {step: 1, tag: "run/lr", value: 0.1},
		{step: 1, tag: "run/top3", value: 0.75},
		{step: 1, tag: "loss/train", value: 1.5}, {step: 1, tag: "loss/validation", value: 1.25}, {step: 1,
			tag: "samples/0"},
		{step: 4_000_000_000, tag: "loss/step", value: 0.5}, {step: 2, tag: "run/lr", value: 0.01}, {step: 2,
			tag: "run/top3", value: 1},
		{step: 2, tag: "loss/train", value: float32(math.Inf(1))},
		{step: 2, tag: "loss/validation", value: 0.3}}
	got := readEvents(t, path)
	if len(got) != len(want) {
		t.Fatalf("%d events, want %d", len(got), len(want))
	}
	for i, e := range got {
		w := want[i]
		if e.step != w.step || e.tag != w.tag || e.value != w.value || e.version != w.version ||
			e.wall != 1760000001+0.5*float64(i) {
			t.Errorf("event %d is %+v, want %+v", i, e, w)
		}
		if e.tag == "samples/0" {
			if img, err := png.Decode(bytes.NewReader(e.image)); err != nil ||
				img.Bounds() != slope(12, 8).Bounds() {
				t.Errorf("%v", err)
			}
		}
	}
}

// A resumed run has a file of its own, which says from which epoch on the earlier ones are void.
func TestEventsResume(t *testing.T) {
	dir := t.TempDir()
	first := writeEvents(t, dir)
	e, err := CreateEvents(dir, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(e.Epoch(Epoch{Epoch: 2, Values: map[string]float64{"bad \xff name": 1}}),
		e.Close()); err != nil {
		t.Fatal(err)
	}
	got := readEvents(t, e.Name())
	if e.Name() == first || len(got) != 3 || !got[1].start || got[1].step != 2 ||
		got[2].tag != "run/bad \uFFFD name" {
		t.Errorf("%s: %+v", e.Name(), got)
	}
}

// An epoch can be read as soon as it is written, and a file that cannot be written to says so from then on.
func TestEventsFlushAndFail(t *testing.T) {
	e, err := CreateEvents(t.TempDir(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Epoch(Epoch{Epoch: 1, Values: map[string]float64{"lr": 1}}); err != nil {
		t.Fatal(err)
	}
	if got := readEvents(t, e.Name()); len(got) != 2 {
		t.Errorf("%+v", got)
	}
	if err := e.Image("a", 1, []byte("no picture")); err == nil || errors.Is(err, io.ErrShortWrite) {
		t.Error(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := e.Epoch(Epoch{Epoch: 2, Values: map[string]float64{"lr": 1}}); !errors.Is(err,
			os.ErrClosed) {
			t.Error(err)
		}
	}
	if _, err := CreateEvents(filepath.Join(t.TempDir(), strings.Repeat("no", 3)), 0); !errors.Is(err,
		os.ErrNotExist) {
		t.Error(err)
	}
}
