// Package engines is where the engines that are not this module's own register, so that a program links those that it
// imports and no other.
package engines

import (
	"context"
	"sync"

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
}

// Backend is an open model.
type Backend interface {
	Run(ctx context.Context, in map[string]*onnxio.Tensor) (map[string]*onnxio.Tensor, error)
	Close() error
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
	return Engine{}, &MissingError{"engine " + name, "this program does not import package " + path, `add import _ "` + path + `"`}
}
