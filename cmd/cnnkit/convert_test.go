package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/convert"
	"github.com/cnnkit/cnnkit/onnxio"
)

// stateOf is the state dict of a model's file.
func stateOf(t *testing.T, model string) *convert.StateDict {
	t.Helper()
	m, err := onnxio.Load(model)
	if err != nil {
		t.Fatal(err)
	}
	sd, err := convert.FromModel(m)
	if err != nil {
		t.Fatal(err)
	}
	return sd
}

// shifted has 1 added to all weights, so that they are not those that --arch starts with.
func shifted(sd *convert.StateDict) *convert.StateDict {
	out := &convert.StateDict{}
	for _, e := range sd.Entries() {
		x := onnxio.NewTensor(onnxio.Float, e.Tensor.Dims...)
		for i, v := range e.Tensor.Float32s() {
			x.Float32s()[i] = v + 1
		}
		out.Set(e.Name, x)
	}
	return out
}

// under saves the state dict with a prefix before each key, under any name.
func under(t *testing.T, sd *convert.StateDict, prefix, file string, more ...string) {
	t.Helper()
	out := &convert.StateDict{}
	for _, e := range sd.Entries() {
		out.Set(prefix+e.Name, e.Tensor)
	}
	for _, key := range more {
		out.Set(key, onnxio.Floats([]float32{1}, 1))
	}
	plain := file + ".pth"
	if err := convert.Save(plain, out); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(plain, file); err != nil {
		t.Fatal(err)
	}
}

// sameWeights compares a converted model with the one that the weights came from.
func sameWeights(t *testing.T, sd *convert.StateDict, file string) {
	t.Helper()
	got := stateOf(t, file)
	for _, e := range sd.Entries() {
		if x := got.Get(e.Name); x == nil || !slices.Equal(x.Raw, e.Tensor.Raw) {
			t.Errorf("%s differs", e.Name)
		}
	}
}

// The file's name says nothing, its keys may be wrapped, and what is done with them is said.
func TestConvertFindsNames(t *testing.T) {
	dir := t.TempDir()
	sd := shifted(stateOf(t, lenet(t)))
	in, out := filepath.Join(dir, "last.ckpt"), filepath.Join(dir, "out.onnx")
	under(t, sd, "net.", in)
	r := cnnkit(t, "convert", in, out, "--arch", "lenet5", "--report")
	if r.code != exitDone || !strings.Contains(r.err, `"net." is taken off`) {
		t.Fatalf("exit code %d: %s", r.code, r.err)
	}
	first := sd.Entries()[0].Name
	if !strings.HasPrefix(r.out, "net."+first+" -> "+first+" [") || !strings.Contains(r.err, "0 missing") {
		t.Errorf("report: %s", r.out)
	}
	sameWeights(t, sd, out)

	under(t, sd, "model.", in, "loss.weight")
	r = cnnkit(t, "convert", in, out, "--arch", "lenet5")
	if r.code != exitBadFile || !strings.Contains(r.err, "--prefix model.") {
		t.Errorf("no prefix of all keys: exit code %d: %s", r.code, r.err)
	}
	done(t, "convert", in, out, "--arch", "lenet5", "--prefix", "model.", "--lenient")
	sameWeights(t, sd, out)

	keys := filepath.Join(dir, "map.txt")
	if err := os.WriteFile(keys, []byte("model.* -> *\nloss.weight -> model.loss"), 0o600); err != nil {
		t.Fatal(err)
	}
	weights := filepath.Join(dir, "out.safetensors")
	if text := done(t, "convert", in, weights, "--map", keys, "--report"); !strings.Contains(text,
		"loss.weight -> model.loss [1]") {
		t.Errorf("report: %s", text)
	}
	renamed, err := convert.Load(weights)
	if err != nil || renamed.Get(first) == nil || renamed.Get("model.loss") == nil {
		t.Errorf("renamed: %v", err)
	}
}

// Wrong uses say what to do, and leave no file.
func TestConvertRefuses(t *testing.T) {
	dir := t.TempDir()
	model := lenet(t)
	sd := stateOf(t, model)
	in, out := filepath.Join(dir, "weights"), filepath.Join(dir, "out.onnx")
	under(t, sd, "", in)
	strange := filepath.Join(dir, "strange")
	under(t, &convert.StateDict{}, "", strange, "a.b", "c.d")
	keys := filepath.Join(dir, "map.txt")
	if err := os.WriteFile(keys, []byte("cnv.* -> conv.*"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"no such key": {[]string{in, out, "--arch", "lenet5", "--key", "ema"}, exitBadFile,
			`no state dict under "ema"`},
		"key of a model": {[]string{model, out, "--key", "ema"}, exitUsage, "is an ONNX model"},
		"no such map": {[]string{in, out, "--arch", "lenet5", "--map", keys + "x"}, exitBadFile,
			"map.txtx"},
		"folder as map": {[]string{in, out, "--arch", "lenet5", "--map", dir}, exitBadFile,
			"not a regular file"},
		"unused rule": {[]string{in, out, "--arch", "lenet5", "--map", keys}, exitBadFile, `"cnv.*"`},
		"lenient nothing": {[]string{strange, out, "--arch", "lenet5", "--lenient"}, exitBadFile,
			"0 keys applied"},
		"no graph":  {[]string{in, out}, exitUsage, "--arch"},
		"not there": {[]string{in + "x", out, "--arch", "lenet5"}, exitBadFile, "weightsx"},
	} {
		t.Run(name, func(t *testing.T) {
			r := cnnkit(t, append([]string{"convert"}, c.args...)...)
			if r.code != c.code || !strings.Contains(r.err, c.says) {
				t.Errorf("exit code %d: %s", r.code, r.err)
			}
			if _, err := os.Stat(out); err == nil {
				t.Error("a file was written")
			}
		})
	}
}

// A checkpoint around a whole module, from a file that says so with nothing but its content.
func TestConvertChoosesByKey(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out.safetensors")
	r := cnnkit(t, "convert", "../../testdata/convert/objects/module-inside.pth", out, "--key",
		"model", "--json")
	if r.code != exitDone || !strings.Contains(r.out, `"skipped"`) || !strings.Contains(r.out, "epoch") {
		t.Fatalf("exit code %d: %s%s", r.code, r.out, r.err)
	}
	sd, err := convert.Load(out)
	if err != nil || sd.Get("module.a.conv.weight") == nil || sd.Get("module.a.index") != nil {
		t.Errorf("%v", err)
	}
}
