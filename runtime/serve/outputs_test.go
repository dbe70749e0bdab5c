package serve_test

import (
	"encoding/binary"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime/serve"
	"github.com/cnnkit/cnnkit/runtime/serve/internal/oip"
)

// A model that has an input or output that is no tensor of the protocol's types does not
// load, and the error names it.
func TestForeignTypes(t *testing.T) {
	float := &onnxio.Type{Elem: onnxio.Float}
	words := &onnxio.Type{Kind: onnxio.MapType, Key: onnxio.Int64, Of: float}
	x := tensor("x", onnxio.Float, "N", 3)
	for _, c := range []struct {
		typ  *onnxio.Type
		want string
	}{
		{&onnxio.Type{Kind: onnxio.SequenceType, Of: float}, "a sequence, each of it a tensor of float"},
		{&onnxio.Type{Kind: onnxio.SequenceType, Of: words},
			"a sequence, each of it a map from int64, each value a tensor"},
		{words, "a map from int64, each value a tensor of float"},
		{&onnxio.Type{Kind: onnxio.OptionalType, Of: float}, "optional, and else a tensor of float"},
		{&onnxio.Type{Kind: onnxio.SparseTensorType, Elem: onnxio.Float}, "a sparse tensor of float"},
		{&onnxio.Type{Elem: onnxio.Complex64, HasShape: true}, "a tensor of complex64"},
	} {
		path := filepath.Join(t.TempDir(), "m.onnx")
		m := graph([]*onnxio.ValueInfo{x}, []*onnxio.ValueInfo{{Name: "y", Type: c.typ}}, "y=Identity(x)")
		if err := onnxio.Save(path, m); err != nil {
			t.Fatal(err)
		}
		s := serve.New(serve.Options{Models: []string{path}})
		err := s.Load(t.Context())
		s.Close()
		if err == nil || !strings.Contains(err.Error(), `output "y" is `+c.want) ||
			!strings.Contains(err.Error(), "m.onnx") {
			t.Errorf("%s: %v", c.want, err)
		}
	}
}

// Strings that a model makes are BYTES: words in JSON, and each behind its length in binary and over gRPC.
func TestStringOutputs(t *testing.T) {
	m := graph([]*onnxio.ValueInfo{tensor("x", onnxio.Float, "N", 2)},
		[]*onnxio.ValueInfo{tensor("y", onnxio.String, "N", 2)}, "y=Cast(x)")
	m.Graph.Nodes[0].Attrs = []*onnxio.Attribute{onnxio.IntAttr("to", int64(onnxio.String))}
	path := filepath.Join(t.TempDir(), "spell.onnx")
	if err := onnxio.Save(path, m); err != nil {
		t.Fatal(err)
	}
	_, web, rpc, _ := serving(t, serve.Options{Models: []string{path}, DrainGrace: 1})
	in := `"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1.5,-2.25]}]`
	r := call(t, "POST", web+"/v2/models/spell/infer", []byte(`{`+in+`}`))
	if r.status != 200 ||
		!strings.Contains(r.text(), `"datatype":"BYTES","shape":[1,2],"data":["1.5","-2.25"]`) {
		t.Errorf("JSON: %d %s", r.status, r.body)
	}
	var packed []byte
	for _, word := range []string{"1.5", "-2.25"} {
		packed = append(binary.LittleEndian.AppendUint32(packed, uint32(len(word))), word...)
	}
	r = call(t, "POST", web+"/v2/models/spell/infer",
		[]byte(`{"parameters":{"binary_data_output":true},`+in+`}`))
	if r.status != 200 ||
		!strings.HasSuffix(r.text(), `"parameters":{"binary_data_size":16}}]}`+string(packed)) {
		t.Errorf("binary: %d %q", r.status, r.body)
	}
	c, err := grpc.NewClient(rpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	out, err := oip.NewGRPCInferenceServiceClient(c).ModelInfer(t.Context(),
		&oip.ModelInferRequest{ModelName: "spell",
			Inputs: []*oip.ModelInferRequest_InferInputTensor{{Name: "x", Datatype: "FP32",
				Shape:    []int64{1, 2},
				Contents: &oip.InferTensorContents{Fp32Contents: []float32{1.5, -2.25}}}}})
	if err != nil || out.Outputs[0].Datatype != "BYTES" ||
		string(out.RawOutputContents[0]) != string(packed) {
		t.Errorf("gRPC: %v, %v", out, err)
	}
}
