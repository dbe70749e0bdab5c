// Package engines is where the engines that are not this module's own register, so that a program links those
// that it imports and no other.
package engines

import (
	"context"
	"fmt"
	"sync"
	"unsafe"

	"github.com/cnnkit/cnnkit/onnxio"
)

// MissingError says that a component is not there, why, and what to do about it.
type MissingError struct {
	Component string // "ONNX Runtime", "the CUDA execution provider"
	Reason    string
	Do        string
}

// Error is one sentence.
func (e *MissingError) Error() string { return e.Component + " is missing: " + e.Reason }

// Options say how a model is opened.
type Options struct {
	Threads int
	CUDA    int    // device, negative: CPU
	Profile string // prefix of the profile's file name
	ORT     ORTOptions
}

// ORTOptions are what ONNX Runtime alone can be told.
type ORTOptions struct {
	// execution provider besides CPU and CUDA: tensorrt, openvino, coreml, directml, xnnpack, qnn, webgpu
	Provider string
	// of that provider or of CUDA, in ONNX Runtime's words: gpu_mem_limit, device_type, ...
	ProviderOptions map[string]string
	Graph           string // optimizations: disable, basic, extended or all (the default)
	Parallel        bool   // nodes that do not depend on each other run at once
	NoArena         bool   // memory goes back to the system after every Run
	// session configuration entries, such as session.intra_op.allow_spinning
	Entries map[string]string
}

// IsZero says that nothing is told.
func (o ORTOptions) IsZero() bool {
	return o.Provider == "" && o.Graph == "" && !o.Parallel && !o.NoArena &&
		len(o.ProviderOptions)+len(o.Entries) == 0
}

// Backend is an open model.
type Backend interface {
	Run(ctx context.Context, in map[string]*onnxio.Tensor) (map[string]*onnxio.Tensor, error)
	// RunInto is Run for outputs that have their memory already.
	RunInto(ctx context.Context, in, out map[string]*onnxio.Tensor) error
	Close() error
}

// Valuer is a Backend whose outputs may be other values than tensors.
type Valuer interface {
	RunValues(ctx context.Context, in map[string]*onnxio.Tensor) (map[string]onnxio.Value, error)
}

// Binder is a Backend that can keep tensors where it computes.
type Binder interface {
	Bind(in, out map[string]*onnxio.Tensor) (Binding, error)
}

// Binding is a Backend's Run on fixed tensors.
type Binding interface {
	// Run reads the inputs again that have changed, by name.
	Run(changed []string) error
	Close() error
}

// CopyInto copies those results that have memory in out.
func CopyInto(out, got map[string]*onnxio.Tensor) error {
	for name, to := range out {
		if to == nil || len(to.Raw) > 0 && unsafe.SliceData(to.Raw) == unsafe.SliceData(got[name].Raw) {
			continue
		}
		if err := to.CopyFrom(got[name]); err != nil {
			return fmt.Errorf("output %q: %w", name, err)
		}
	}
	return nil
}

// Engine opens models.
type Engine struct {
	Open func(*onnxio.Model, Options) (Backend, error)
	// Available says why the engine cannot be used on this machine.
	Available func() error
}

var (
	mu         sync.RWMutex
	registered = map[string]Engine{}
)

// Register adds an engine, which its package does when it is imported.
func Register(name string, e Engine) {
	mu.Lock()
	defer mu.Unlock()
	registered[name] = e
}

// Find is the engine of a name, or a *MissingError that says what to import.
func Find(name string) (Engine, error) {
	mu.RLock()
	defer mu.RUnlock()
	if e, ok := registered[name]; ok {
		return e, nil
	}
	path := "github.com/cnnkit/cnnkit/runtime/" + name
	return Engine{}, &MissingError{"engine " + name, "this program does not import package " + path,
		`add import _ "` + path + `"`}
}
