package onnxio

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/cnnkit/cnnkit/onnxio/internal/onnxpb"
)

const fixtures = "../testdata/onnxio/"

func readFixture(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(fixtures + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func decodeBytes(b []byte) (*Model, error) {
	return Decode(bytes.NewReader(b), int64(len(b)), Limits{})
}

func decodeFixture(t testing.TB, name string) *Model {
	t.Helper()
	m, err := decodeBytes(readFixture(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestFieldsAsPythonReadsThem compares, field by field, what Encode writes of a model that Python wrote with
// what Python reads from it.
func TestFieldsAsPythonReadsThem(t *testing.T) {
	m := decodeFixture(t, "fields.onnx")
	b, err := Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	var p onnxpb.ModelProto
	if err := proto.Unmarshal(b, &p); err != nil {
		t.Fatal(err)
	}
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(&p)
	if err != nil {
		t.Fatal(err)
	}
	var got, want any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(readFixture(t, "fields.json"), &want); err != nil {
		t.Fatal(err)
	}
	differ(t, "model", got, want)
}

// differ names the places where two JSON values differ.
func differ(t *testing.T, path string, got, want any) {
	t.Helper()
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			t.Errorf("%s: %v, want %v", path, got, want)
			return
		}
		for k := range w {
			differ(t, path+"."+k, g[k], w[k])
		}
		for k := range g {
			if _, ok := w[k]; !ok {
				t.Errorf("%s.%s: %v, want nothing", path, k, g[k])
			}
		}
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			t.Errorf("%s: %v, want %v", path, got, want)
			return
		}
		for i := range w {
			differ(t, path, g[i], w[i])
		}
	default:
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", path, got, want)
		}
	}
}

// TestTypedFieldsEqualRaw: the elements are the same whichever field Python put them
// in, for every element type.
func TestTypedFieldsEqualRaw(t *testing.T) {
	typed, raw := decodeFixture(t, "fields.onnx"), decodeFixture(t, "raw.onnx")
	if !same(typed, raw) {
		t.Error("the models differ")
	}
	seen := map[DataType]bool{}
	for i, a := range typed.Graph.Initializers {
		b := raw.Graph.Initializers[i]
		seen[a.Type] = true
		if a.Type != b.Type || !bytes.Equal(a.Raw, b.Raw) || !reflect.DeepEqual(a.Strings, b.Strings) {
			t.Errorf("%s: %x %q, raw %x %q", a.Name, a.Raw, a.Strings, b.Raw, b.Strings)
		}
	}
	for d := Float; d.Valid(); d++ {
		if !seen[d] {
			t.Errorf("no tensor of type %v", d)
		}
		x, err := DecodeTensor(readFixture(t, "tensors/"+onnxName(d)+".pb"))
		if err != nil {
			t.Errorf("%v: %v", d, err)
			continue
		}
		want := raw.Graph.Initializer(onnxName(d))
		if !bytes.Equal(x.Raw, want.Raw) || !reflect.DeepEqual(x.Strings, want.Strings) {
			t.Errorf("%v: %x, want %x", d, x.Raw, want.Raw)
		}
	}
}

// onnxName is the name of TensorProto.DataType in lower case.
func onnxName(d DataType) string {
	return strings.NewReplacer("float32", "float", "float64", "double").Replace(d.String())
}

func TestRoundTrip(t *testing.T) {
	for _, name := range []string{"fields.onnx", "raw.onnx", "external.onnx", "valid.onnx"} {
		t.Run(name, func(t *testing.T) { checkModelRoundTrip(t, name, decodeFixture(t, name)) })
	}
	t.Run("empty", func(t *testing.T) { checkModelRoundTrip(t, "empty", &Model{}) })
	t.Run("zero values", func(t *testing.T) {
		checkModelRoundTrip(t, "zero values", &Model{Graph: &Graph{
			Nodes: []*Node{{Attrs: []*Attribute{{Type: AttrFloat}, {Type: AttrString}, {}}}, {}},
			Inputs: []*ValueInfo{{}, {Type: &Type{}}, {Type: &Type{HasShape: true}},
				{Type: &Type{Kind: NoType}}},
			Outputs: []*ValueInfo{{Type: &Type{HasShape: true, Shape: []Dim{{Value: -1}, {Value: 0},
				{Param: "N"}}}}},
		}, Functions: []*Function{{}}, Opsets: []Opset{{}}, Metadata: []Property{{}}})
	})
	t.Run("tensors", func(t *testing.T) {
		for _, x := range decodeFixture(t, "fields.onnx").Graph.Initializers {
			b, err := EncodeTensor(x)
			if err != nil {
				t.Errorf("%s: %v", x.Name, err)
				continue
			}
			if y, err := DecodeTensor(b); err != nil || !same(x, y) {
				t.Errorf("%s: %v", x.Name, err)
			}
		}
	})
}

// TestDeterministic: the same model gives the same bytes however often it is encoded.
func TestDeterministic(t *testing.T) {
	first, err := Encode(decodeFixture(t, "fields.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		b, err := Encode(decodeFixture(t, "fields.onnx"))
		if err != nil || !bytes.Equal(b, first) {
			t.Fatalf("other bytes: %v", err)
		}
	}
}

// TestUnknownFieldsSurvive plants a field of a newer schema in every message of a model and looks for all of
// them in what Encode writes.
func TestUnknownFieldsSurvive(t *testing.T) {
	var p onnxpb.ModelProto
	if err := proto.Unmarshal(readFixture(t, "raw.onnx"), &p); err != nil {
		t.Fatal(err)
	}
	planted := 0
	plant(p.ProtoReflect(), &planted)
	want, err := proto.MarshalOptions{Deterministic: true}.Marshal(&p)
	if err != nil {
		t.Fatal(err)
	}
	m, err := decodeBytes(want)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	var q onnxpb.ModelProto
	if err := proto.Unmarshal(b, &q); err != nil {
		t.Fatal(err)
	}
	found := map[uint64]bool{}
	seek(q.ProtoReflect(), found)
	for i := range planted {
		if !found[uint64(i)] {
			t.Errorf("unknown field %d of %d is lost", i, planted)
		}
	}
	if planted < 200 {
		t.Errorf("only %d fields planted", planted)
	}
	checkModelRoundTrip(t, "planted", m)
}
