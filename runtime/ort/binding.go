//go:build cgo && (linux || darwin || windows)

package ort

import (
	"fmt"
	"maps"
	"slices"

	onnxruntime "github.com/yalue/onnxruntime_go"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime/internal/engines"
)

// binding is ONNX Runtime's IO binding. Its values keep the tensors alive that they point to.
type binding struct {
	backend *Backend
	io      *onnxruntime.IoBinding
	inputs  map[string]*input // by the model's names
	outputs []onnxruntime.Value
}

// input is a tensor, and the session's name of the input that it is for.
type input struct {
	name   string
	tensor *onnxio.Tensor
	value  onnxruntime.Value
}

// Bind implements engines.Binder. ONNX Runtime copies the inputs to its device now.
func (b *Backend) Bind(in, out map[string]*onnxio.Tensor) (engines.Binding, error) {
	io, err := b.session.CreateIoBinding()
	if err != nil {
		return nil, err
	}
	k := &binding{backend: b, io: io, inputs: map[string]*input{}}
	if err := k.bind(in, out); err != nil {
		_ = k.Close()
		return nil, err
	}
	return k, nil
}

func (k *binding) bind(in, out map[string]*onnxio.Tensor) error {
	b := k.backend
	for i, name := range b.inputs {
		as := input{name: name, tensor: in[name]}
		if b.vectors[i] {
			t := &onnxio.Tensor{Type: as.tensor.Type, Dims: []int64{1}, Raw: as.tensor.Raw}
			as = input{name: vectorName(name), tensor: t}
		}
		k.inputs[name] = &as
		if err := k.read(name); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(out)) {
		i := slices.IndexFunc(b.outputs, func(o output) bool { return o.name == name })
		if err := k.write(&b.outputs[i], out[name]); err != nil {
			return fmt.Errorf("output %q: %w", name, err)
		}
	}
	return nil
}

// read binds an input with the elements that it has now. The value is made anew, for that of a scalar is a
// copy.
func (k *binding) read(name string) error {
	in := k.inputs[name]
	v, err := wrap(in.tensor)
	if err != nil {
		return fmt.Errorf("input %q: %w", name, err)
	}
	destroy([]onnxruntime.Value{in.value})
	in.value = v
	if err := k.io.BindInput(in.name, v); err != nil {
		return fmt.Errorf("input %q: %w", name, err)
	}
	return nil
}

// write binds an output to the memory of a tensor.
func (k *binding) write(o *output, t *onnxio.Tensor) error {
	as := o.name
	if o.flat && !o.widened {
		t, as = &onnxio.Tensor{Type: t.Type, Dims: []int64{t.Size()}, Raw: t.Raw}, flatName(o.name)
	}
	if o.widened || len(t.Dims) == 0 || t.Type == onnxio.String {
		return fmt.Errorf("a %v of this shape cannot be bound", t.Type)
	}
	v, err := wrap(t)
	if err != nil {
		return err
	}
	k.outputs = append(k.outputs, v)
	return k.io.BindOutput(as, v)
}

// Run implements engines.Binding.
func (k *binding) Run(changed []string) error {
	for _, name := range changed {
		if err := k.read(name); err != nil {
			return err
		}
	}
	k.backend.yield()
	return k.backend.session.RunWithBinding(k.io)
}

// Close implements engines.Binding.
func (k *binding) Close() error {
	err := k.io.Destroy()
	for _, in := range k.inputs {
		destroy([]onnxruntime.Value{in.value})
	}
	destroy(k.outputs)
	return err
}
