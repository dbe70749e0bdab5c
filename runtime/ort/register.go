package ort

import (
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime/internal/engines"
)

// MissingError says that a component is not there, why, and what to do about it.
type MissingError = engines.MissingError

// Options of a Backend.
type Options = engines.Options

func init() {
	engines.Register("ort", engines.Engine{Available: Available,
		Open: func(m *onnxio.Model, o engines.Options) (engines.Backend, error) {
			return Open(m, o)
		}})
}
