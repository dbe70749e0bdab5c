package main

import (
	"encoding/json"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime/ort"
)

func TestInspect(t *testing.T) {
	for name, want := range map[string]int64{"lenet5": 61706, "minivgg": 123502, "resnet": 195738} {
		path := filepath.Join(t.TempDir(), name+".onnx")
		done(t, "build", name, "--out", path)
		var v struct {
			Parameters, FLOPs, Batch int64
			Opset                    int64
			Inputs                   []struct{ Name, Shape, Type string }
			Nodes                    []struct {
				Name, Op, Shape   string
				Parameters, FLOPs int64
			}
		}
		answer(t, &v, "inspect", path)
		if v.Parameters != want || v.Opset != 17 || v.Batch != 1 || len(v.Inputs) != 1 {
			t.Errorf("%s: %+v", name, v)
		}
		var sum int64
		for _, n := range v.Nodes {
			sum += n.Parameters
			if !strings.HasPrefix(n.Shape, "[1,") {
				t.Errorf("%s: %q is %s", name, n.Name, n.Shape)
			}
		}
		if sum != want {
			t.Errorf("%s: the nodes' parameters sum to %d", name, sum)
		}
		if name == "lenet5" { // 2 x (28x28x6x25 + 10x10x16x150 + 400x120 + 120x84 + 84x10)
			if want := int64(2 * (117600 + 240000 + 48000 + 10080 + 840)); v.FLOPs != want {
				t.Errorf("LeNet-5 has %d FLOPs, not %d", v.FLOPs, want)
			}
		}
		if out := done(t, "inspect", path, "--plan"); !strings.Contains(out, "arena") ||
			!strings.Contains(out, "Conv") {
			t.Errorf("--plan: %s", out)
		}
		var plan struct {
			Steps []map[string]any
			Arena int64 `json:"arena_bytes"`
		}
		answer(t, &plan, "inspect", path, "--plan", "--batch", "3")
		if len(plan.Steps) == 0 || plan.Arena == 0 {
			t.Errorf("%+v", plan)
		}
	}
}

func TestBuildAndCheck(t *testing.T) {
	dir := t.TempDir()
	for _, opset := range []string{"13", "17", "21"} {
		for _, args := range [][]string{{"lenet5", "--input", "3x32x32"}, {"minivgg", "--classes", "5"},
			{"resnet", "--blocks", "1,1,1"}, {"unet", "--width", "4", "--depth", "2", "--input", "1x16x16"}} {
			path := filepath.Join(dir, args[0]+opset+".onnx")
			done(t, append(append([]string{"build"}, args...), "--opset", opset, "--out", path)...)
			if out := done(t, "check", path); out != path+": ok\n" {
				t.Errorf("%s", out)
			}
		}
	}
	m, err := builders.Build("lenet5", builders.Config{})
	if err != nil {
		t.Fatal(err)
	}
	m.Graph.Outputs[0].Type.Shape[1] = onnxio.Dim{Value: 11}
	bad := filepath.Join(dir, "bad.onnx")
	if err := onnxio.Save(bad, m); err != nil {
		t.Fatal(err)
	}
	if out := done(t, "check", bad); !strings.Contains(out, "warning: ") || !strings.Contains(out, "[N,11]") {
		t.Errorf("a declared shape that does not hold: %s", out)
	}
	m.Graph.Outputs[0].Type.Elem = onnxio.Double
	if err := onnxio.Save(bad, m); err != nil {
		t.Fatal(err)
	}
	if r := cnnkit(t, "check", bad); r.code != exitNo || !strings.Contains(r.out, "float64") || r.err != "" {
		t.Errorf("%+v", r)
	}
	r := cnnkit(t, "check", bad, "--json")
	var v struct {
		OK       bool
		Problems []string
	}
	if err := json.Unmarshal([]byte(r.out), &v); err != nil || r.code != exitNo || v.OK ||
		len(v.Problems) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestVerifyRandom(t *testing.T) {
	needORT(t)
	dir := t.TempDir()
	for _, args := range [][]string{{"resnet"}, {"unet", "--width", "8", "--input", "3x32x32"}} {
		path := filepath.Join(dir, args[0]+".onnx")
		done(t, append(append([]string{"build"}, args...), "--out", path)...)
		out := done(t, "verify", path, "--random", "--batch", "2", "--seed", "5")
		if !strings.Contains(out, "without onnxgo:") || !strings.Contains(out, "native, ort") {
			t.Errorf("%s", out)
		}
		out = done(t, "verify", path, "--nodes", "--batch", "2")
		if !strings.Contains(out, "agree at all") {
			t.Errorf("%s", out)
		}
		if r := cnnkit(t, "verify", path, "--nodes", "--tolerance", "0"); r.code != exitNo ||
			!strings.Contains(r.out, "part at Conv") {
			t.Errorf("at tolerance 0: %d, %s", r.code, r.out)
		}
		if r := cnnkit(t, "verify", path, "--engines", "native,onnxgo"); r.code != exitBadFile ||
			!strings.Contains(r.err, "onnx-go has no such operator") {
			t.Errorf("onnxgo by name: %d, %s", r.code, r.err)
		}
	}
}

func TestBench(t *testing.T) {
	var m measurement
	if err := json.Unmarshal([]byte(done(t, "bench", "train", "--cases", "lenet5-28", "--windows", "2",
		"--seconds", "0.05", "--threads", "1", "--json")), &m); err != nil {
		t.Fatal(err)
	}
	if m.What != "train" || m.Case != "lenet5-28" || m.Batch != 64 || m.Threads != 1 ||
		m.Engine != "native" || m.Images <= 0 || m.Min > m.Images || m.Max < m.Images {
		t.Errorf("%+v", m)
	}
	lines := strings.Split(strings.TrimSpace(done(t, "bench", "infer", "--cases", "lenet5-28", "--batch",
		"1,2", "--windows", "2", "--seconds", "0.05", "--json")), "\n")
	if len(lines) != 2 {
		t.Fatalf("%v", lines)
	}
	m = measurement{}
	if err := json.Unmarshal([]byte(lines[1]), &m); err != nil || m.What != "infer" || m.Batch != 2 ||
		m.MS <= 0 || m.Images != 0 {
		t.Errorf("%+v, %v", m, err)
	}
	if out := done(t, "bench", "infer", "--model", lenet(t), "--batch", "1", "--windows", "1", "--seconds",
		"0.01"); !strings.Contains(out, "ms") {
		t.Errorf("%s", out)
	}
}

func TestData(t *testing.T) {
	t.Setenv("CNNKIT_DATA", t.TempDir())
	if out := done(t, "data", "list"); !strings.Contains(out, "60000 images to train on") ||
		!strings.Contains(out, "cifar10") {
		t.Errorf("%s", out)
	}
	set := digits(t, 100, 50)
	var v struct {
		Images map[string]map[string]int
	}
	answer(t, &v, "data", "verify", set)
	if n := 0; true {
		for _, k := range v.Images["validation"] {
			n += k
		}
		if n != 50 {
			t.Errorf("%+v", v)
		}
	}
	torn := t.TempDir()
	write(t, filepath.Join(torn, "train-images-idx3-ubyte.gz"), []byte("torn"))
	if r := cnnkit(t, "data", "verify", "mnist="+torn); r.code != exitBadFile {
		t.Errorf("a torn data set: %+v", r)
	}
}

func TestVersionDoctorCompletion(t *testing.T) {
	if out := done(t, "version"); !strings.Contains(out, goruntime.Version()) ||
		!strings.Contains(out, goruntime.GOARCH) {
		t.Errorf("%s", out)
	}
	var v struct {
		Findings []finding
	}
	answer(t, &v, "doctor")
	seen := ""
	for _, f := range v.Findings {
		seen += f.What + ";"
	}
	for _, w := range []string{"native engine", "threads", "ONNX Runtime", "CUDA", "data set mnist"} {
		if !strings.Contains(seen, w) {
			t.Errorf("doctor leaves out %s: %s", w, seen)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if out := done(t, "completion", shell); !strings.Contains(out, "cnnkit") {
			t.Errorf("%s: %s", shell, out)
		}
	}
	for args, want := range map[string]string{"": "train", "tr": "train", "train": "lenet5",
		"train --": "--data", "train --data": "mnist",
		"train --data m": "mnist", "runtime": "install", "bench infer --": "--cases",
		"bench infer --engine": "ort", "completion": "bash"} {
		if out := done(t, append(strings.Fields(args), completionFlag)...); !strings.Contains(out, want) {
			t.Errorf("completion of %q leaves out %s: %s", args, want, out)
		}
	}
	if out := done(t, "build", "lenet5", "--out", completionFlag); out != "" { // a file: the shell's business
		t.Errorf("completion of a file: %s", out)
	}
}

// Components that are missing: exit code 4, the reason and what to do. The library is loaded once a process.
func TestMissingComponents(t *testing.T) {
	model := lenet(t)
	text := write(t, filepath.Join(t.TempDir(), "lib.so"), []byte("this is no library"))
	nowhere := filepath.Join(t.TempDir(), "nowhere.so")
	tests := []struct {
		name, lib, args string
		code            int
		says            []string
	}{
		{"no library", nowhere, "eval " + model + " --data mnist --engine ort", 4,
			[]string{"ONNX Runtime is missing", "nowhere.so", "cnnkit runtime install"}},
		{"a text file", text, "run " + model + " --input " + array(t, 1, 1, 28, 28) +
			" --out out --engine ort", 4, []string{"not a shared library"}},
		{"where", nowhere, "runtime where", 4, []string{"CNNKIT_ORT_LIB"}},
		{"verify by name", nowhere, "verify " + model + " --engines native,ort", 4, []string{"nowhere.so"}},
		{"nodes", nowhere, "verify " + model + " --nodes", 4, []string{"nowhere.so"}},
		{"auto", nowhere, "verify " + model, 0, nil},
		{"cuda without the library", nowhere, "eval " + model + " --data mnist --provider cuda", 4,
			[]string{"nowhere.so"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := program(t, []string{"CNNKIT_ORT_LIB=" + tt.lib}, strings.Fields(tt.args)...)
			if r.code != tt.code {
				t.Errorf("exit code %d: %s", r.code, r.err)
			}
			says := tt.says
			if err := ort.Available(); tt.code == exitMissing && err != nil && strings.Contains(err.Error(),
				"without cgo") && tt.name != "where" {
				says = []string{"without cgo", "--engine native"}
			}
			for _, s := range says {
				if !strings.Contains(r.err, s) {
					t.Errorf("does not say %q: %s", s, r.err)
				}
			}
		})
	}
	t.Run("cuda", func(t *testing.T) {
		needORT(t)
		r := cnnkit(t, "eval", model, "--data", "mnist", "--engine", "ort", "--provider", "cuda:0")
		if r.code == exitDone {
			t.Skip("this machine has CUDA")
		}
		if r.code != exitMissing || !strings.Contains(r.err, "the CUDA execution provider is missing") ||
			r.out != "" {
			t.Errorf("%+v", r)
		}
	})
}
