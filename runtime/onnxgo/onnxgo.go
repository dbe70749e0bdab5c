// Package onnxgo runs models with github.com/owulveryck/onnx-go and its gorgonia backend: a decoder and
// executor that shares no code with the rest, as an independent witness. Use it through package runtime.
//
// onnx-go knows few operators, and of those only some attributes and shapes, and is slow. What it gets wrong
// or fails on is refused when a model is opened. A model is rewritten for it (rewrite.go): the batch becomes
// a number, and operators are written in the one way that it understands.
package onnxgo

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/owulveryck/onnx-go"
	"github.com/owulveryck/onnx-go/backend/x/gorgonnx"
	"gorgonia.org/tensor"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/infer"
	"github.com/cnnkit/cnnkit/runtime/internal/engines"
)

// Backend runs one model, one call at a time.
type Backend struct {
	mu    sync.Mutex
	model *onnxio.Model
	input string
}

// supported are the operators for which onnx-go's answers have been seen to be right.
var supported = []string{"Conv", "Relu", "MaxPool", "Flatten", "Reshape", "Gemm", "MatMul", "LogSoftmax",
	"Softmax", "Add", "Mul",
	"Sub", "Div", "Sigmoid", "Tanh", "BatchNormalization", "Concat", "Dropout", "Identity",
	"GlobalAveragePool"}

// Open refuses at once what onnx-go cannot run.
func Open(m *onnxio.Model) (*Backend, error) {
	b := &Backend{model: m}
	for _, v := range m.Graph.Inputs {
		if m.Graph.Initializer(v.Name) == nil {
			if b.input != "" {
				return nil, &onnxio.UnsupportedError{Op: "model",
					Reason: "onnx-go is given models of one input only"}
			}
			b.input = v.Name
		}
	}
	if b.input == "" || len(m.Graph.Outputs) != 1 {
		return nil, &onnxio.UnsupportedError{Op: "model",
			Reason: "onnx-go is given models of one input and one output only"}
	}
	for _, n := range m.Graph.Nodes {
		if n.Domain != "" || !slices.Contains(supported, n.OpType) {
			return nil, &onnxio.UnsupportedError{Op: n.OpType, Node: n.Name,
				Reason: "onnx-go has no such operator"}
		}
	}
	shapes, err := infer.Shapes(m)
	if err != nil {
		return nil, err
	}
	for _, n := range m.Graph.Nodes {
		if reason := refusal(m.Graph, n, shapes); reason != "" {
			return nil, &onnxio.UnsupportedError{Op: n.OpType, Node: n.Name, Reason: "onnx-go " + reason}
		}
	}
	return b, nil
}

// Run implements the session. The graph is built anew for every call, since a run of
// onnx-go changes its weights.
func (b *Backend) Run(ctx context.Context, in map[string]*onnxio.Tensor) (out map[string]*onnxio.Tensor,
	err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	x := in[b.input]
	if x.Type != onnxio.Float || len(x.Dims) == 0 {
		return nil, &onnxio.UnsupportedError{Op: "input",
			Reason: "onnx-go is given float32 tensors of rank 1 and more only"}
	}
	m, err := rewritten(b.model, b.input, x.Dims)
	if err != nil {
		return nil, err
	}
	data, err := onnxio.Encode(m)
	if err != nil {
		return nil, err
	}
	defer func() { // onnx-go and gorgonia panic on what they do not expect
		if p := recover(); p != nil {
			out, err = nil, fmt.Errorf("onnx-go: %v", p)
		}
	}()
	graph := gorgonnx.NewGraph()
	model := onnx.NewModel(graph)
	if err := model.UnmarshalBinary(data); err != nil {
		return nil, fmt.Errorf("onnx-go: %w", err)
	}
	shape := make([]int, len(x.Dims))
	for i, d := range x.Dims {
		shape[i] = int(d)
	}
	if err := model.SetInput(0, tensor.New(tensor.WithShape(shape...),
		tensor.WithBacking(slices.Clone(x.Float32s())))); err != nil {
		return nil, fmt.Errorf("onnx-go: %w", err)
	}
	if err := graph.Run(); err != nil {
		return nil, fmt.Errorf("onnx-go: %w", err)
	}
	ys, err := model.GetOutputTensors()
	if err != nil || len(ys) != 1 {
		return nil, fmt.Errorf("onnx-go: %d outputs, %v", len(ys), err)
	}
	return b.result(ys[0])
}

// RunInto implements the session.
func (b *Backend) RunInto(ctx context.Context, in, out map[string]*onnxio.Tensor) error {
	got, err := b.Run(ctx, in)
	if err != nil {
		return err
	}
	return engines.CopyInto(out, got)
}

func (b *Backend) result(y tensor.Tensor) (map[string]*onnxio.Tensor, error) {
	values, ok := y.Data().([]float32)
	if !ok {
		return nil, fmt.Errorf("onnx-go: the output is %T", y.Data())
	}
	var dims []int64
	for _, d := range y.Shape() {
		dims = append(dims, int64(d))
	}
	name := b.model.Graph.Outputs[0].Name
	t := onnxio.Floats(slices.Clone(values), dims...)
	t.Name = name
	return map[string]*onnxio.Tensor{name: t}, nil
}

// Close does nothing.
func (b *Backend) Close() error { return nil }
