package conform

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime"
)

// Engine answers one question about a case; nil is a pass.
type Engine struct {
	Name string
	Run  func(c *Case) error
	// Declines says of an error that the engine does not take such models, which is no fault: onnx-go is a
	// witness for a few operators and no more.
	Declines func(err error) bool
}

// timeout is the time that one case may take. The largest takes less than a second.
const timeout = 2 * time.Minute

// RuntimeEngine runs cases through a session of package runtime.
func RuntimeEngine(e runtime.Engine, opts ...runtime.Option) *Engine {
	opts = append(opts, runtime.WithEngine(e))
	out := &Engine{Name: string(e), Run: func(c *Case) error { return runCase(c, opts) }}
	if e == runtime.OnnxGo {
		out.Declines = func(err error) bool {
			var u *onnxio.UnsupportedError
			return errors.As(err, &u)
		}
	}
	return out
}

// PanicError is a panic that crossed a public API.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// recovered turns a panic into an error.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = &PanicError{p, debug.Stack()}
	}
}

func runCase(c *Case, opts []runtime.Option) (err error) {
	defer recovered(&err)
	m, err := c.Model()
	if err != nil {
		return err
	}
	sets, err := c.Sets(m)
	if err != nil {
		return err
	}
	s, err := runtime.OpenModel(m, opts...)
	if err != nil {
		return err
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	for _, set := range sets {
		if err := runSet(ctx, s, set); err != nil {
			return fmt.Errorf("%s: %w", set.Name, err)
		}
	}
	return nil
}

// runSet runs one set twice, since the second Run finds what the first has left behind.
func runSet(ctx context.Context, s runtime.Session, set *Set) error {
	in := map[string]*onnxio.Tensor{}
	for _, list := range [][]*onnxio.ValueInfo{s.Inputs(), s.Defaults()} {
		for _, v := range list {
			if t := set.In[v.Name]; t != nil {
				in[v.Name] = t
			}
		}
	}
	for range 2 {
		out, err := s.Run(ctx, in)
		if err != nil {
			return err
		}
		for _, v := range s.Outputs() {
			if err := Compare(out[v.Name], set.Out[v.Name]); err != nil {
				return fmt.Errorf("output %s: %w", v.Name, err)
			}
		}
	}
	return nil
}

// RoundTrip asks whether a model and its tensors are the same once they have been written and read.
func RoundTrip() *Engine { return &Engine{Name: "roundtrip", Run: roundTrip} }

func roundTrip(c *Case) (err error) {
	defer recovered(&err)
	m, err := c.Model()
	if err != nil {
		return err
	}
	first, err := onnxio.Encode(m)
	if err != nil {
		return err
	}
	again, err := onnxio.Decode(bytes.NewReader(first), int64(len(first)), onnxio.Limits{})
	if err != nil {
		return err
	}
	second, err := onnxio.Encode(again)
	if err != nil {
		return err
	}
	if !bytes.Equal(first, second) {
		return errors.New("the bytes differ when the model is written, read and written")
	}
	return nil
}
