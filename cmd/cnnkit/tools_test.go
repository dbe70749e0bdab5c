package main

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestTools(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	done(t, "build", "resnet20", "--input", "3x24x24", "--out", at("a.onnx"))
	if out := done(t, "simplify", at("a.onnx"), at("s.onnx"), "--dim", "N=1"); !strings.Contains(out,
		"normalizations fused") {
		t.Error(out)
	}
	done(t, "diff", at("a.onnx"), at("a.onnx"))
	if r := cnnkit(t, "diff", at("a.onnx"), at("s.onnx")); r.code != exitNo || !strings.Contains(r.out,
		"conv1.weight") {
		t.Errorf("%d %s%s", r.code, r.out, r.err)
	}
	done(t, "extract", at("s.onnx"), at("e.onnx"), "--outputs", "relu")
	done(t, "edit", at("a.onnx"), at("n.onnx"), "--rename", "input=x", "--strip", "--set", "author=me")
	if out := done(t, "inspect", at("n.onnx")); !strings.Contains(out, "input   x [") ||
		!strings.Contains(out, "author: me") {
		t.Error(out)
	}
	for _, args := range []string{"edit --rename input", "edit --set author", "simplify --dim N=4abc",
		"simplify --dim N"} {
		verb, flags, _ := strings.Cut(args, " ")
		call := append([]string{verb, at("a.onnx"), at("m.onnx")}, strings.Fields(flags)...)
		if r := cnnkit(t, call...); r.code != exitUsage || !strings.Contains(r.err, "wants") {
			t.Errorf("%s: %d %s%s", args, r.code, r.out, r.err)
		}
	}
	for _, opset := range []string{"13", "21"} { // a network of a builder goes down too
		done(t, "convert", at("a.onnx"), at("o.onnx"), "--opset", opset)
		if out := done(t, "inspect", at("o.onnx")); !strings.Contains(out, "opset "+opset) {
			t.Error(out)
		}
		done(t, "check", at("o.onnx"))
	}
	if r := cnnkit(t, "convert", at("n.onnx"), at("m.onnx"), "--opset", "13"); r.code != exitBadFile ||
		!strings.Contains(r.err, "cannot go down") {
		t.Errorf("%d %s%s", r.code, r.out, r.err)
	}
	if r := cnnkit(t, "convert", at("a.onnx"), at("a.pth"), "--opset", "13"); r.code != exitUsage {
		t.Errorf("%d %s%s", r.code, r.out, r.err)
	}
}
