package onnxgo

import (
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime/internal/engines"
)

func init() {
	engines.Register("onnxgo", engines.Engine{Available: func() error {
		return nil
	}, Open: func(m *onnxio.Model, _ engines.Options) (engines.Backend, error) {
		return Open(m)
	}})
}
