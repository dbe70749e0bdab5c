//go:build cgo && (linux || darwin || windows)

package ort

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	onnxruntime "github.com/yalue/onnxruntime_go"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime/internal/engines"
)

// MaxIRVersion is the newest IR version that the pinned library reads.
const MaxIRVersion = 13

var environment = sync.OnceValue(func() error {
	path, err := Library()
	if err != nil {
		return err
	}
	quiet()
	onnxruntime.SetSharedLibraryPath(path)
	if err := onnxruntime.InitializeEnvironment(onnxruntime.WithLogLevelError()); err != nil {
		reason := err.Error()
		if strings.Contains(reason, "setting ORT API base") {
			reason = fmt.Sprintf("%s is too old: version 1.24 or newer is needed", path)
		}
		return &MissingError{Component: "ONNX Runtime", Reason: reason, Do: howToInstall}
	}
	if os.Getenv("ORT_DISABLE_TELEMETRY") != "0" {
		_ = onnxruntime.DisableTelemetry() // older versions, on Windows
	}
	return nil
})

// quiet keeps ONNX Runtime from reporting to its makers: from version 1.29 on its official builds do so on
// every system, with the names of model files and graphs, unless this variable is set when the library is
// loaded. Who sets it decides.
func quiet() {
	if _, set := os.LookupEnv("ORT_DISABLE_TELEMETRY"); !set {
		_ = os.Setenv("ORT_DISABLE_TELEMETRY", "1") // with cgo, C's environment too
	}
}

// Available says why ONNX Runtime cannot be used; nil when it can. The library is loaded once
// in the life of a process.
func Available() error { return environment() }

// Version is that of the library in use.
func Version() (string, error) {
	if err := Available(); err != nil {
		return "", err
	}
	return onnxruntime.GetVersion(), nil
}

// CUDA says why the CUDA execution provider cannot be used on a device; nil when it can.
func CUDA(device int) error {
	if err := Available(); err != nil {
		return err
	}
	o, err := onnxruntime.NewSessionOptions()
	if err != nil {
		return err
	}
	defer o.Destroy()
	return useCUDA(o, device, nil)
}

// useCUDA asks for the provider. Updating its options, not appending it, tells the real
// reason when it is missing.
func useCUDA(o *onnxruntime.SessionOptions, device int, more map[string]string) error {
	missing := func(err error) error {
		return &MissingError{Component: "the CUDA execution provider", Reason: err.Error(),
			Do: "run 'cnnkit runtime install --cuda', or point CNNKIT_ORT_LIB at a library that has the " +
				"provider beside it, or use --provider cpu"}
	}
	cuda, err := onnxruntime.NewCUDAProviderOptions()
	if err != nil {
		return missing(err)
	}
	defer cuda.Destroy()
	all := map[string]string{"device_id": fmt.Sprint(device)}
	maps.Copy(all, more)
	if err := cuda.Update(all); err != nil {
		return missing(err)
	}
	if err := o.AppendExecutionProviderCUDA(cuda); err != nil {
		return missing(err)
	}
	return nil
}

// Backend is an ONNX Runtime session. No Run may be in progress at Close, or come after it. One that is
// dropped without Close is closed by the garbage collector.
type Backend struct {
	dropped goruntime.Cleanup
	session *onnxruntime.DynamicAdvancedSession
	inputs  []string // the model's
	vectors []bool   // inputs that are scalars to the model and vectors to the session
	outputs []output
	results int          // outputs of the session: the model's, then shapes
	unsure  atomic.Bool  // shapes of outputs were predicted wrongly
	yielded atomic.Int64 // when yield last did, since start
}

// Open hands ONNX Runtime a model that onnxio/check has passed.
func Open(m *onnxio.Model, opt Options) (*Backend, error) {
	if err := Available(); err != nil {
		return nil, err
	}
	if m.IRVersion > MaxIRVersion {
		return nil, &onnxio.UnsupportedError{Op: "model",
			Reason: fmt.Sprintf("IR version %d; ONNX Runtime here reads up to %d", m.IRVersion, MaxIRVersion)}
	}
	b := &Backend{}
	var inputs []*onnxio.ValueInfo
	for _, v := range m.Graph.Inputs {
		if m.Graph.Initializer(v.Name) == nil {
			inputs, b.inputs = append(inputs, v), append(b.inputs, v.Name)
		}
	}
	if len(b.inputs) == 0 || len(m.Graph.Outputs) == 0 {
		return nil, &onnxio.UnsupportedError{Op: "model", Reason: "a model needs an input and an output"}
	}
	m, plan, ins, outs := adapted(m, inputs)
	b.outputs, b.results = plan, len(outs)
	for i, name := range ins {
		b.vectors = append(b.vectors, name != b.inputs[i])
	}
	o, err := sessionOptions(opt)
	if err != nil {
		return nil, err
	}
	defer o.Destroy()
	if b.session, err = create(m, ins, outs, o); err != nil {
		return nil, err
	}
	b.dropped = goruntime.AddCleanup(b,
		func(s *onnxruntime.DynamicAdvancedSession) { _ = s.Destroy() }, b.session)
	return b, nil
}

func sessionOptions(opt Options) (*onnxruntime.SessionOptions, error) {
	o, err := onnxruntime.NewSessionOptions()
	if err != nil {
		return nil, err
	}
	steps := []func() error{
		func() error { return o.SetIntraOpNumThreads(opt.Threads) },
		func() error { return o.SetInterOpNumThreads(1) },
		func() error { return o.SetLogSeverityLevel(onnxruntime.LoggingLevelError) },
	}
	if opt.Profile != "" {
		steps = append(steps, func() error { return o.EnableProfiling(opt.Profile) })
	}
	if opt.CUDA >= 0 {
		steps = append(steps, func() error { return useCUDA(o, opt.CUDA, opt.ORT.ProviderOptions) })
	}
	steps = append(steps, ownSteps(o, opt.ORT)...)
	for _, s := range steps {
		if err := s(); err != nil {
			o.Destroy()
			return nil, err
		}
	}
	return o, nil
}

// create encodes the model; one beyond protobuf's 2 GB goes by a file with external data.
func create(m *onnxio.Model, in, out []string,
	o *onnxruntime.SessionOptions) (*onnxruntime.DynamicAdvancedSession, error) {
	total := 0
	for _, t := range m.Graph.Initializers {
		total += len(t.Raw)
	}
	if total < 1<<31-1<<24 {
		data, err := onnxio.Encode(m)
		if err != nil {
			return nil, err
		}
		return onnxruntime.NewDynamicAdvancedSessionWithONNXData(data, in, out, o)
	}
	dir, err := os.MkdirTemp("", "cnnkit-ort-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "model.onnx")
	if err := onnxio.Save(path, m); err != nil {
		return nil, err
	}
	return onnxruntime.NewDynamicAdvancedSession(path, in, out, o)
}

// Run implements the session. ONNX Runtime reads the inputs where they are, and writes outputs of known shape
// where the caller gets them.
func (b *Backend) Run(ctx context.Context, in map[string]*onnxio.Tensor) (map[string]*onnxio.Tensor, error) {
	return b.runFor(ctx, in, nil)
}

// RunValues is Run with sequences and maps among the outputs.
func (b *Backend) RunValues(ctx context.Context, in map[string]*onnxio.Tensor) (map[string]onnxio.Value,
	error) {
	return runFor(ctx, b, in, nil, valueOf)
}

// RunInto implements the session. ONNX Runtime writes outputs of known shape where they shall
// be; others are copied there.
func (b *Backend) RunInto(ctx context.Context, in, out map[string]*onnxio.Tensor) error {
	got, err := b.runFor(ctx, in, out)
	if err != nil {
		return err
	}
	return engines.CopyInto(out, got)
}

func (b *Backend) runFor(ctx context.Context, in, room map[string]*onnxio.Tensor) (map[string]*onnxio.Tensor,
	error) {
	return runFor(ctx, b, in, room, unwrap)
}

// runFor runs; room is the memory of outputs, where the caller has it, and unwrap takes over those that ONNX
// Runtime has allocated.
func runFor[V onnxio.Value](ctx context.Context, b *Backend, in, room map[string]*onnxio.Tensor,
	unwrap func(onnxruntime.Value) (V, error)) (map[string]V, error) {
	if b.unsure.Load() {
		return runWith(ctx, b, in, nil, false, unwrap)
	}
	out, err := runWith(ctx, b, in, room, true, unwrap)
	if err == nil || ctx.Err() != nil {
		return out, err
	}
	// Where the model describes an operator of a foreign domain wrongly, the fault may lie
	// with the prepared outputs.
	out, again := runWith(ctx, b, in, nil, false, unwrap)
	if again != nil {
		return nil, err
	}
	b.unsure.Store(true)
	return out, nil
}

// runWith runs with prepared outputs, or without those that may be of a wrong shape.
func runWith[V onnxio.Value](ctx context.Context, b *Backend, in, room map[string]*onnxio.Tensor, prepared bool,
	unwrap func(onnxruntime.Value) (V, error)) (map[string]V, error) {
	values := make([]onnxruntime.Value, len(b.inputs)+b.results)
	defer destroy(values)
	inputs, outputs := values[:len(b.inputs)], values[len(b.inputs):]
	given := make([]*onnxio.Tensor, len(b.inputs))
	for i, name := range b.inputs {
		given[i] = in[name]
		if b.vectors[i] {
			given[i] = &onnxio.Tensor{Type: given[i].Type, Dims: []int64{1}, Raw: given[i].Raw}
		}
		var err error
		if inputs[i], err = wrap(given[i]); err != nil {
			return nil, fmt.Errorf("input %q: %w", name, err)
		}
	}
	made, err := b.make(given, room, outputs, prepared)
	if err != nil {
		return nil, err
	}
	if err := b.run(ctx, inputs, outputs); err != nil {
		return nil, err
	}
	return take(b, made, outputs, unwrap)
}

// make prepares the outputs whose shape is known, or only the scalars, whose shape is certain;
// nil stands for the others.
func (b *Backend) make(in []*onnxio.Tensor, room map[string]*onnxio.Tensor, values []onnxruntime.Value,
	all bool) ([]*onnxio.Tensor, error) {
	made := make([]*onnxio.Tensor, len(values))
	for i := range b.outputs {
		o := &b.outputs[i]
		if !o.known || !all && !o.flat {
			continue
		}
		if made[i] = o.made(in, room[o.name]); made[i] == nil {
			continue
		}
		var err error
		if values[i], err = wrap(made[i]); err != nil {
			return nil, fmt.Errorf("output %q: %w", o.name, err)
		}
	}
	return made, nil
}

// take brings what the session has computed into the model's form.
func take[V onnxio.Value](b *Backend, made []*onnxio.Tensor, values []onnxruntime.Value,
	unwrap func(onnxruntime.Value) (V, error)) (map[string]V, error) {
	all := make([]onnxio.Value, len(made))
	for i, t := range made {
		if all[i] = t; t != nil {
			continue
		}
		var err error
		if all[i], err = unwrap(values[i]); err != nil {
			return nil, fmt.Errorf("output %q: %w", b.outputs[min(i, len(b.outputs)-1)].name, err)
		}
	}
	out := make(map[string]V, len(b.outputs))
	for i := range b.outputs {
		o := &b.outputs[i]
		if t, ok := all[i].(*onnxio.Tensor); ok {
			var shape *onnxio.Tensor
			if o.shape >= 0 {
				shape, _ = all[o.shape].(*onnxio.Tensor)
			}
			t, err := o.result(t, shape)
			if err != nil {
				return nil, fmt.Errorf("output %q: %w", o.name, err)
			}
			all[i] = t
		}
		out[o.name] = all[i].(V)
	}
	return out, nil
}

// yield lets the scheduler have the goroutine every 5 ms. From one that it has not had for 10 ms it
// takes the processor in every call into C at once, and hands it back afterwards: threads wake on the
// cores on which ONNX Runtime's spin, which cost 4% of calls of 1.2 ms. To yield in every call would
// cost one of 30 us as much.
func (b *Backend) yield() {
	now, last := int64(time.Since(start)), b.yielded.Load()
	if now-last >= int64(5*time.Millisecond) && b.yielded.CompareAndSwap(last, now) {
		goruntime.Gosched()
	}
}

var start = time.Now()

// run ends the call when the context ends, where there is a context that can end.
func (b *Backend) run(ctx context.Context, in, out []onnxruntime.Value) error {
	defer goruntime.KeepAlive(b)
	b.yield()
	if ctx.Done() == nil {
		return b.session.Run(in, out)
	}
	o, err := onnxruntime.NewRunOptions()
	if err != nil {
		return err
	}
	defer o.Destroy()
	return watched(ctx, func() { _ = o.Terminate() }, func() error {
		return b.session.RunWithOptions(in, out, o)
	})
}

// Close releases the session; a profile is written now.
func (b *Backend) Close() error {
	b.dropped.Stop()
	return b.session.Destroy()
}

func destroy(values []onnxruntime.Value) {
	for _, v := range values {
		if v != nil {
			_ = v.Destroy()
		}
	}
}
