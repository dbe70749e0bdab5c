//go:build cgo && linux

package ort

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Where ONNX Runtime reports to its makers it keeps a database of what it is going to send in the user's
// cache folder. Another process looks, since the library is loaded once and for all.
func TestNothingIsReported(t *testing.T) {
	if os.Getenv("CNNKIT_TEST_QUIET") != "" {
		opened(t, reluModel())
		return
	}
	needORT(t)
	lib, err := Library()
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	var env []string
	for _, e := range os.Environ() {
		name, _, _ := strings.Cut(e, "=")
		switch name {
		case "CI", "ORT_RUNNING_UNIT_TESTS", "ORT_DISABLE_TELEMETRY", "HOME", "XDG_CACHE_HOME", "TMPDIR":
		default:
			env = append(env, e)
		}
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestNothingIsReported$")
	cmd.Env = append(env, "CNNKIT_TEST_QUIET=1", "CNNKIT_ORT_LIB="+lib, "HOME="+home, "XDG_CACHE_HOME="+home,
		"TMPDIR="+home)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	left, err := os.ReadDir(home)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range left {
		t.Errorf("ONNX Runtime leaves %s", f.Name())
	}
}
