package serve

import (
	"encoding/json"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/cnnkit/cnnkit/runtime/serve/internal/oip"
)

// configJSON is a configuration as Triton answers it: protobuf's JSON, in which 64-bit numbers
// are strings, with numbers.
func configJSON(c *oip.ModelConfig) ([]byte, error) {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(c)
	if err != nil {
		return nil, err
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		return nil, err
	}
	return json.Marshal(numbered(v, c.ProtoReflect().Descriptor()))
}

// numbered turns the strings of 64-bit fields into numbers.
func numbered(v any, d protoreflect.MessageDescriptor) any {
	object, ok := v.(map[string]any)
	if !ok || d == nil {
		return v
	}
	for key, value := range object {
		f := d.Fields().ByName(protoreflect.Name(key))
		switch {
		case f == nil:
		case f.IsMap():
			entries, _ := value.(map[string]any)
			for k, e := range entries {
				entries[k] = numberedField(e, f.MapValue())
			}
		default:
			object[key] = numberedField(value, f)
		}
	}
	return object
}

func numberedField(v any, f protoreflect.FieldDescriptor) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = numberedField(v[i], f)
		}
	case string:
		if f.Kind() == protoreflect.Int64Kind || f.Kind() == protoreflect.Uint64Kind {
			return json.Number(v)
		}
	case map[string]any:
		return numbered(v, f.Message())
	}
	return v
}
