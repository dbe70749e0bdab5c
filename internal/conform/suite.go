package conform

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Case is one conformance case.
type Case struct {
	Kind  string // the folder that it is in: node, node-old, pytorch-converted, ...
	Name  string
	Class string // cnn, what a convolutional network meets, or extra
	Tags  []string
	Dir   string
}

// ID names a case among all.
func (c *Case) ID() string { return c.Kind + "/" + c.Name }

// The rows of the acceptance table, in order.
const (
	RowCNN     = "cnn"
	RowExotic  = "exotic types"
	RowOld     = "old opsets"
	RowExtra   = "extra"
	RowPyTorch = "pytorch and simple"
)

// Rows lists the rows of the acceptance table.
func Rows() []string { return []string{RowCNN, RowExotic, RowOld, RowExtra, RowPyTorch} }

// Row is the row of the acceptance table in which a case counts.
func (c *Case) Row() string {
	switch {
	case c.Kind == "node-old":
		return RowOld
	case c.Kind != "node":
		return RowPyTorch
	case c.Class == "extra":
		return RowExtra
	}
	for _, tag := range c.Tags {
		if tag == "exotic-dtype" {
			return RowExotic
		}
	}
	return RowCNN
}

// LoadSuite lists the cases under root that root's public.txt names, in its order.
func LoadSuite(root string) ([]*Case, error) {
	f, err := os.Open(filepath.Join(root, "public.txt"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var cases []*Case
	for lines := bufio.NewScanner(f); lines.Scan(); {
		text := lines.Text()
		if text == "" || text[0] == '#' {
			continue
		}
		fields := strings.Split(text, "\t")
		if len(fields) < 9 {
			return nil, fmt.Errorf("public.txt: %d fields in %q", len(fields), text)
		}
		c := &Case{Kind: fields[0], Name: fields[1], Class: fields[4], Dir: filepath.Join(root,
			fields[0], fields[1])}
		if fields[8] != "-" {
			c.Tags = strings.Split(fields[8], ",")
		}
		cases = append(cases, c)
	}
	if len(cases) == 0 {
		return nil, fmt.Errorf("%s lists no cases", f.Name())
	}
	return cases, nil
}

// Model reads the case's model.
func (c *Case) Model() (*onnxio.Model, error) { return onnxio.Load(filepath.Join(c.Dir, "model.onnx")) }

// Set is one pair of inputs and right outputs, by name.
type Set struct {
	Name    string
	In, Out map[string]*onnxio.Tensor
}

// Sets reads the case's data sets for its model m.
func (c *Case) Sets(m *onnxio.Model) ([]*Set, error) {
	dirs, err := filepath.Glob(filepath.Join(c.Dir, "test_data_set_*"))
	if err != nil || len(dirs) == 0 {
		return nil, fmt.Errorf("%s has no data sets: %w", c.Name, err)
	}
	var sets []*Set
	for _, dir := range dirs {
		s := &Set{Name: filepath.Base(dir), In: map[string]*onnxio.Tensor{}, Out: map[string]*onnxio.Tensor{}}
		if err := s.read(dir, m); err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name, err)
		}
		sets = append(sets, s)
	}
	return sets, nil
}

// read numbers inputs and outputs as the graph does. Files of early PyTorch list weights among the inputs and
// have no data for them.
func (s *Set) read(dir string, m *onnxio.Model) error {
	k := 0
	for _, in := range m.Graph.Inputs {
		path := filepath.Join(dir, fmt.Sprintf("input_%d.pb", k))
		if _, err := os.Stat(path); err != nil && m.Graph.Initializer(in.Name) != nil {
			continue
		}
		k++
		t, err := readTensor(path, in)
		if err != nil {
			return err
		}
		s.In[in.Name] = t
	}
	for i, out := range m.Graph.Outputs {
		t, err := readTensor(filepath.Join(dir, fmt.Sprintf("output_%d.pb", i)), out)
		if err != nil {
			return err
		}
		s.Out[out.Name] = t
	}
	return nil
}

// readTensor gives a tensor its declared type where the case holds bfloat16 as uint16, as old ones do.
func readTensor(path string, v *onnxio.ValueInfo) (*onnxio.Tensor, error) {
	if v.Type != nil && v.Type.Kind != onnxio.TensorType {
		return nil, &onnxio.UnsupportedError{Op: "value", Node: v.Name,
			Reason: "a sequence, an optional or a map that enters or leaves the model"}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	t, err := onnxio.DecodeTensor(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	if t.Type == onnxio.Uint16 && v.Type != nil && v.Type.Elem == onnxio.BFloat16 {
		t.Type = onnxio.BFloat16
	}
	t.Name = v.Name
	return t, nil
}
