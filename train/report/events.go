package report

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"image/png"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// Events writes a TensorBoard event file: TFRecords (tensorflow/core/lib/io/record_writer.h) of Event
// messages (tensorflow/core/util/event.proto). A method that fails makes all later ones fail with the same
// error. Not safe for concurrent use.
type Events struct {
	f   *os.File
	w   *bufio.Writer
	err error
	now func() time.Time
}

// Fields of the messages Event, SessionLog, Summary, Summary.Value and Summary.Image.
const (
	eventWallTime    protowire.Number = 1
	eventStep        protowire.Number = 2
	eventFileVersion protowire.Number = 3
	eventSummary     protowire.Number = 5
	eventSessionLog  protowire.Number = 7

	sessionStatus protowire.Number = 1

	summaryValue protowire.Number = 1
	valueTag     protowire.Number = 1
	valueSimple  protowire.Number = 2
	valueImage   protowire.Number = 4

	imageHeight     protowire.Number = 1
	imageWidth      protowire.Number = 2
	imageColorspace protowire.Number = 3
	imageEncoded    protowire.Number = 4
)

const sessionStatusStart = 1 // SessionLog.START

// files numbers the event files of this process, whose names would be the same within a second.
var files atomic.Int64

// CreateEvents makes an event file in dir, of the name that TensorBoard looks for. Of earlier files
// in dir TensorBoard then forgets what is of the epoch from or later, which a resumed run writes
// again; 0 forgets nothing.
func CreateEvents(dir string, from int) (*Events, error) {
	return createEvents(dir, from, time.Now)
}

func createEvents(dir string, from int, now func() time.Time) (*Events, error) {
	name := fmt.Sprintf("events.out.tfevents.%010d.cnnkit.%d.%03d", now().Unix(), os.Getpid(), files.Add(1)-1)
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, err
	}
	e := &Events{f: f, w: bufio.NewWriterSize(f, 64<<10), now: now}
	e.event(0, func(b []byte) []byte {
		return protowire.AppendString(protowire.AppendTag(b, eventFileVersion, protowire.BytesType),
			"brain.Event:2")
	})
	if from > 0 {
		e.event(int64(from), func(b []byte) []byte {
			start := protowire.AppendVarint(protowire.AppendTag(nil, sessionStatus, protowire.VarintType),
				sessionStatusStart)
			return protowire.AppendBytes(protowire.AppendTag(b, eventSessionLog, protowire.BytesType), start)
		})
	}
	e.flush()
	if e.err != nil {
		f.Close()
		os.Remove(f.Name())
		return nil, e.err
	}
	return e, nil
}

// Name is the file's.
func (e *Events) Name() string { return e.f.Name() }

// Epoch writes the figures of an epoch as scalars and flushes. train_loss becomes loss/train, so that
// TensorBoard puts what belongs together into one section.
func (e *Events) Epoch(epoch Epoch) error {
	for _, name := range slices.Sorted(maps.Keys(epoch.Values)) {
		e.scalar(tag(name), int64(epoch.Epoch), epoch.Values[name])
	}
	return e.flush()
}

// Scalar writes one figure, of a step of the caller's counting; the next Epoch or Close flushes it.
func (e *Events) Scalar(tag string, step int64, v float64) error {
	e.scalar(tag, step, v)
	return e.err
}

// Image writes a PNG; the next Epoch or Close flushes it.
func (e *Events) Image(tag string, step int64, picture []byte) error {
	c, err := png.DecodeConfig(bytes.NewReader(picture))
	if err != nil {
		return fmt.Errorf("image %q: %w", tag, err)
	}
	m := number(nil, imageHeight, uint64(c.Height))
	m = number(m, imageWidth, uint64(c.Width))
	m = number(m, imageColorspace, 3) // RGB
	m = protowire.AppendBytes(protowire.AppendTag(m, imageEncoded, protowire.BytesType), picture)
	e.summary(tag, step, protowire.AppendBytes(protowire.AppendTag(nil, valueImage, protowire.BytesType), m))
	return e.err
}

// Close flushes and closes the file.
func (e *Events) Close() error {
	err := e.flush()
	return errors.Join(err, e.f.Close())
}

// tag is a figure's name in TensorBoard.
func tag(name string) string {
	for _, part := range []string{"train", "validation"} {
		if rest, ok := strings.CutPrefix(name, part+"_"); ok {
			return rest + "/" + part
		}
	}
	return "run/" + name
}

func number(b []byte, field protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

func (e *Events) scalar(tag string, step int64, v float64) {
	e.summary(tag, step, protowire.AppendFixed32(protowire.AppendTag(nil, valueSimple, protowire.Fixed32Type),
		math.Float32bits(float32(v))))
}

// summary writes an Event with a Summary of one Value, of which value is what comes after the tag.
func (e *Events) summary(tag string, step int64, value []byte) {
	tag = strings.ToValidUTF8(tag, "\uFFFD") // as proto3 has strings
	v := protowire.AppendString(protowire.AppendTag(nil, valueTag, protowire.BytesType), tag)
	s := protowire.AppendBytes(protowire.AppendTag(nil, summaryValue, protowire.BytesType),
		append(v, value...))
	e.event(step, func(b []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(b, eventSummary, protowire.BytesType), s)
	})
}

func (e *Events) event(step int64, what func([]byte) []byte) {
	at := float64(e.now().UnixMicro()) / 1e6
	b := protowire.AppendFixed64(protowire.AppendTag(nil, eventWallTime, protowire.Fixed64Type),
		math.Float64bits(at))
	if step != 0 {
		b = number(b, eventStep, uint64(step))
	}
	e.record(what(b))
}

// record frames data: its length (8 bytes), the length's checksum, data, its checksum, all little-endian.
func (e *Events) record(data []byte) {
	if e.err != nil {
		return
	}
	head := binary.LittleEndian.AppendUint64(make([]byte, 0, 12), uint64(len(data)))
	head = binary.LittleEndian.AppendUint32(head, masked(head))
	_, _ = e.w.Write(head) // the writer keeps its error, which Write gives again
	_, _ = e.w.Write(data)
	_, e.err = e.w.Write(binary.LittleEndian.AppendUint32(nil, masked(data)))
}

func (e *Events) flush() error {
	if e.err == nil {
		e.err = e.w.Flush()
	}
	return e.err
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// masked is the CRC-32C of b, rotated and moved: records may contain records, whose
// plain checksums would be weak.
func masked(b []byte) uint32 {
	c := crc32.Checksum(b, castagnoli)
	return (c>>15 | c<<17) + 0xa282ead8
}
