package ops

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// onnxSchema is one version of an operator in testdata/ops/schemas.json.
type onnxSchema struct {
	In, Out [][3]string
	Attrs   map[string][2]any
}

var attrTypes = map[string]onnxio.AttrType{"FLOAT": onnxio.AttrFloat, "INT": onnxio.AttrInt,
	"STRING": onnxio.AttrString,
	"TENSOR": onnxio.AttrTensor, "GRAPH": onnxio.AttrGraph, "FLOATS": onnxio.AttrFloats,
	"INTS":    onnxio.AttrInts,
	"STRINGS": onnxio.AttrStrings, "TENSORS": onnxio.AttrTensors, "GRAPHS": onnxio.AttrGraphs,
	"SPARSE_TENSOR": onnxio.AttrSparseTensor, "TYPE_PROTO": onnxio.AttrTypeProto}

// TestSchemas compares every definition with the schemas of the onnx package: versions, the attributes of
// each version with their types, its inputs and outputs, the element types of all versions together. What
// would refuse a valid model fails; where a definition is laxer than ONNX, or lacks an element type or a
// version newer than its newest, is logged.
func TestSchemas(t *testing.T) { checkSchemas(t, "", "schemas.json") }

// TestContribSchemas does the same with ONNX Runtime's own operators.
func TestContribSchemas(t *testing.T) { checkSchemas(t, ContribDomain, "contrib.json") }

func checkSchemas(t *testing.T, domain, file string) {
	b, err := os.ReadFile("../../testdata/ops/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]map[string]onnxSchema
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	for _, d := range Defs() {
		if d.Domain == domain && d.Name != phish.name {
			t.Run(d.Name, func(t *testing.T) {
				if all[d.Name] == nil {
					t.Fatal("there is no such operator")
				}
				checkSchema(t, d, all[d.Name])
			})
		}
	}
}

func checkSchema(t *testing.T, d *Def, versions map[string]onnxSchema) {
	var numbers []int64
	for v := range versions {
		n, _ := strconv.ParseInt(v, 10, 64)
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	last := d.Versions[len(d.Versions)-1]
	for len(numbers) > 0 && numbers[len(numbers)-1] > last {
		t.Logf("version %d is missing", numbers[len(numbers)-1])
		numbers = numbers[:len(numbers)-1]
	}
	if !slices.Equal(numbers, d.Versions) {
		t.Fatalf("versions %v, ONNX has %v", d.Versions, numbers)
	}
	for _, v := range numbers {
		checkAttrs(t, d, v, versions[strconv.FormatInt(v, 10)])
	}
	for _, v := range numbers {
		schema := versions[strconv.FormatInt(v, 10)]
		checkParams(t, fmt.Sprintf("version %d: input", v), d.InputsAt(v), schema.In)
		checkParams(t, fmt.Sprintf("version %d: output", v), d.OutputsAt(v), schema.Out)
	}
	for _, p := range d.Inputs {
		want := map[string]bool{}
		for _, v := range numbers {
			schema := versions[strconv.FormatInt(v, 10)]
			for i, q := range d.InputsAt(v) {
				if q == p && i < len(schema.In) {
					for _, name := range strings.Fields(schema.In[i][2]) {
						want[name] = true
					}
				}
			}
		}
		if d.Name == "Dropout" { // float8 is storage for quantised weights, which no Dropout meets
			for name := range want {
				if strings.HasPrefix(name, "float8") {
					delete(want, name)
				}
			}
		}
		checkTypes(t, p, d.Types[p.Type], want)
	}
}

// checkTypes compares an input's types with ONNX's, by name.
func checkTypes(t *testing.T, p Param, set TypeSet, want map[string]bool) {
	for typ := onnxio.Float; typ <= onnxio.Int2; typ++ {
		name := typ.String()
		switch typ {
		case onnxio.Float:
			name = "float"
		case onnxio.Double:
			name = "double"
		}
		if set.Has(typ) && !want[name] {
			t.Logf("input %s admits %s, ONNX does not", p.Name, name)
		}
		if !set.Has(typ) && want[name] {
			t.Logf("input %s does not admit %s", p.Name, name)
		}
	}
}

func checkAttrs(t *testing.T, d *Def, version int64, s onnxSchema) {
	have := map[string]AttrDef{}
	for _, a := range d.Attrs {
		if (a.Since == 0 || a.Since <= version) && (a.Until == 0 || a.Until >= version) {
			have[a.Name] = a
		}
	}
	var names []string
	for name := range s.Attrs {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		a, ok := have[name]
		if !ok && d.Name == "Cast" && version == 1 {
			continue // its "to" was a string; no exporter is left that writes it
		}
		if !ok {
			t.Errorf("version %d: attribute %s is missing", version, name)
			continue
		}
		if want := attrTypes[s.Attrs[name][0].(string)]; a.Type != want {
			t.Errorf("version %d: attribute %s has type %d, ONNX says %d", version, name, a.Type, want)
		}
		switch required := s.Attrs[name][1].(bool); {
		case a.Required && !required:
			t.Errorf("version %d: attribute %s is required, ONNX has it optional", version, name)
		case required && !a.Required:
			t.Logf("version %d: attribute %s is optional, ONNX requires it", version, name)
		}
		delete(have, name)
	}
	for name := range have {
		t.Errorf("version %d: ONNX has no attribute %s", version, name)
	}
}

// checkParams compares inputs or outputs with those of ONNX's version.
func checkParams(t *testing.T, what string, have []Param, want [][3]string) {
	have = slices.DeleteFunc(slices.Clone(have), func(p Param) bool { return p.Internal })
	if len(have) != len(want) {
		t.Errorf("%ss: %d, ONNX has %d", what, len(have), len(want))
		return
	}
	for i, p := range have {
		option := "single"
		if p.Variadic {
			option = "variadic"
		} else if p.Optional {
			option = "optional"
		}
		switch {
		case option == "optional" && want[i][1] == "single":
			t.Logf("%s %d: %s is optional, ONNX requires it", what, i, p.Name)
		case option != want[i][1]:
			t.Errorf("%s %d: %s %s, ONNX has %s %s", what, i, option, p.Name, want[i][1], want[i][0])
		}
		if p.Name != want[i][0] {
			t.Logf("%s %d is called %s, by ONNX %s", what, i, p.Name, want[i][0])
		}
	}
}
