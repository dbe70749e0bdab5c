//go:build !cgo || !(linux || darwin || windows)

package ort

import (
	"context"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Available says why ONNX Runtime cannot be used.
func Available() error {
	return &MissingError{Component: "ONNX Runtime",
		Reason: "this program was built without cgo (CGO_ENABLED=0)",
		Do:     "build it with a C compiler and CGO_ENABLED=1, or use --engine native"}
}

// Version is that of the library in use.
func Version() (string, error) { return "", Available() }

// CUDA says why the CUDA execution provider cannot be used.
func CUDA(int) error { return Available() }

// Backend exists so that the package has one face.
type Backend struct{}

// Open fails.
func Open(*onnxio.Model, Options) (*Backend, error) { return nil, Available() }

// Run fails.
func (*Backend) Run(context.Context, map[string]*onnxio.Tensor) (map[string]*onnxio.Tensor, error) {
	return nil, Available()
}

// RunInto fails.
func (*Backend) RunInto(context.Context, map[string]*onnxio.Tensor, map[string]*onnxio.Tensor) error {
	return Available()
}

// Close does nothing.
func (*Backend) Close() error { return nil }
