package runtime

import (
	"context"
	"maps"
	"sync"

	"github.com/cnnkit/cnnkit/onnxio"
)

// defaults are a model's inputs that have an initializer. Engines other than the native one take initializers
// for constants; a Run that gives another value goes to the same model without those initializers, opened
// when it is first asked for.
type defaults struct {
	model  *onnxio.Model
	inputs []*onnxio.ValueInfo

	mu   sync.Mutex
	free backend
}

// run fills in the defaults that the caller leaves out.
func (d *defaults) run(ctx context.Context, c config,
	in map[string]*onnxio.Tensor) (map[string]*onnxio.Tensor, error) {
	b, err := d.open(c)
	if err != nil {
		return nil, err
	}
	in = maps.Clone(in)
	for _, v := range d.inputs {
		if in[v.Name] == nil {
			in[v.Name] = d.model.Graph.Initializer(v.Name)
		}
	}
	return b.Run(ctx, in)
}

func (d *defaults) open(c config) (backend, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.free != nil {
		return d.free, nil
	}
	open := map[string]bool{}
	for _, v := range d.inputs {
		open[v.Name] = true
	}
	m, g := *d.model, *d.model.Graph
	m.Graph, g.Initializers = &g, nil
	for _, t := range d.model.Graph.Initializers {
		if !open[t.Name] {
			g.Initializers = append(g.Initializers, t)
		}
	}
	b, err := c.open(&m)
	d.free = b
	return b, err
}

func (d *defaults) close() error {
	if d.free == nil {
		return nil
	}
	return d.free.Close()
}
