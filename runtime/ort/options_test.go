//go:build cgo && (linux || darwin || windows)

package ort

import (
	"errors"
	"math"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Options change how a model runs and not what it answers; a provider that is not in the
// library gives its reason.
func TestOptions(t *testing.T) {
	if err := Available(); err != nil {
		t.Skip(err)
	}
	m, err := onnxio.Load("../../models/lenet5-mnist/model.onnx")
	if err != nil {
		t.Fatal(err)
	}
	x := onnxio.NewTensor(onnxio.Float, 2, 1, 28, 28)
	for i := range x.Float32s() {
		x.Float32s()[i] = float32(i%13) / 13
	}
	answer := func(o Options) ([]float32, error) {
		o.CUDA = -1
		b, err := Open(m, o)
		if err != nil {
			return nil, err
		}
		defer b.Close()
		out, err := b.Run(t.Context(), map[string]*onnxio.Tensor{"input": x})
		if err != nil {
			return nil, err
		}
		return out["output"].Float32s(), nil
	}
	want, err := answer(Options{})
	if err != nil {
		t.Fatal(err)
	}
	var all Options
	all.ORT.Parallel, all.ORT.NoArena = true, true
	all.ORT.Entries = map[string]string{"session.intra_op.allow_spinning": "0"}
	for _, level := range []string{"disable", "basic", "extended", "all"} {
		all.ORT.Graph = level
		got, err := answer(all)
		if err != nil {
			t.Fatalf("%s: %v", level, err)
		}
		for i := range want {
			if d := math.Abs(float64(got[i] - want[i])); !(d < 1e-4) {
				t.Errorf("%s: number %d is %g, want %g", level, i, got[i], want[i])
			}
		}
	}
	var bad Options
	bad.ORT.Graph = "most"
	if _, err := answer(bad); err == nil {
		t.Error("a level that is not there is taken")
	}
	bad.ORT.Graph, bad.ORT.Provider = "", "rocm"
	if _, err := answer(bad); err == nil {
		t.Error("a provider that is not known is taken")
	}
	for _, name := range Providers() {
		bad.ORT.Provider = name
		var missing *MissingError
		if _, err := answer(bad); err != nil && !errors.As(err, &missing) {
			t.Errorf("%s: %v", name, err)
		} else if err != nil {
			t.Logf("%v", err)
		}
	}
}
