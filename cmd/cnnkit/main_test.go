package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime/npy"
	"github.com/cnnkit/cnnkit/runtime/ort"
	"github.com/cnnkit/cnnkit/train"
	"github.com/cnnkit/cnnkit/train/data"
)

// TestMain lets the test binary be the program, for what can be tried once a process only.
func TestMain(m *testing.M) {
	switch os.Getenv("CNNKIT_TEST_AS_PROGRAM") {
	case "1":
		main()
	case "busy": // and deaf to the first Ctrl-C
		ctx, _ := interruptible()
		os.Stdout.WriteString("ready\n")
		<-ctx.Done()
		os.Stdout.WriteString("once\n")
		select {}
	}
	os.Exit(m.Run())
}

// result of one call.
type result struct {
	code     int
	out, err string
}

func cnnkit(t testing.TB, args ...string) result {
	t.Helper()
	var out, err bytes.Buffer
	code := run(context.Background(), append([]string{"cnnkit"}, args...), &out, &err)
	return result{code, out.String(), err.String()}
}

// done is a call that must succeed.
func done(t testing.TB, args ...string) string {
	t.Helper()
	r := cnnkit(t, args...)
	if r.code != exitDone {
		t.Fatalf("cnnkit %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.out, r.err)
	}
	return r.out
}

// answer is a call with --json, read into v.
func answer(t testing.TB, v any, args ...string) {
	t.Helper()
	out := done(t, append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), v); err != nil {
		t.Fatalf("cnnkit %s: %v in %s", strings.Join(args, " "), err, out)
	}
}

// program runs the program in a process of its own.
func program(t *testing.T, env []string, args ...string) result {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(append(os.Environ(), "CNNKIT_TEST_AS_PROGRAM=1"), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run()
	return result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

func needORT(t testing.TB) {
	t.Helper()
	if err := ort.Available(); err != nil {
		t.Skipf("ONNX Runtime is missing, 'cnnkit runtime install' fetches it: %v", err)
	}
}

// lenet builds LeNet-5 into a folder and gives the file.
func lenet(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "lenet5.onnx")
	done(t, "build", "lenet5", "--out", path)
	return path
}

// digits writes a small part of MNIST as a data set of its own, and gives what --data takes.
func digits(t testing.TB, nTrain, nTest int) string {
	t.Helper()
	splits, err := data.Open("mnist")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for prefix, part := range map[string]data.Dataset{"train": data.Subset{Dataset: splits.Train,
		Indices: data.Sequence(nTrain)},
		"t10k": data.Subset{Dataset: splits.Validation, Indices: data.Sequence(nTest)}} {
		n := part.Len()
		x, target := train.NewBatch(part.Shape(), n)
		if err := part.Fill(x, target, data.Sequence(n)); err != nil {
			t.Fatal(err)
		}
		pixels := make([]byte, n*28*28)
		for i, v := range x.Float32s() {
			pixels[i] = byte((v*0.3081+0.1307)*255 + 0.5)
		}
		labels := make([]byte, n)
		for i, l := range onnxio.Data[int64](target) {
			labels[i] = byte(l)
		}
		writeIDX(t, filepath.Join(dir, prefix+"-images-idx3-ubyte.gz"), pixels, n, 28, 28)
		writeIDX(t, filepath.Join(dir, prefix+"-labels-idx1-ubyte.gz"), labels, n)
	}
	return "mnist=" + dir
}

func writeIDX(t testing.TB, path string, content []byte, dims ...int) {
	t.Helper()
	b := []byte{0, 0, 8, byte(len(dims))}
	for _, d := range dims {
		b = binary.BigEndian.AppendUint32(b, uint32(d))
	}
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	_, _ = w.Write(append(b, content...))
	w.Close()
	write(t, path, z.Bytes())
}

func write(t testing.TB, path string, content []byte) string {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// array writes a .npy file of ones.
func array(t testing.TB, dims ...int64) string {
	t.Helper()
	x := onnxio.NewTensor(onnxio.Float, dims...)
	for i := range x.Float32s() {
		x.Float32s()[i] = 1
	}
	path := filepath.Join(t.TempDir(), "x.npy")
	if err := npy.Save(path, x); err != nil {
		t.Fatal(err)
	}
	return path
}

// A program that does little starts at once: no package of the module makes large tables before main.
func TestStartsLightly(t *testing.T) {
	r := program(t, []string{"GODEBUG=inittrace=1"}, "version")
	seen := 0
	for line := range strings.Lines(r.err) {
		var name string
		var at, took float64
		var bytes int
		// init NAME @0.5 ms, 0.01 ms clock, 1234 bytes, 5 allocs
		n, _ := fmt.Sscanf(line, "init %s @%g ms, %g ms clock, %d bytes", &name, &at, &took, &bytes)
		if n < 4 || !strings.HasPrefix(name, "github.com/cnnkit/") {
			continue
		}
		if seen++; bytes > 1<<20 {
			t.Errorf("package %s takes %d bytes before main starts", name, bytes)
		}
	}
	if seen < 5 {
		t.Errorf("%d packages of the module are traced:\n%s", seen, r.err)
	}
}
