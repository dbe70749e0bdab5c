package report

import (
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

// Logger takes a run's figures as they arise. Steps count from 1 through the whole run; the figures of an
// epoch come with its last step. A Logger is used by one goroutine.
type Logger interface {
	// Log has given the figures to the system when it returns: a run that is killed has lost none of them.
	Log(step int64, values map[string]float64) error
	// Close ends the log; state says how the run ended.
	Close(state State) error
}

// Resumed is a Logger that goes on with the log of a run from a step.
type Resumed interface {
	Logger
	// Has reports whether the log had a figure of that step when it was opened. The figures of
	// an epoch come after its checkpoint, so that those of the last may be missing where the run
	// was killed between the two.
	Has(name string) bool
}

// StepLinesFile is the name of a LineLogger's file in a run's folder.
const StepLinesFile = "log.jsonl"

// LineLogger writes a JSON object for each step, as Weights & Biases keeps its history: _step, _timestamp and
// _runtime in seconds, and the figures by their names. Figures that are not finite are left out.
type LineLogger struct {
	f     *os.File
	begun time.Time
	now   func() time.Time
	had   map[string]bool
}

// NewLineLogger starts at a step, 0 for a new run: of a file that is there already, lines beyond it are
// dropped, since the resumed run writes them again.
func NewLineLogger(path string, from int64) (*LineLogger, error) {
	kept, had, err := linesUntil(path, from)
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
	return &LineLogger{f: f, begun: time.Now(), now: time.Now, had: had}, nil
}

// Has implements Resumed.
func (l *LineLogger) Has(name string) bool { return l.had[name] }

// linesUntil are the lines of a file whose step is at most last, and the figures of that step.
func linesUntil(path string, last int64) (out []byte, had map[string]bool, err error) {
	had = map[string]bool{}
	if last == 0 {
		return nil, had, nil
	}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, had, nil
	}
	if err != nil {
		return nil, nil, err
	}
	for line := range bytes.Lines(raw) {
		row := map[string]float64{}
		if json.Unmarshal(line, &row) != nil || !bytes.HasSuffix(line, []byte("\n")) ||
			int64(row["_step"]) > last {
			continue
		}
		out = append(out, line...)
		if int64(row["_step"]) == last {
			for name := range row {
				had[name] = true
			}
		}
	}
	return out, had, nil
}

// Log implements Logger.
func (l *LineLogger) Log(step int64, values map[string]float64) error {
	now := l.now()
	row := map[string]any{"_step": step, "_timestamp": float64(now.UnixMilli()) / 1000,
		"_runtime": now.Sub(l.begun).Seconds()}
	for name, v := range values {
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			row[name] = v
		}
	}
	b, err := json.Marshal(row)
	if err != nil {
		return err
	}
	_, err = l.f.Write(append(b, '\n'))
	return err
}

// Close implements Logger.
func (l *LineLogger) Close(State) error { return l.f.Close() }

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
