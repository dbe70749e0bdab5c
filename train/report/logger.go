package report

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"slices"
	"time"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Logger takes a run's figures as they arise. Steps count from 1 through the whole run; the figures of an epoch come with
// its last step. A Logger is used by one goroutine.
type Logger interface {
	Log(step int64, values map[string]float64) error
	// Close writes what is left; state says how the run ended.
	Close(state State) error
}

// StepLinesFile is the name of a LineLogger's file in a run's folder.
const StepLinesFile = "log.jsonl"

// LineLogger writes a JSON object for each step, as Weights & Biases keeps its history: _step, _timestamp and _runtime in
// seconds, and the figures by their names. Figures that are not finite are left out.
type LineLogger struct {
	f     *os.File
	w     *bufio.Writer
	begun time.Time
	now   func() time.Time
}

// NewLineLogger starts at a step, 0 for a new run: of a file that is there already, lines beyond it are dropped, since the
// resumed run writes them again.
func NewLineLogger(path string, from int64) (*LineLogger, error) {
	kept, err := linesUntil(path, from)
	if err != nil {
		return nil, err
	}
	write := func(w io.Writer) error { _, err := w.Write(kept); return err }
	if err := onnxio.WriteFile(path, write); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return nil, err
	}
	return &LineLogger{f: f, w: bufio.NewWriter(f), begun: time.Now(), now: time.Now}, nil
}

// linesUntil are the lines of a file whose step is at most last.
func linesUntil(path string, last int64) ([]byte, error) {
	if last == 0 {
		return nil, nil
	}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []byte
	for line := range bytes.Lines(raw) {
		var at struct {
			Step int64 `json:"_step"`
		}
		if json.Unmarshal(line, &at) == nil && at.Step <= last && bytes.HasSuffix(line, []byte("\n")) {
			out = append(out, line...)
		}
	}
	return out, nil
}

// Log implements Logger.
func (l *LineLogger) Log(step int64, values map[string]float64) error {
	now := l.now()
	row := map[string]any{"_step": step, "_timestamp": float64(now.UnixMilli()) / 1000, "_runtime": now.Sub(l.begun).Seconds()}
	for name, v := range values {
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			row[name] = v
		}
	}
	b, err := json.Marshal(row)
	if err != nil {
		return err
	}
	_, err = l.w.Write(append(b, '\n'))
	return err
}

// Close implements Logger.
func (l *LineLogger) Close(State) error { return errors.Join(l.w.Flush(), l.f.Close()) }

// flatten gives the fields of a JSON object as text, nested ones by dotted names.
func flatten(raw json.RawMessage) (map[string]string, error) {
	out := map[string]string{}
	if len(raw) == 0 {
		return out, nil
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, fmt.Errorf("the run's configuration: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		value := bytes.TrimSpace(fields[name])
		if len(value) > 0 && value[0] == '{' {
			inner, err := flatten(value)
			if err != nil {
				return nil, err
			}
			for k, v := range inner {
				out[name+"."+k] = v
			}
			continue
		}
		var text string
		if json.Unmarshal(value, &text) != nil {
			text = string(value)
		}
		out[name] = text
	}
	return out, nil
}
