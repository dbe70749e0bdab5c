package onnxio

import "errors"

// walk calls f with every tensor of a model. Graphs inside attributes wait in a list,
// so depth costs no stack.
type walk struct {
	f      func(*Tensor) error
	graphs []*Graph
}

// eachTensor calls f with every tensor of the model, those in subgraphs, attributes and functions
// included, up to the first error.
func eachTensor(m *Model, f func(*Tensor) error) error {
	w := &walk{f: f}
	if m.Graph != nil {
		w.graphs = append(w.graphs, m.Graph)
	}
	for _, fn := range m.Functions {
		if err := w.attributes(fn.AttrProtos); err != nil {
			return err
		}
		if err := w.nodes(fn.Nodes); err != nil {
			return err
		}
	}
	for len(w.graphs) > 0 {
		g := w.graphs[len(w.graphs)-1]
		w.graphs = w.graphs[:len(w.graphs)-1]
		if err := errors.Join(w.tensors(g.Initializers...), w.sparse(g.SparseInitializers...),
			w.nodes(g.Nodes)); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) nodes(nodes []*Node) error {
	for _, n := range nodes {
		if err := w.attributes(n.Attrs); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) attributes(attrs []*Attribute) error {
	for _, a := range attrs {
		if a.G != nil {
			w.graphs = append(w.graphs, a.G)
		}
		w.graphs = append(w.graphs, a.Graphs...)
		err := errors.Join(w.tensors(a.T), w.tensors(a.Tensors...), w.sparse(a.Sparse),
			w.sparse(a.SparseTensors...))
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) tensors(ts ...*Tensor) error {
	for _, t := range ts {
		if t == nil {
			continue
		}
		if err := w.f(t); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) sparse(ss ...*SparseTensor) error {
	for _, s := range ss {
		if s == nil {
			continue
		}
		if err := w.tensors(s.Values, s.Indices); err != nil {
			return err
		}
	}
	return nil
}
