package convert_test

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/convert"
	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime/npy"
)

const nets = "../testdata/convert/nets/"

// configs are the networks that testdata/convert/make_nets.py has saved.
var configs = map[string]builders.Config{
	"lenet5": {}, "minivgg": {}, "resnet": {}, "unet": {Input: [3]int{3, 16, 16}, Width: 4},
}

// array reads a float32 .npy file of the given shape.
func array(t *testing.T, path string, dims ...int64) *onnxio.Tensor {
	t.Helper()
	x, err := npy.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return onnxio.Floats(x.Float32s(), dims...)
}

// output runs a model in the native engine.
func output(t *testing.T, m *onnxio.Model, x *onnxio.Tensor) *onnxio.Tensor {
	t.Helper()
	p, err := engine.Compile(m, engine.Options{Dims: map[string]int64{"N": x.Dims[0]}})
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.Run(context.Background(), map[string]*onnxio.Tensor{"input": x})
	if err != nil {
		t.Fatal(err)
	}
	return out["output"]
}

// State dicts that PyTorch 2.15 and 1.13 wrote, zip and legacy, load with every key matched, and the
// network gives PyTorch's output to 1e-5 of the output's largest magnitude: sums of a few thousand float32
// products in another order.
func TestPyTorchNetworks(t *testing.T) {
	files, err := filepath.Glob(nets + "*.pth")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d fixtures, %v", len(files), err)
	}
	for _, file := range files {
		name, _, _ := strings.Cut(filepath.Base(file), "-")
		t.Run(filepath.Base(file), func(t *testing.T) {
			m, err := builders.Build(name, configs[name])
			if err != nil {
				t.Fatal(err)
			}
			sd, err := convert.Load(file)
			if err != nil {
				t.Fatal(err)
			}
			report, err := convert.Apply(m, sd, convert.ApplyOptions{Strict: true})
			if err != nil {
				t.Fatal(err)
			}
			if !report.OK() {
				t.Errorf("report: %s", report)
			}
			in := m.Graph.Inputs[0].Type.Shape
			x := array(t, nets+name+"-input.npy", 2, in[1].Value, in[2].Value, in[3].Value)
			y := output(t, m, x)
			want := array(t, nets+name+"-output.npy", y.Dims...)
			top, worst := 0.0, 0.0
			for i, v := range want.Float32s() {
				top = max(top, math.Abs(float64(v)))
				worst = max(worst, math.Abs(float64(v)-float64(y.Float32s()[i])))
			}
			if !(worst <= 1e-5*max(1, top)) {
				t.Errorf("outputs differ by %.3g; the largest is %.3g", worst, top)
			}
		})
	}
}

// TestWriteNetworksForPeers leaves what testdata/convert/peers_nets.py loads into
// PyTorch, in CNNKIT_PEER_OUT.
func TestWriteNetworksForPeers(t *testing.T) {
	dir := os.Getenv("CNNKIT_PEER_OUT")
	if dir == "" {
		t.Skip("CNNKIT_PEER_OUT is not set: make peers runs it")
	}
	for name, cfg := range configs {
		cfg.Seed = 5
		m, err := builders.Build(name, cfg)
		if err != nil {
			t.Fatal(err)
		}
		sd, err := convert.FromModel(m)
		if err != nil {
			t.Fatal(err)
		}
		for _, ext := range []string{".pth", ".safetensors"} {
			if err := convert.Save(filepath.Join(dir, name+ext), sd); err != nil {
				t.Fatal(err)
			}
		}
		in := m.Graph.Inputs[0].Type.Shape
		x := array(t, nets+name+"-input.npy", 2, in[1].Value, in[2].Value, in[3].Value)
		y := output(t, m, x)
		if err := npy.Save(filepath.Join(dir, name+"-output.npy"), onnxio.Floats(y.Float32s())); err != nil {
			t.Fatal(err)
		}
	}
}
