package main

import (
	"strings"
	"testing"
)

func TestInspectTrainable(t *testing.T) {
	out := done(t, "inspect", "--trainable", "../../testdata/foreign/tokens-torchscript-folded.onnx")
	for _, s := range []string{"layer_scale", "A of Mul", "16 weights of", "no BatchNormalization"} {
		if !strings.Contains(out, s) {
			t.Errorf("%q is not said:\n%s", s, out)
		}
	}
	var got struct {
		Weights      int64
		Initializers []useRow
	}
	answer(t, &got, "inspect", "--trainable", "../../testdata/foreign/keras-tf2onnx.onnx")
	if got.Weights != 8+8+60+192+128+216+8+72 || len(got.Initializers) != 8 {
		t.Errorf("%+v", got)
	}
}
