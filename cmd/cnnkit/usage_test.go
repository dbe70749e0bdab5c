package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// Wrong uses: the exit code, and words that the message must have.
func TestWrongUses(t *testing.T) {
	model := lenet(t)
	dir := t.TempDir()
	text := write(t, filepath.Join(dir, "text.onnx"), []byte("this is no model"))
	garbage := write(t, filepath.Join(dir, "garbage.pth"), []byte("this is no state dict"))
	picture := write(t, filepath.Join(dir, "text.png"), []byte("this is no picture"))
	out := filepath.Join(dir, "out")
	tests := []struct {
		args string
		code int
		says []string
	}{
		{"trian", 2, []string{`unknown verb "trian"`, "did you mean train?"}},
		{"xyzzy", 2, []string{"unknown verb", "known: build, train"}},
		{"version --frobnicate", 2, []string{"frobnicate", "cnnkit version --help"}},

		{"build", 2, []string{"takes a network NAME"}},
		{"build lenet5", 2, []string{"needs --out"}},
		{"build lenet5 resnet --out " + out, 2, []string{"takes one"}},
		{"build lenet --out " + out, 2, []string{`no network "lenet"`, "did you mean lenet5?"}},
		{"build lenet5 --input 28x28 --out " + out, 2, []string{"--input: it wants CHANNELSxHEIGHTxWIDTH"}},
		{"build lenet5 --input 1x4x4 --out " + out, 2, []string{"does not fit"}},
		{"build resnet --blocks 2,x,2 --out " + out, 2, []string{"--blocks: it wants positive numbers"}},
		{"build lenet5 --opset 12 --out " + out, 2, []string{"opset"}},
		{"build lenet5 --opset twelve --out " + out, 2, []string{"twelve", "opset"}},
		{"build lenet5 --classes 0 --out " + out, 2, []string{"--classes"}},
		{"build lenet5 --out " + filepath.Join(dir, "no/such/folder/f.onnx"), 1, []string{"no such file"}},
		{"build lenet5 --weights " + garbage + " --out " + out, 3, []string{"garbage.pth"}},
		{"build lenet5 --weights nowhere.pth --out " + out, 3, []string{"nowhere.pth"}},

		{"train", 2, []string{"takes a network NAME or MODEL"}},
		{"train lenet5 --out " + out, 2, []string{"needs --data", "cnnkit data list"}},
		{"train lenet5 --data mnist", 2, []string{"needs --out"}},
		{"train lenet5 --data minst --out " + out, 2, []string{`no data set "minst"`, "did you mean mnist?"}},
		{"train lenet5 --data cifar10=" + dir + " --out " + out, 3, []string{"cifar10", "not here"}},
		{"train resnet --data mnist --out " + out, 1, []string{"1x28x28", "3x32x32", "--input 1x28x28"}},
		{"train lenet5 --data mnist --epochs 0 --out " + out, 2, []string{"epochs is 0"}},
		{"train lenet5 --data mnist --lr -1 --out " + out, 2, []string{"lr is -1"}},
		{"train lenet5 --data mnist --optimizer adma --out " + out, 2, []string{"adma", "adam"}},
		{"train lenet5 --data mnist --loss l2 --out " + out, 2, []string{"l2", "cross-entropy"}},
		{"train lenet5 --data mnist --betas 1 --out " + out, 2, []string{"--betas: it wants two numbers"}},
		{"train lenet5 --data mnist --threads -1 --out " + out, 2, []string{"--threads"}},
		{"train lenet5 --data mnist --swa 6 --out " + out, 2, []string{"swa starts in epoch 6", "has 5"}},
		{"train lenet5 --data mnist --swa 2 --ema 0.9 --out " + out, 2, []string{"choose one"}},
		{"train lenet5 --data mnist --swa-lr 0.1 --out " + out, 2, []string{"swa.start"}},
		{"train lenet5 --data mnist --keep -1 --out " + out, 2, []string{"keep"}},
		{"train lenet5 --data mnist --find-lr --find-lr-range 1 --out " + out, 2,
			[]string{"--find-lr-range wants two"}},
		{"train lenet5 --data mnist --find-lr --find-lr-range 1,0.1 --out " + out, 2,
			[]string{"the lower one first"}},
		{"train lenet5 --data mnist --find-lr --find-lr-steps 9 --out " + out, 2, []string{"at least 10"}},
		{"train --resume " + out + " --find-lr", 2, []string{"--resume", "--find-lr"}},
		{"build lenet5 --stochastic-depth 0.2 --out " + out, 2,
			[]string{"lenet5 does not take stochastic_depth"}},
		{"build resnet --stochastic-depth 1.5 --out " + out, 2, []string{"stochastic_depth: 1.5", "[0,1)"}},
		{"build resnet --stochastic-depth half --out " + out, 2, []string{"half", "stochastic-depth"}},
		{"train " + model + " --stochastic-depth 0.2 --data mnist --out " + out, 2,
			[]string{"--stochastic-depth", "has its shape already"}},
		{"train --resume " + out + " --stochastic-depth 0.2", 2, []string{"--stochastic-depth",
			"that of the checkpoint"}},
		{"train " + model + " --width 5 --data mnist --out " + out, 2,
			[]string{"--width", "has its shape already"}},
		{"train " + garbage + " --data mnist --out " + out, 2, []string{"state dict", "cnnkit convert"}},
		{"train nowhere.onnx --data mnist --out " + out, 3, []string{"nowhere.onnx"}},
		{"train lenet5 --data mnist --out " + text, 1, []string{"output folder"}},

		{"eval", 2, []string{"takes a MODEL"}},
		{"eval " + model, 2, []string{"needs --data"}},
		{"eval " + text + " --data mnist", 3, []string{"text.onnx"}},
		{"eval " + model + " --data mnist --engine tensorrt", 2, []string{"tensorrt", "native, ort, onnxgo"}},
		{"eval " + model + " --data mnist --engine native --provider cuda", 2,
			[]string{"--provider cuda goes with --engine ort"}},
		{"eval " + model + " --data mnist --engine ort --provider rocm", 2,
			[]string{"cpu, cuda or cuda:DEVICE", "rocm"}},
		{"eval " + model + " --data mnist --engine ort --provider cuda:x", 2, []string{"cuda:x"}},
		{"eval " + model + " --data mnist --engine native --provider openvino", 2,
			[]string{"openvino", "--engine ort"}},
		{"eval " + model + " --data mnist --engine ort --provider-option a=b", 2,
			[]string{"--provider-option goes with a --provider"}},
		{"eval " + model + " --data mnist --engine ort --provider cuda --provider-option a", 2,
			[]string{"KEY=VALUE"}},
		{"eval " + model + " --data mnist --engine ort --session-option graph=most", 2,
			[]string{"graph=disable|basic"}},

		{"predict " + model, 2, []string{"at least one IMAGE"}},
		{"predict " + model + " " + picture + " --engine native", 3, []string{"text.png", "neither PNG",
			"1 of 1 images"}},
		{"predict " + model + " nowhere.png", 3, []string{"nowhere.png"}},
		{"predict " + model + " " + picture + " --top 0", 2, []string{"--top"}},
		{"segment " + model + " " + picture, 2, []string{"needs --out"}},
		{"segment " + model + " " + picture + " --out " + out + " --threshold 1", 2, []string{"--threshold"}},

		{"run " + model + " --out " + out + " --engine native", 2, []string{`input "input" is missing`,
			"--input input=FILE.npy"}},
		{"run " + model + " --input inptu=x.npy --out " + out + " --engine native", 2,
			[]string{`no input "inptu"`, "did you mean input?"}},
		{"run " + model + " --input nowhere.npy --out " + out + " --engine native", 3,
			[]string{"nowhere.npy"}},
		{"run " + model + " --input " + picture + " --out " + out + " --engine native", 3,
			[]string{"not a NumPy file"}},
		{"run " + model + " --input " + array(t, 2, 3, 28, 28) + " --out " + out + " --engine native", 3,
			[]string{"[2 3 28 28]", "[N,1,28,28]"}},

		{"inspect", 2, []string{"takes a FILE"}},
		{"inspect " + text, 3, []string{"text.onnx"}},
		{"inspect " + model + " --batch 0", 2, []string{"--batch"}},
		{"inspect " + garbage, 3, []string{"garbage.pth"}},
		{"check " + text, 3, []string{"text.onnx"}},
		{"check nowhere.onnx", 3, []string{"nowhere.onnx"}},

		{"verify " + model + " --random --data mnist", 2, []string{"exclude each other"}},
		{"verify " + model + " --engines native", 2, []string{"two engines"}},
		{"verify " + model + " --engines native,native", 2, []string{"twice"}},
		{"verify " + model + " --engines native,tvm", 2, []string{"tvm"}},
		{"verify " + model + " --tolerance -1", 2, []string{"--tolerance"}},
		{"verify " + model + " --nodes --engines native,onnxgo", 2,
			[]string{"--nodes compares native and ort"}},

		{"convert " + model, 2, []string{"takes two files"}},
		{"convert " + model + " weights.zip", 2, []string{".onnx, .pt, .pth or .safetensors"}},
		{"convert " + garbage + " " + out + ".safetensors", 3, []string{"garbage.pth"}},

		{"bench", 2, []string{"cnnkit bench infer or cnnkit bench start"}},
		{"bench play", 2, []string{`"play"`}},
		{"bench infer --cases lenet", 2, []string{`no case "lenet"`}},
		{"bench infer --batch 0 --cases lenet5-28", 2, []string{"--batch"}},
		{"data", 2, []string{"data list"}},
		{"data lst", 2, []string{"did you mean list?"}},
		{"data verify imagenet", 2, []string{"imagenet"}},
		{"runtime", 2, []string{"install, where or remove"}},
		{"runtime instal", 2, []string{"did you mean install?"}},
		{"completion powershell", 2, []string{"powershell", "bash"}},
		{"doctor now", 2, []string{"takes no arguments"}},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			r := cnnkit(t, strings.Fields(tt.args)...)
			if r.code != tt.code {
				t.Errorf("exit code %d, not %d", r.code, tt.code)
			}
			for _, s := range tt.says {
				if !strings.Contains(r.err, s) {
					t.Errorf("stderr does not say %q: %s", s, r.err)
				}
			}
			if r.out != "" {
				t.Errorf("stdout: %s", r.out)
			}
		})
	}
}

// Every verb explains itself, with an example or a usage line.
func TestHelp(t *testing.T) {
	all := done(t, "--help")
	for _, cmd := range newApp(nil, nil).Commands {
		if !strings.Contains(all, cmd.Name) {
			t.Errorf("cnnkit --help leaves out %s", cmd.Name)
		}
		help := done(t, cmd.Name, "--help")
		if !strings.Contains(help, "cnnkit "+cmd.Name) {
			t.Errorf("cnnkit %s --help has no usage: %s", cmd.Name, help)
		}
		for _, sub := range cmd.Subcommands {
			if help := done(t, cmd.Name, sub.Name, "--help"); !strings.Contains(help,
				"cnnkit "+cmd.Name+" "+sub.Name) {
				t.Errorf("cnnkit %s %s --help has no usage: %s", cmd.Name, sub.Name, help)
			}
		}
	}
	if out := done(t); !strings.Contains(out, "build") {
		t.Errorf("cnnkit alone says %s", out)
	}
}
