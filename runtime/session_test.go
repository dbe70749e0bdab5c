package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime"
	_ "github.com/cnnkit/cnnkit/runtime/onnxgo"
	"github.com/cnnkit/cnnkit/runtime/ort"
	"github.com/cnnkit/cnnkit/runtime/verify"
)

func build(t testing.TB, name string) *onnxio.Model {
	t.Helper()
	cfg := builders.Config{Seed: 3}
	if name == "unet" {
		cfg.Width, cfg.Input = 8, [3]int{3, 32, 32}
	}
	m, err := builders.Build(name, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func open(t testing.TB, m *onnxio.Model, e runtime.Engine, more ...runtime.Option) runtime.Session {
	t.Helper()
	if e == runtime.ORT {
		needORT(t)
	}
	s, err := runtime.OpenModel(m, append(more, runtime.WithEngine(e))...)
	if err != nil {
		t.Fatalf("%s: %v", e, err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func needORT(t testing.TB) {
	t.Helper()
	if err := ort.Available(); err != nil {
		t.Skipf("without ONNX Runtime: %v", err)
	}
}

func random(t testing.TB, s runtime.Session, batch int64, seed uint64) map[string]*onnxio.Tensor {
	t.Helper()
	in, err := verify.Random(s.Inputs(), batch, seed)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// The engines share no code, so that each is a witness of the others. 1e-5 is some ten units in the last
// place of the log-probabilities, which sums of a few hundred products may differ by.
func TestEnginesAgree(t *testing.T) {
	tests := []struct {
		network string
		engine  runtime.Engine
	}{
		{"lenet5", runtime.ORT}, {"minivgg", runtime.ORT}, {"resnet", runtime.ORT}, {"unet", runtime.ORT},
		{"lenet5", runtime.OnnxGo}, {"minivgg", runtime.OnnxGo},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s/%s", tt.network, tt.engine), func(t *testing.T) {
			m := build(t, tt.network)
			a, b := open(t, m, runtime.Native), open(t, m, tt.engine)
			for _, batch := range []int64{1, 2, 5} {
				e := verify.New(1e-5, a, b)
				if err := e.Run(context.Background(), random(t, a, batch, uint64(batch))); err != nil {
					t.Fatal(err)
				}
				if !e.OK() {
					t.Errorf("batch %d: %+v", batch, e.Pairs[0])
				}
			}
		})
	}
}

// Answers must not depend on what else a session is doing.
func TestConcurrentRuns(t *testing.T) {
	for _, e := range []runtime.Engine{runtime.Native, runtime.ORT, runtime.OnnxGo} {
		t.Run(string(e), func(t *testing.T) {
			s := open(t, build(t, "lenet5"), e)
			type question struct {
				in   map[string]*onnxio.Tensor
				want []float32
			}
			var questions []question
			for i := range 4 {
				in := random(t, s, int64(1+i%3), uint64(i))
				out, err := s.Run(context.Background(), in)
				if err != nil {
					t.Fatal(err)
				}
				questions = append(questions, question{in, out["output"].Float32s()})
			}
			var wg sync.WaitGroup
			for range 3 {
				for i, q := range questions {
					wg.Go(func() {
						out, err := s.Run(context.Background(), q.in)
						if err != nil {
							t.Errorf("question %d: %v", i, err)
							return
						}
						if !slices.Equal(out["output"].Float32s(), q.want) {
							t.Errorf("question %d has another answer when others run beside it", i)
						}
					})
				}
			}
			wg.Wait()
		})
	}
}

func TestThreadsGiveTheSameBits(t *testing.T) {
	m := build(t, "resnet")
	one := open(t, m, runtime.Native, runtime.WithThreads(1))
	in := random(t, one, 3, 1)
	want, err := one.Run(context.Background(), in)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{2, 5} {
		got, err := open(t, m, runtime.Native, runtime.WithThreads(n)).Run(context.Background(), in)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got["output"].Float32s(), want["output"].Float32s()) {
			t.Errorf("%d threads give other bits than one", n)
		}
	}
}

func TestWrongInputs(t *testing.T) {
	good := func() *onnxio.Tensor { return onnxio.NewTensor(onnxio.Float, 2, 1, 28, 28) }
	tests := []struct {
		name string
		in   map[string]*onnxio.Tensor
		want string
	}{
		{"none", nil, `input "input" is missing: the model takes "input" float32 [N,1,28,28]`},
		{"another name", map[string]*onnxio.Tensor{"x": good()}, `input "input" is missing`},
		{"one too many", map[string]*onnxio.Tensor{"input": good(), "x": good()}, "not input, x"},
		{"channels", map[string]*onnxio.Tensor{"input": onnxio.NewTensor(onnxio.Float, 2, 3, 28, 28)},
			"[2 3 28 28]: the model takes float32 [N,1,28,28]"},
		{"rank", map[string]*onnxio.Tensor{"input": onnxio.NewTensor(onnxio.Float, 28, 28)}, "[28 28]"},
		{"type", map[string]*onnxio.Tensor{"input": onnxio.NewTensor(onnxio.Double, 2, 1, 28, 28)},
			"float64"},
		{"torn", map[string]*onnxio.Tensor{"input": {Type: onnxio.Float, Dims: []int64{2, 1, 28, 28},
			Raw: make([]byte, 8)}}, "input"},
	}
	m := build(t, "lenet5")
	for _, e := range []runtime.Engine{runtime.Native, runtime.ORT, runtime.OnnxGo} {
		for _, tt := range tests {
			t.Run(fmt.Sprintf("%s/%s", e, tt.name), func(t *testing.T) {
				_, err := open(t, m, e).Run(context.Background(), tt.in)
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%v, which does not say %q", err, tt.want)
				}
			})
		}
	}
}

func TestCancelledContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, e := range []runtime.Engine{runtime.Native, runtime.ORT, runtime.OnnxGo} {
		t.Run(string(e), func(t *testing.T) {
			s := open(t, build(t, "lenet5"), e)
			if _, err := s.Run(ctx, random(t, s, 1, 1)); !errors.Is(err, context.Canceled) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestSessionDescribesTheModel(t *testing.T) {
	m := build(t, "lenet5")
	builders.SetLabels(m, []string{"a", "b"})
	path := filepath.Join(t.TempDir(), "m.onnx")
	if err := onnxio.Save(path, m); err != nil {
		t.Fatal(err)
	}
	s, err := runtime.Open(path, runtime.WithEngine(runtime.Native))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if len(s.Inputs()) != 1 || s.Inputs()[0].Name != "input" || len(s.Outputs()) != 1 ||
		s.Outputs()[0].Name != "output" {
		t.Errorf("%v, %v", s.Inputs(), s.Outputs())
	}
	if s.Metadata()["labels"] != `["a","b"]` || s.Metadata()["cnnkit.arch"] != "lenet5" {
		t.Errorf("metadata %v", s.Metadata())
	}
}

// Auto takes the native engine where it has the operators, else ONNX Runtime, and says why.
func TestAuto(t *testing.T) {
	s := open(t, build(t, "lenet5"), runtime.Auto)
	if s.Engine() != runtime.Native || s.Reason() == "" {
		t.Errorf("auto is %s: %q", s.Engine(), s.Reason())
	}
	if s := open(t, build(t, "lenet5"), runtime.Native); s.Reason() != "" {
		t.Errorf("the caller named the engine, yet: %q", s.Reason())
	}
	foreign := unary("Binarizer", "ai.onnx.ml", 1)
	foreign.Graph.Nodes[0].Inputs = []string{"x"}
	s, err := runtime.OpenModel(foreign)
	if ort.Available() != nil {
		if err == nil || !strings.Contains(err.Error(), "Binarizer") {
			t.Errorf("without ONNX Runtime: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Engine() != runtime.ORT || !strings.Contains(s.Reason(), "Binarizer") {
		t.Errorf("auto is %s: %q", s.Engine(), s.Reason())
	}
	out, err := s.Run(context.Background(),
		map[string]*onnxio.Tensor{"x": onnxio.Floats([]float32{-1, 0, 2}, 1, 3)})
	if err != nil || !slices.Equal(out["y"].Float32s(), []float32{0, 0, 1}) {
		t.Errorf("%v, %v", out["y"], err)
	}
	if _, err := runtime.OpenModel(unary("Zog", "com.microsoft", 1)); err == nil ||
		!strings.Contains(err.Error(), "ONNX Runtime") {
		t.Errorf("an operator that nobody has: %v", err)
	}
}

// unary is y = Op(x, b) with x of [N,3] and b of zeros.
func unary(op, domain string, version int64) *onnxio.Model {
	b := onnxio.Floats([]float32{0, 0, 0}, 3)
	b.Name = "b"
	return &onnxio.Model{IRVersion: 8, Opsets: []onnxio.Opset{{Version: 17},
		{Domain: domain, Version: version}},
		Graph: &onnxio.Graph{Name: "g", Initializers: []*onnxio.Tensor{b},
			Inputs:  []*onnxio.ValueInfo{onnxio.TensorInfo("x", onnxio.Float, onnxio.Shape("N", 3)...)},
			Outputs: []*onnxio.ValueInfo{onnxio.TensorInfo("y", onnxio.Float, onnxio.Shape("N", 3)...)},
			Nodes: []*onnxio.Node{{OpType: op, Domain: domain, Name: "op", Inputs: []string{"x", "b"},
				Outputs: []string{"y"}}}}}
}

// An initializer that is also an input is a default that a Run may override, in every
// engine, and again leave.
func TestDefaults(t *testing.T) {
	for _, engine := range []runtime.Engine{runtime.Native, runtime.ORT} {
		t.Run(string(engine), func(t *testing.T) {
			if engine == runtime.ORT {
				needORT(t)
			}
			m := unary("Add", "", 17)
			m.Opsets = m.Opsets[:1]
			m.Graph.Inputs = append(m.Graph.Inputs, onnxio.TensorInfo("b", onnxio.Float, onnxio.Shape(3)...))
			s := open(t, m, engine)
			if len(s.Inputs()) != 1 || len(s.Defaults()) != 1 || s.Defaults()[0].Name != "b" {
				t.Fatalf("inputs %v, defaults %v", s.Inputs(), s.Defaults())
			}
			x := onnxio.Floats([]float32{1, 2, 3}, 1, 3)
			for i, tt := range []struct {
				b    *onnxio.Tensor
				want []float32
			}{{nil, []float32{1, 2, 3}}, {onnxio.Floats([]float32{10, 20, 30}, 3), []float32{11, 22, 33}},
				{nil, []float32{1, 2, 3}}} {
				in := map[string]*onnxio.Tensor{"x": x}
				if tt.b != nil {
					in["b"] = tt.b
				}
				out, err := s.Run(context.Background(), in)
				if err != nil {
					t.Fatal(err)
				}
				if got := out["y"].Float32s(); !slices.Equal(got, tt.want) {
					t.Errorf("run %d: %v, want %v", i, got, tt.want)
				}
			}
			bad := map[string]*onnxio.Tensor{"x": x, "b": onnxio.Floats([]float32{1, 2}, 2)}
			if _, err := s.Run(context.Background(), bad); err == nil ||
				!strings.Contains(err.Error(), `"b"`) {
				t.Errorf("a default of another shape: %v", err)
			}
			m.IRVersion = 3 // where every initializer has to be an input, and is a constant
			if s := open(t, m, engine); len(s.Defaults()) != 0 {
				t.Errorf("IR version 3 has defaults %v", s.Defaults())
			}
		})
	}
}

func TestOpenErrors(t *testing.T) {
	if _, err := runtime.Open(filepath.Join(t.TempDir(), "none.onnx")); err == nil {
		t.Error("opened a file that is not there")
	}
	bad := build(t, "lenet5")
	bad.Graph.Nodes[0].Inputs[1] = "gone"
	if _, err := runtime.OpenModel(bad); err == nil || !strings.Contains(err.Error(), "gone") {
		t.Errorf("a dangling name: %v", err)
	}
	if _, err := runtime.OpenModel(build(t, "lenet5"), runtime.WithEngine("tpu")); err == nil ||
		!strings.Contains(err.Error(), "native") {
		t.Errorf("an unknown engine: %v", err)
	}
	if _, err := runtime.OpenModel(build(t, "lenet5"), runtime.WithEngine(runtime.Native),
		runtime.WithCUDA(0)); err == nil {
		t.Error("the native engine opened on CUDA")
	}
	var unsupported *onnxio.UnsupportedError
	if _, err := runtime.OpenModel(build(t, "unet"), runtime.WithEngine(runtime.OnnxGo)); !errors.As(err,
		&unsupported) {
		t.Errorf("onnx-go and ConvTranspose: %v", err)
	}
	if _, err := runtime.ParseEngine("ORT"); err == nil {
		t.Error("engines are written in small letters")
	}
}

// Without CUDA the reason must be ONNX Runtime's, and nothing falls back to the CPU.
func TestMissingCUDA(t *testing.T) {
	needORT(t)
	if ort.CUDA(0) == nil {
		t.Skip("this machine has CUDA")
	}
	_, err := runtime.OpenModel(build(t, "lenet5"), runtime.WithCUDA(0))
	var missing *runtime.MissingError
	if !errors.As(err, &missing) || missing.Do == "" {
		t.Fatalf("%v", err)
	}
	// The provider's library is not there, or the library was built without it.
	if !strings.Contains(missing.Reason, "libonnxruntime_providers") && !strings.Contains(missing.Reason,
		"not enabled in this build") {
		t.Errorf("%v", err)
	}
}

// Non-finite numbers pass through every engine alike.
func TestNaN(t *testing.T) {
	m := build(t, "lenet5")
	x := onnxio.NewTensor(onnxio.Float, 1, 1, 28, 28)
	x.Float32s()[14*28+14] = float32(math.NaN())
	for _, e := range []runtime.Engine{runtime.Native, runtime.ORT} {
		t.Run(string(e), func(t *testing.T) {
			out, err := open(t, m, e).Run(context.Background(), map[string]*onnxio.Tensor{"input": x})
			if err != nil {
				t.Fatal(err)
			}
			t.Log(out["output"].Float32s())
		})
	}
}

func TestClosedSession(t *testing.T) {
	for _, e := range []runtime.Engine{runtime.Native, runtime.ORT} {
		t.Run(string(e), func(t *testing.T) {
			s := open(t, build(t, "lenet5"), e)
			in := random(t, s, 1, 1)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Errorf("closing twice: %v", err)
			}
			if _, err := s.Run(context.Background(), in); err == nil {
				t.Error("a closed session runs")
			}
		})
	}
}

// RunInto gives what Run gives, in the caller's memory, by every engine; what does not fit is
// refused with both shapes.
func TestRunInto(t *testing.T) {
	ctx := context.Background()
	m := build(t, "lenet5")
	for _, e := range []runtime.Engine{runtime.Native, runtime.ORT, runtime.OnnxGo} {
		t.Run(string(e), func(t *testing.T) {
			s := open(t, m, e)
			in := random(t, s, 3, 1)
			want, err := s.Run(ctx, in)
			if err != nil {
				t.Fatal(err)
			}
			y := onnxio.NewTensor(onnxio.Float, 3, 10)
			room := y.Float32s()
			for range 2 {
				clear(room)
				if err := s.RunInto(ctx, in, map[string]*onnxio.Tensor{"output": y}); err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(room, want["output"].Float32s()) {
					t.Fatalf("%v, want %v", room, want["output"].Float32s())
				}
			}
			if err := s.RunInto(ctx, in, nil); err != nil {
				t.Errorf("without outputs: %v", err)
			}
			for name, out := range map[string]map[string]*onnxio.Tensor{
				"[2 10]":         {"output": onnxio.NewTensor(onnxio.Float, 2, 10)},
				"float16 [3 10]": {"output": onnxio.NewTensor(onnxio.Float16, 3, 10)},
				`no output "y"`:  {"y": y},
				"memory":         {"output": {Type: onnxio.Float, Dims: []int64{3, 10}}},
			} {
				if err := s.RunInto(ctx, in, out); err == nil || !strings.Contains(err.Error(), name) {
					t.Errorf("%v, want a word of %s", err, name)
				}
			}
		})
	}
}

// A binding gives what Run gives, whatever its input holds when a Run says that it has changed, and ends with
// its session.
func TestBind(t *testing.T) {
	ctx := context.Background()
	m := build(t, "lenet5")
	for _, e := range []runtime.Engine{runtime.Native, runtime.ORT, runtime.OnnxGo} {
		t.Run(string(e), func(t *testing.T) {
			s := open(t, m, e)
			in, y := random(t, s, 3, 1), onnxio.NewTensor(onnxio.Float, 3, 10)
			b, err := s.Bind(in, map[string]*onnxio.Tensor{"output": y})
			if err != nil {
				t.Fatal(err)
			}
			for seed := range uint64(3) {
				next := random(t, s, 3, seed)
				copy(in["input"].Raw, next["input"].Raw)
				want, err := s.Run(ctx, next)
				if err != nil {
					t.Fatal(err)
				}
				if err := b.Run(ctx, "input"); err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(y.Float32s(), want["output"].Float32s()) {
					t.Fatalf("%v, want %v", y.Float32s(), want["output"].Float32s())
				}
			}
			if err := b.Run(ctx, "other"); err == nil || !strings.Contains(err.Error(), `"other"`) {
				t.Errorf("an input that is not bound: %v", err)
			}
			done, cancel := context.WithCancel(ctx)
			cancel()
			if err := b.Run(done); !errors.Is(err, context.Canceled) {
				t.Errorf("after its context: %v", err)
			}
			for word, out := range map[string]map[string]*onnxio.Tensor{
				`no output "y"`: {"y": y}, "no tensor": {"output": nil},
				"bytes": {"output": {Type: onnxio.Float, Dims: []int64{3, 10}}},
			} {
				if _, err := s.Bind(in, out); err == nil || !strings.Contains(err.Error(), word) {
					t.Errorf("%v, want a word of %s", err, word)
				}
			}
			if _, err := s.Bind(nil, nil); err == nil {
				t.Error("bound without its input")
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if err := b.Run(ctx); err == nil {
				t.Error("runs after its session")
			}
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// After Prepare a Run compiles nothing, which would allocate by the hundred.
func TestPrepare(t *testing.T) {
	ctx := context.Background()
	s := open(t, build(t, "lenet5"), runtime.Native)
	allocated := func(in map[string]*onnxio.Tensor) uint64 {
		var before, after goruntime.MemStats
		goruntime.ReadMemStats(&before)
		if _, err := s.Run(ctx, in); err != nil {
			t.Fatal(err)
		}
		goruntime.ReadMemStats(&after)
		return after.Mallocs - before.Mallocs
	}
	if err := s.Prepare(ctx, map[string][]int64{"input": {5, 1, 28, 28}}); err != nil {
		t.Fatal(err)
	}
	if n := allocated(random(t, s, 5, 1)); n > 100 {
		t.Errorf("%d allocations at the prepared shape", n)
	}
	if n := allocated(random(t, s, 6, 1)); n < 200 {
		t.Errorf("%d allocations at another shape: the bound above shows nothing", n)
	}
	for word, shapes := range map[string]map[string][]int64{
		"has no shape": {},
		"[5 1 27 28]":  {"input": {5, 1, 27, 28}},
		`not "other"`:  {"input": {5, 1, 28, 28}, "other": {1}},
		"dimension":    {"input": {-1, 1, 28, 28}},
		"overflows":    {"input": {1 << 62, 1, 28, 28}},
	} {
		if err := s.Prepare(ctx, shapes); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%v: %v, want a word of %q", shapes, err, word)
		}
	}
}
