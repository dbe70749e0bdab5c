package verify_test

import (
	"context"
	"math"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime"
	_ "github.com/cnnkit/cnnkit/runtime/onnxgo"
	"github.com/cnnkit/cnnkit/runtime/ort"
	"github.com/cnnkit/cnnkit/runtime/verify"
)

func TestDifference(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	tests := []struct {
		name string
		a, b []float32
		want verify.Difference
		ok   bool // within 1e-3
	}{
		{"equal", []float32{1, -2}, []float32{1, -2}, verify.Difference{Scale: 2}, true},
		{"relative above 1", []float32{1000.5, 0}, []float32{1000, 0}, verify.Difference{MaxAbs: 0.5,
			MaxRel: 0.0005, Scale: 1000}, true},
		{"absolute below 1", []float32{0.25, 0}, []float32{0.5, 0}, verify.Difference{MaxAbs: 0.25,
			MaxRel: 0.5, Scale: 0.5}, false},
		{"not a number in both", []float32{nan, 1}, []float32{nan, 1}, verify.Difference{Scale: 1}, true},
		{"not a number in one", []float32{nan, 1}, []float32{1, 1}, verify.Difference{Scale: 1, Odd: 1},
			false},
		{"infinite in both", []float32{inf, 1}, []float32{inf, 1}, verify.Difference{Scale: 1}, true},
		{"infinities of two signs", []float32{inf, 1}, []float32{-inf, 1},
			verify.Difference{Scale: 1, Odd: 1}, false},
		{"infinite in one", []float32{1, 1}, []float32{inf, 1}, verify.Difference{Scale: 1, Odd: 1}, false},
		{"nothing", nil, nil, verify.Difference{}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var d verify.Difference
			if err := d.Add(onnxio.Floats(tt.a, int64(len(tt.a))),
				onnxio.Floats(tt.b, int64(len(tt.b)))); err != nil {
				t.Fatal(err)
			}
			if d != tt.want || d.Within(1e-3) != tt.ok {
				t.Errorf("%+v, within: %v", d, d.Within(1e-3))
			}
		})
	}
	if got := (verify.Difference{Scale: 1000}).Allowed(1e-3); got != 1 {
		t.Errorf("%g is allowed at 1000", got)
	}
	if got := (verify.Difference{Scale: 0.5}).Allowed(1e-3); got != 1e-3 {
		t.Errorf("%g is allowed at 0.5", got)
	}
	var d verify.Difference
	one := onnxio.Floats([]float32{1}, 1)
	for _, bad := range []*onnxio.Tensor{nil, onnxio.Floats([]float32{1}, 1, 1),
		onnxio.Int64s([]int64{1}, 1)} {
		if err := d.Add(one, bad); err == nil {
			t.Errorf("%v was compared", bad)
		}
	}
}

// A session whose answers are shifted stands for an engine that is wrong.
type shifted struct {
	runtime.Session
	by float32
}

func (s shifted) Run(ctx context.Context, in map[string]*onnxio.Tensor) (map[string]*onnxio.Tensor, error) {
	out, err := s.Session.Run(ctx, in)
	if err == nil {
		out["output"].Float32s()[0] += s.by
	}
	return out, err
}

func (s shifted) Engine() runtime.Engine { return "shifted" }

func TestEnginesPart(t *testing.T) {
	m, err := builders.Build("lenet5", builders.Config{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := runtime.OpenModel(m, runtime.WithEngine(runtime.Native))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	e := verify.New(1e-4, s, shifted{s, 1e-6}, shifted{s, 100})
	for seed := range uint64(3) {
		in, err := verify.Random(s.Inputs(), 2, seed)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Run(context.Background(), in); err != nil {
			t.Fatal(err)
		}
	}
	if len(e.Pairs) != 3 || !e.Pairs[0].OK || e.Pairs[1].OK || e.Pairs[2].OK || e.OK() {
		t.Errorf("%+v", e.Pairs)
	}
	if p := e.Pairs[0]; p.Labels != 6 || p.Agree != 6 || p.A != runtime.Native || p.B != "shifted" {
		t.Errorf("%+v", p)
	}
	if p := e.Pairs[1]; p.Agree >= 6 || math.Abs(p.MaxAbs-100) > 1e-3 {
		t.Errorf("%+v", p)
	}
}

func TestNodes(t *testing.T) {
	if err := ort.Available(); err != nil {
		t.Skipf("without ONNX Runtime: %v", err)
	}
	for _, name := range []string{"lenet5", "resnet"} {
		m, err := builders.Build(name, builders.Config{})
		if err != nil {
			t.Fatal(err)
		}
		in, err := verify.Random(m.Graph.Inputs[:1], 2, 1)
		if err != nil {
			t.Fatal(err)
		}
		nodes, err := verify.Nodes(context.Background(), m, in, 1e-4)
		if err != nil {
			t.Fatal(err)
		}
		if len(nodes) != len(m.Graph.Nodes) {
			t.Errorf("%s: %d of %d nodes are compared", name, len(nodes), len(m.Graph.Nodes))
		}
		parted := 0
		for i, n := range nodes {
			if n.Name != m.Graph.Nodes[i].Name {
				t.Errorf("%s: node %d is %q, not %q", name, i, n.Name, m.Graph.Nodes[i].Name)
			}
			if !n.OK {
				t.Errorf("%s: %+v", name, n)
			}
			if !n.Within(0) {
				parted++
			}
		}
		if parted == 0 {
			t.Errorf("%s: no node differs in any bit: is it the same engine twice?", name)
		}
	}
}

func TestRandom(t *testing.T) {
	inputs := []*onnxio.ValueInfo{
		onnxio.TensorInfo("x", onnxio.Float, onnxio.Shape("N", 3, 4)...),
		onnxio.TensorInfo("y", onnxio.Int64, onnxio.Shape("N")...),
		onnxio.TensorInfo("z", onnxio.Bool, onnxio.Shape(2, "N")...),
	}
	a, err := verify.Random(inputs, 5, 1)
	if err != nil {
		t.Fatal(err)
	}
	if a["x"].Dims[0] != 5 || a["y"].Dims[0] != 5 || a["z"].Dims[1] != 5 {
		t.Errorf("%v %v %v", a["x"].Dims, a["y"].Dims, a["z"].Dims)
	}
	b, _ := verify.Random(inputs, 5, 1)
	c, _ := verify.Random(inputs, 5, 2)
	if string(a["x"].Raw) != string(b["x"].Raw) || string(a["x"].Raw) == string(c["x"].Raw) {
		t.Error("the seed is not what decides")
	}
	for _, bad := range []*onnxio.ValueInfo{
		{Name: "no type"},
		{Name: "no shape", Type: &onnxio.Type{Elem: onnxio.Float}},
		onnxio.TensorInfo("free", onnxio.Float, onnxio.Shape("N", 3, "H")...),
		onnxio.TensorInfo("strings", onnxio.String, onnxio.Shape("N")...),
		onnxio.TensorInfo("huge", onnxio.Float, onnxio.Shape("N", 1<<40)...),
	} {
		if _, err := verify.Random([]*onnxio.ValueInfo{bad}, 1, 1); err == nil {
			t.Errorf("made up %q", bad.Name)
		}
	}
}
