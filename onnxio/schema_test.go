package onnxio

import (
	"encoding/json"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/cnnkit/cnnkit/onnxio/internal/onnxpb"
)

// TestSchemaAsInPython compares every field of our .proto with the descriptors of the Python
// package: its name, number, type, and whether it is a list. What we leave out is named here, and
// travels as unknown fields.
func TestSchemaAsInPython(t *testing.T) {
	var python map[string]map[string][4]any
	if err := json.Unmarshal(readFixture(t, "schema.json"), &python); err != nil {
		t.Fatal(err)
	}
	leftOut := map[string]bool{"ModelProto.configuration": true, "NodeProto.device_configurations": true}
	ours := map[string]protoreflect.MessageDescriptor{}
	var visit func(d protoreflect.MessageDescriptor)
	visit = func(d protoreflect.MessageDescriptor) {
		name := string(d.FullName()[len("cnnkit.onnx."):])
		if ours[name] != nil {
			return
		}
		ours[name] = d
		for i := range d.Fields().Len() {
			if m := d.Fields().Get(i).Message(); m != nil {
				visit(m)
			}
		}
	}
	visit((&onnxpb.ModelProto{}).ProtoReflect().Descriptor())
	for name, d := range ours {
		theirs := python[name]
		if theirs == nil {
			t.Errorf("Python has no message %s", name)
			continue
		}
		for field, f := range theirs {
			fd := d.Fields().ByName(protoreflect.Name(field))
			switch {
			case leftOut[name+"."+field]:
				if fd != nil || d.Fields().ByNumber(protoreflect.FieldNumber(f[0].(float64))) != nil {
					t.Errorf("%s.%s is said to be left out", name, field)
				}
			case fd == nil:
				t.Errorf("%s.%s is missing", name, field)
			case float64(fd.Number()) != f[0] || float64(fd.Kind()) != f[1] || fd.IsList() != f[2] ||
				fd.IsPacked() != f[3]:
				t.Errorf("%s.%s is %d, kind %v, list %v, packed %v; in Python %v", name, field, fd.Number(),
					fd.Kind(), fd.IsList(), fd.IsPacked(), f)
			}
		}
		for i := range d.Fields().Len() {
			if fd := d.Fields().Get(i); theirs[string(fd.Name())] == [4]any{} {
				t.Errorf("%s.%s is not in Python", name, fd.Name())
			}
		}
	}
	if len(ours) < 20 {
		t.Errorf("only %d messages compared", len(ours))
	}
}
