package serve_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime/serve"
)

// exported lays LeNet-5, U-Net and the test models out as Triton wants them.
func exported(t testing.TB, repo string) {
	t.Helper()
	all := testModels()
	for name, path := range map[string]string{"digits": lenet, "nuclei": nuclei} {
		m, err := onnxio.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = m
	}
	all["vector"] = graph([]*onnxio.ValueInfo{tensor("x", onnxio.Float, "N")},
		[]*onnxio.ValueInfo{tensor("y", onnxio.Float, "N")}, "y=Relu(x)")
	for name, m := range all {
		if err := (serve.Export{Name: name}).Triton(repo, m); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

// What is exported is served again, with the same batches and labels.
func TestExport(t *testing.T) {
	repo := t.TempDir()
	exported(t, repo)
	text, err := os.ReadFile(filepath.Join(repo, "digits", "config.pbtxt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"name: \"digits\"", "max_batch_size: 32", "  dims: [ 1, 28, 28 ]",
		"  label_filename: \"labels.txt\""} {
		if !strings.Contains(string(text), line+"\n") {
			t.Errorf("no line %s in\n%s", line, text)
		}
	}
	if labels, err := os.ReadFile(filepath.Join(repo, "digits", "labels.txt")); err != nil ||
		strings.Count(string(labels), "\n") != 10 {
		t.Errorf("labels: %q, %v", labels, err)
	}
	_, web := started(t, serve.Options{Models: []string{repo}})
	for model, says := range map[string]string{"digits": `"max_batch_size":32`, "fixed": `"dims":[2,4]`,
		"vector": `"max_batch_size":32`} {
		if r := call(t, "GET", web.URL+"/v2/models/"+model+"/config", nil); !strings.Contains(r.text(),
			says) {
			t.Errorf("%s: %s", model, r.body)
		}
	}
	for name, e := range map[string]serve.Export{"": {}, "a path": {Name: "../x"}} {
		if err := e.Triton(repo, testModels()["pair"]); err == nil {
			t.Errorf("%q is a name", name)
		}
	}
}
