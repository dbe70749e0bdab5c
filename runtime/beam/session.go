package beam

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/io/filesystem"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/spec"
	"github.com/cnnkit/cnnkit/runtime"
	"github.com/cnnkit/cnnkit/runtime/vision"
)

// classifier is a model that is open.
type classifier struct {
	session runtime.Session
	run     vision.Forward
	spec    spec.Spec
	users   int
}

// open holds the models of this process, of which all bundles of a configuration use one.
var open struct {
	sync.Mutex
	models map[Config]*classifier
}

// acquire opens a model, or shares one that is open. The caller must release it.
func acquire(ctx context.Context, c Config) (*classifier, error) {
	open.Lock()
	defer open.Unlock()
	if m := open.models[c]; m != nil {
		m.users++
		return m, nil
	}
	m, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	if open.models == nil {
		open.models = map[Config]*classifier{}
	}
	m.users = 1
	open.models[c] = m
	return m, nil
}

// release closes a model when nobody uses it any more.
func release(c Config) error {
	open.Lock()
	defer open.Unlock()
	m := open.models[c]
	if m == nil {
		return nil
	}
	if m.users--; m.users > 0 {
		return nil
	}
	delete(open.models, c)
	return m.session.Close()
}

// open loads the model and checks that its answers are of a kind that Predict gives.
func (c Config) open(ctx context.Context) (*classifier, error) {
	m, err := load(ctx, c.Model)
	if err != nil {
		return nil, err
	}
	s, err := spec.Get(m)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Model, err)
	}
	if s.Output.Task == spec.Masks || s.Output.Task == spec.Boxes {
		return nil, fmt.Errorf(
			"%s gives %s: Predict takes models that give classes, labels or values of an image",
			c.Model, s.Output.Task)
	}
	engine := runtime.Auto
	if c.Engine != "" {
		if engine, err = runtime.ParseEngine(c.Engine); err != nil {
			return nil, err
		}
	}
	session, err := runtime.OpenModel(m, runtime.WithEngine(engine), runtime.WithThreads(c.Threads))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Model, err)
	}
	return &classifier{session: session, run: vision.Of(session, s.Input), spec: s}, nil
}

// Check opens the model and closes it again: what would fail on every worker fails here.
func (c Config) Check(ctx context.Context) (spec.Spec, error) {
	m, err := c.open(ctx)
	if err != nil {
		return spec.Spec{}, err
	}
	return m.spec, m.session.Close()
}

// load reads a model from a file, or from a file system that Beam knows by its scheme. External
// data go with files alone.
func load(ctx context.Context, path string) (*onnxio.Model, error) {
	if !strings.Contains(path, "://") {
		return onnxio.Load(path)
	}
	fs, err := filesystem.New(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer fs.Close()
	data, err := filesystem.Read(ctx, fs, path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	m, err := onnxio.Decode(bytes.NewReader(data), int64(len(data)), onnxio.Limits{})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}
