package examples

import (
	"bufio"
	"image"
	"image/color"
	"image/png"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/convert"
	"github.com/cnnkit/cnnkit/onnxio"
)

// pictures writes images of two classes into folders, and of each its mask into another.
func pictures(t *testing.T, dir string) {
	t.Helper()
	save := func(path string, img image.Image) {
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := png.Encode(f, img); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 24 {
		img, mask := image.NewRGBA(image.Rect(0, 0, 40, 40)), image.NewGray(image.Rect(0, 0, 40, 40))
		for y := range 40 {
			for x := range 40 {
				c := color.RGBA{uint8(5*x + i), uint8(5*y + i), 60, 255}
				if (x-20)*(x-20)+(y-20)*(y-20) < 60+4*i {
					c = color.RGBA{220, uint8(200 * (i % 2)), 30, 255}
					mask.SetGray(x, y, color.Gray{Y: 255})
				}
				img.SetRGBA(x, y, c)
			}
		}
		name := strconv.Itoa(i) + ".png"
		save(filepath.Join(dir, "photos", []string{"red", "yellow"}[i%2], name), img)
		save(filepath.Join(dir, "images", name), img)
		save(filepath.Join(dir, "masks", name), mask)
	}
}

// built compiles every example into a folder.
func built(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", dir+string(filepath.Separator),
		"./...").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// Every example runs on small data of its kind.
func TestExamples(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles and runs every example: run without -short")
	}
	if _, err := exec.LookPath("go"); err != nil {
		t.Skipf("compiles with the go command, which must be on the path: %v", err)
	}
	bin, dir := built(t), t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	pictures(t, dir)
	m, err := builders.Build("resnet18", builders.Config{})
	if err != nil {
		t.Fatal(err)
	}
	weights, err := convert.FromModel(m)
	if err == nil {
		err = convert.Save(in("resnet18.pth"), weights)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, run := range []struct{ args, says, leaves string }{
		{"own-images " + in("photos") + " " + in("run"), "epoch 5: validation loss", in("run/model.onnx")},
		{"fine-tuning " + in("resnet18.pth") + " " + in("photos") + " " + in("tuned"), "2 are new",
			in("tuned/best.onnx")},
		{"own-loss", "accuracy", ""},
		{"pytorch " + in("resnet20.pth"), "bit by bit", in("resnet20.pth")},
		{"segmentation " + in("images") + " " + in("masks") + " " + in("images/3.png") + " " + in("mask.png"),
			"foreground", in("mask.png")},
	} {
		args := strings.Fields(run.args)
		t.Run(args[0], func(t *testing.T) {
			cmd := exec.Command(filepath.Join(bin, args[0]), args[1:]...)
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), run.says) {
				t.Fatalf("%v\n%s", err, out)
			}
			if _, err := os.Stat(run.leaves); run.leaves != "" && err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("serving", func(t *testing.T) {
		model := in("lenet5.onnx")
		m, err := builders.Build("lenet5", builders.Config{})
		if err == nil {
			err = onnxio.Save(model, m)
		}
		if err != nil {
			t.Fatal(err)
		}
		serving(t, exec.Command(filepath.Join(bin, "serving"), model, "127.0.0.1:0"))
	})
}

// serving asks the example's server for its model.
func serving(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	pipe, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	lines := bufio.NewScanner(pipe)
	for lines.Scan() {
		_, address, ok := strings.Cut(lines.Text(), "http://")
		if !ok {
			continue
		}
		r, err := http.Get("http://" + address + "/v2/models/model")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		if err != nil || r.StatusCode != 200 || !strings.Contains(string(body), `"input"`) {
			t.Errorf("%d %s %v", r.StatusCode, body, err)
		}
		return
	}
	t.Error("it does not say where it listens")
}

// The Go of README.md compiles.
func TestREADME(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skipf("compiles with the go command, which must be on the path: %v", err)
	}
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(text), "```go\n")
	if len(parts) != 3 {
		t.Fatalf("%d pieces of Go", len(parts)-1)
	}
	body, imports := "", ""
	for i, part := range parts[1:] {
		code, _, _ := strings.Cut(part, "```")
		if !strings.Contains(code, "return err\n```") && !strings.HasSuffix(code, "return err\n") {
			code += "\treturn nil\n"
		}
		body += "func piece" + strconv.Itoa(i) + "(ctx context.Context) error {\n" + code + "}\n"
	}
	for name, path := range map[string]string{"context": "context", "fmt": "fmt",
		"builders": "github.com/cnnkit/cnnkit/builders", "train": "github.com/cnnkit/cnnkit/train",
		"data": "github.com/cnnkit/cnnkit/train/data", "runtime": "github.com/cnnkit/cnnkit/runtime",
		"onnxio": "github.com/cnnkit/cnnkit/onnxio"} {
		if strings.Contains(body, name+".") {
			imports += strconv.Quote(path) + "\n"
		}
	}
	dir, err := os.MkdirTemp(".", "readme-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	program := "package main\nimport (\n" + imports + ")\n" + body + "func main() { _, _ = piece0, piece1 }\n"
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "vet", "./"+dir).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s\n%s", err, out, program)
	}
}
