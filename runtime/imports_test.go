package runtime_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

func withGo(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no go command on the path: run it where Go is installed")
	}
}

// What only a server needs stays in the server, and MNIST in the command: a program that runs or
// trains models links none of it.
func TestImports(t *testing.T) {
	withGo(t)
	out, err := exec.Command("go", "list", "-deps", "github.com/cnnkit/cnnkit/runtime",
		"github.com/cnnkit/cnnkit/train",
		"github.com/cnnkit/cnnkit/train/report", "github.com/cnnkit/cnnkit/convert",
		"github.com/cnnkit/cnnkit/builders").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v %s", err, out)
	}
	for pkg := range strings.Lines(string(out)) {
		for _, foreign := range []string{"google.golang.org/grpc", "github.com/prometheus",
			"go.opentelemetry.io", "cnnkit/runtime/serve", "cnnkit/train/data/mnist"} {
			if strings.Contains(pkg, foreign) {
				t.Errorf("the library depends on %s", strings.TrimSpace(pkg))
			}
		}
	}
}

// The native engine alone compiles no C, no plots, and nothing of the other engines.
func TestLightImports(t *testing.T) {
	withGo(t)
	cmd := exec.Command("go", "list", "-deps", "github.com/cnnkit/cnnkit/runtime",
		"github.com/cnnkit/cnnkit/runtime/vision")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v %s", err, out)
	}
	for pkg := range strings.Lines(string(out)) {
		pkg = strings.TrimSpace(pkg)
		for _, heavy := range []string{"gorgonia.org/", "gonum.org/", "onnx-go", "onnxruntime_go",
			"runtime/cgo", "net/http", "urfave", "cnnkit/train"} {
			if strings.Contains(pkg, heavy) && pkg != "internal/runtime/cgo" {
				t.Errorf("package runtime compiles %s", pkg)
			}
		}
	}
}
