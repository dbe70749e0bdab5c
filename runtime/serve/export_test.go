package serve

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/cnnkit/cnnkit/runtime/serve/internal/oip"
)

// Descriptors writes the protocol's messages as this package has them, for the clients' test.
func Descriptors(t testing.TB, path string) {
	t.Helper()
	set := &descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{
		protodesc.ToFileDescriptorProto(oip.File_inference_config_proto),
		protodesc.ToFileDescriptorProto(oip.File_inference_service_proto)}}
	data, err := proto.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
}

// Python runs a script of testdata/serve with the Python of CNNKIT_SERVE_PYTHON;
// without one the test is skipped.
func Python(t *testing.T, script string, args ...string) {
	t.Helper()
	PythonOf(t, "CNNKIT_SERVE_PYTHON", script, args...)
}

// PythonOf is Python with the interpreter that a variable names.
func PythonOf(t *testing.T, variable, script string, args ...string) {
	t.Helper()
	python := os.Getenv(variable)
	if python == "" {
		t.Skip(variable + " is not set: see testdata/serve/peers.sh")
	}
	cmd := exec.Command(python, append([]string{filepath.Join("../../testdata/serve", script)}, args...)...)
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Errorf("%s: %v", script, err)
	}
}
