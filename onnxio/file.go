package onnxio

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
)

// Load reads a model and the external data it refers to, which must be below the model's folder.
func Load(path string) (*Model, error) { return LoadLimits(path, Limits{}) }

// LoadLimits is Load with the caller's limits.
func LoadLimits(path string, lim Limits) (*Model, error) {
	m, err := load(path, lim.orDefault())
	if err != nil {
		return nil, atPath(err, path)
	}
	return m, nil
}

func load(path string, lim Limits) (*Model, error) {
	info, err := os.Stat(path) // before Open, which waits at a named pipe
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, malformed("not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, malformed("not a regular file")
	}
	m, err := Decode(f, info.Size(), lim)
	if err != nil {
		return nil, err
	}
	r := &externalReader{dir: filepath.Dir(path), limits: lim}
	defer r.close()
	err = eachTensor(m, func(t *Tensor) error {
		if len(t.External) == 0 {
			return nil
		}
		if err := r.read(t); err != nil {
			return inside(err, "tensor "+quote(t.Name))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return m, nil
}

// atPath adds the file to an error that does not name it.
func atPath(err error, path string) error {
	var f *FormatError
	if errors.As(err, &f) {
		if f.Path == "" {
			f.Path = path
		}
		return err
	}
	var p *os.PathError
	if errors.As(err, &p) && p.Path == path {
		return err
	}
	return fmt.Errorf("%s: %w", path, err)
}

// Save writes m as one file, atomically as WriteFile does. A model that would pass protobuf's limit
// of 2 GiB is written as SaveExternal writes it. Tensors whose External is set must refer to data
// that is already beside path.
func Save(path string, m *Model) error {
	e := &encoder{}
	if err := e.model(m); err != nil {
		return atPath(err, path)
	}
	if e.size > maxMessage {
		return SaveExternal(path, m, externalThreshold)
	}
	return saveEncoded(path, m, e)
}

// externalThreshold is the size from which Save moves a tensor out of a model that is too large.
const externalThreshold = 1024

func saveEncoded(path string, m *Model, e *encoder) error {
	if err := checkReferences(path, m, e.external); err != nil {
		return atPath(err, path)
	}
	return WriteFile(path, func(w io.Writer) error { return e.write(w) })
}

// checkReferences holds the external data that m already refers to against the same rules as Load does.
func checkReferences(path string, m *Model, written map[*Tensor][]Property) error {
	r := &externalReader{dir: filepath.Dir(path)}
	defer r.close()
	return eachTensor(m, func(t *Tensor) error {
		if len(t.External) == 0 || written[t] != nil {
			return nil
		}
		if _, _, err := r.check(t); err != nil {
			return inside(err, "tensor "+quote(t.Name))
		}
		return nil
	})
}

// SaveExternal writes m with the elements of every initializer of at least threshold bytes in a second file
// beside path. That file is named after its content, NAME.HASH.data, and is in place before the model that
// refers to it is, so a crash leaves the old model with its old data or the new one with the new. Data files
// of earlier saves stay: another model may refer to them.
//
// Other readers cannot infer shapes from constants that are outside, so threshold should be above the size of
// the small vectors that Reshape and the like take: 1024, as Save uses, is.
func SaveExternal(path string, m *Model, threshold int64) error {
	if err := (&encoder{}).model(m); err != nil { // before anything is written
		return atPath(err, path)
	}
	var tensors []*Tensor
	seen := map[*Tensor]bool{}
	eachInitializer(m, func(t *Tensor) {
		if t.Type != String && len(t.External) == 0 && int64(len(t.Raw)) >= max(threshold, 1) && !seen[t] {
			seen[t] = true
			tensors = append(tensors, t)
		}
	})
	e := &encoder{external: map[*Tensor][]Property{}}
	if len(tensors) > 0 {
		h := sha256.New()
		if err := writeAligned(h, tensors, nil); err != nil {
			return err
		}
		name := filepath.Base(path) + "." + hex.EncodeToString(h.Sum(nil)[:6]) + ".data"
		if err := localName(name); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		offsets := make([]int64, len(tensors))
		data := filepath.Join(filepath.Dir(path), name)
		if err := WriteFile(data, func(w io.Writer) error {
			return writeAligned(w, tensors, offsets)
		}); err != nil {
			return err
		}
		for i, t := range tensors {
			e.external[t] = []Property{
				{Key: "location", Value: name},
				{Key: "offset", Value: strconv.FormatInt(offsets[i], 10)},
				{Key: "length", Value: strconv.FormatInt(int64(len(t.Raw)), 10)},
			}
		}
	}
	if err := e.model(m); err != nil {
		return atPath(err, path)
	}
	if e.size > maxMessage {
		return fmt.Errorf("%s: %w", path, &LimitError{What: "bytes of the model without its external data",
			Got: e.size, Limit: maxMessage})
	}
	return saveEncoded(path, m, e)
}

// pageSize is what ONNX recommends offsets of external data to be multiples of, so
// that a reader can map them.
const pageSize = 4096

// writeAligned writes the elements of tensors one after the other, each from a page boundary on.
func writeAligned(w io.Writer, tensors []*Tensor, offsets []int64) error {
	at := int64(0)
	for i, t := range tensors {
		pad := -at & (pageSize - 1)
		if _, err := w.Write(make([]byte, pad)); err != nil {
			return err
		}
		at += pad
		if offsets != nil {
			offsets[i] = at
		}
		if _, err := w.Write(t.Raw); err != nil {
			return err
		}
		at += int64(len(t.Raw))
	}
	return nil
}

// eachInitializer calls f with the initializers of the model's graph and of its subgraphs,
// in the order of the file.
func eachInitializer(m *Model, f func(*Tensor)) {
	if m.Graph == nil {
		return
	}
	for graphs := []*Graph{m.Graph}; len(graphs) > 0; {
		g := graphs[0]
		graphs = graphs[1:]
		for _, t := range g.Initializers {
			f(t)
		}
		for _, n := range g.Nodes {
			for _, a := range n.Attrs {
				if a.G != nil {
					graphs = append(graphs, a.G)
				}
				graphs = append(graphs, a.Graphs...)
			}
		}
	}
}
