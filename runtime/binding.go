package runtime

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime/internal/engines"
)

// Binding is a session's Run on the same tensors again and again, which ONNX Runtime calls IO binding. It is
// for one goroutine; closing its session closes it.
type Binding struct {
	session *session
	in, out map[string]*onnxio.Tensor
	bound   engines.Binding // nil: the engine reads and writes the tensors in every Run
}

// Bind fixes the tensors that Runs read and write: every input that the session needs, and the outputs that
// are wanted, of the type and shape that the model gives for these inputs. An engine that computes on a
// device of its own copies the inputs there once.
func (s *session) Bind(in, out map[string]*onnxio.Tensor) (*Binding, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.takes(context.Background(), in); err != nil {
		return nil, err
	}
	if err := s.has(out); err != nil {
		return nil, err
	}
	for name, t := range out {
		if t == nil {
			return nil, fmt.Errorf("output %q has no tensor to be bound to", name)
		}
		if err := t.Check(); err != nil {
			return nil, fmt.Errorf("output %q: %w", name, err)
		}
	}
	b := &Binding{session: s, in: maps.Clone(in), out: maps.Clone(out)}
	if e, ok := s.backend.(engines.Binder); ok && !s.defaulted(in) {
		var err error
		if b.bound, err = e.Bind(b.in, b.out); err != nil {
			return nil, err
		}
		if s.bindings == nil {
			s.bindings = map[*Binding]bool{}
		}
		s.bindings[b] = true
	}
	return b, nil
}

// Run computes the bound outputs from the bound inputs. changed names the inputs whose elements are others
// than in the Run before; an engine with a device of its own reads those alone again.
func (b *Binding) Run(ctx context.Context, changed ...string) error {
	for _, name := range changed {
		if b.in[name] == nil {
			return fmt.Errorf("no input %q is bound: those are %s", name,
				strings.Join(slices.Sorted(maps.Keys(b.in)), ", "))
		}
	}
	if b.bound == nil {
		return b.session.RunInto(ctx, b.in, b.out)
	}
	b.session.mu.RLock()
	defer b.session.mu.RUnlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if !b.session.bindings[b] {
		return errors.New("the binding is closed")
	}
	return b.bound.Run(changed)
}

// Close releases what the binding holds of the engine; the tensors stay.
func (b *Binding) Close() error {
	b.session.mu.Lock()
	defer b.session.mu.Unlock()
	return b.close()
}

func (b *Binding) close() error {
	if !b.session.bindings[b] {
		return nil
	}
	delete(b.session.bindings, b)
	return b.bound.Close()
}
