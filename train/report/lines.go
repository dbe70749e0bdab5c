package report

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"

	"github.com/cnnkit/cnnkit/onnxio"
)

// WriteLines writes one JSON object for each epoch, each on a line.
func WriteLines(w io.Writer, epochs []Epoch) error {
	for _, e := range epochs {
		b, err := e.MarshalJSON()
		if err != nil {
			return err
		}
		if _, err := w.Write(append(b, '\n')); err != nil {
			return err
		}
	}
	return nil
}

// SaveLines is WriteLines into a file, atomically: a resumed run's file has each epoch once.
func SaveLines(path string, epochs []Epoch) error {
	return onnxio.WriteFile(path, func(w io.Writer) error { return WriteLines(w, epochs) })
}

// ReadLines reads what WriteLines writes.
func ReadLines(r io.Reader) ([]Epoch, error) {
	var out []Epoch
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for n := 1; s.Scan(); n++ {
		var e Epoch
		if err := json.Unmarshal(s.Bytes(), &e); err != nil {
			return out, fmt.Errorf("line %d: %w", n, err)
		}
		out = append(out, e)
	}
	return out, s.Err()
}
