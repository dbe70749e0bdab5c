package convert

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/internal/pickle"
	"github.com/cnnkit/cnnkit/onnxio"
)

// dictPickle nests a state dict {"w": tensor} under a key, beside an epoch.
func dictPickle(keys ...string) []byte {
	p := &pickler{}
	p.op(pickle.OpProto, 2, pickle.OpEmptyDict, pickle.OpMark)
	for _, k := range keys {
		p.str(k)
		one := statePickle(view{name: "w", storage: "FloatStorage", key: "0", numel: 1, sizes: []int64{1},
			stride: []int64{1}})
		p.b = append(p.b, one[2:len(one)-1]...) // without PROTO and STOP
	}
	p.str("epoch")
	p.int(3)
	p.op(pickle.OpSetItems, pickle.OpStop)
	return p.b
}

// A state dict is found where training scripts put it; a choice between several is the caller's.
func TestWhereTheStateDictIs(t *testing.T) {
	for _, key := range []string{"state_dict", "model", "net", "model_state_dict", "somewhere"} {
		sd, err := loadBytes(torchZip(dictPickle(key), make([]byte, 4)), Limits{})
		if err != nil || sd.Get("w") == nil || !slices.Equal(sd.Skipped, []string{"epoch"}) {
			t.Errorf("under %q: %v", key, err)
		}
	}
	for _, two := range [][]string{{"ema", "net"}, {"student", "teacher"}} {
		_, err := loadBytes(torchZip(dictPickle(two...), make([]byte, 4)), Limits{})
		if !typed(err) || !strings.Contains(err.Error(), two[0]) || !strings.Contains(err.Error(), two[1]) {
			t.Errorf("two candidates: %v", err)
		}
	}
}

// All that does not fit is listed at once, with the nearest names, and a strict call changes nothing.
func TestReport(t *testing.T) {
	m, err := builders.Build("lenet5", builders.Config{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	full, err := FromModel(m)
	if err != nil {
		t.Fatal(err)
	}
	entries := full.Entries()
	first, second, last := entries[0], entries[1], entries[len(entries)-1]
	sd := &StateDict{}
	misspelt := first.Name + "s"
	sd.Set(misspelt, onnxio.NewTensor(first.Tensor.Type, first.Tensor.Dims...))
	sd.Set(second.Name, onnxio.NewTensor(onnxio.Float, 1, 2, 3))
	for _, e := range entries[2 : len(entries)-1] {
		sd.Set(e.Name, onnxio.NewTensor(e.Tensor.Type, e.Tensor.Dims...))
	}
	sd.Set("bn1.num_batches_tracked", onnxio.Scalar(onnxio.Int64, int64(1)))
	rep, err := Apply(m, sd, ApplyOptions{Strict: true})
	var me *MatchError
	if !errors.As(err, &me) {
		t.Fatalf("error %v", err)
	}
	if len(rep.Missing) != 2 || len(rep.Unexpected) != 1 || len(rep.Mismatched) != 1 ||
		len(rep.Ignored) != 1 {
		t.Errorf("report: %s", rep)
	}
	if rep.Missing[0] != (Key{Name: first.Name, Nearest: misspelt}) ||
		rep.Unexpected[0] != (Key{Name: misspelt, Nearest: first.Name}) {
		t.Errorf("nearest names: %+v, %+v", rep.Missing, rep.Unexpected)
	}
	for _, want := range []string{first.Name, misspelt, second.Name, last.Name, "[1 2 3]"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
	if m.Graph.Initializer(entries[2].Name) != entries[2].Tensor {
		t.Error("the strict call changed the model")
	}
	if _, err := Apply(m, sd, ApplyOptions{}); err != nil {
		t.Errorf("not strict: %v", err)
	}
	if x := m.Graph.Initializer(entries[2].Name); x == entries[2].Tensor || x.Float32s()[0] != 0 {
		t.Error("what fits was not applied")
	}
}

// Half, bfloat16 and double weights become the model's floats; integers do not.
func TestApplyConvertsTypes(t *testing.T) {
	for _, typ := range []onnxio.DataType{onnxio.Float16, onnxio.BFloat16, onnxio.Double, onnxio.Int64} {
		m, err := builders.Build("lenet5", builders.Config{Seed: 1})
		if err != nil {
			t.Fatal(err)
		}
		sd, err := FromModel(m)
		if err != nil {
			t.Fatal(err)
		}
		name := sd.Entries()[0].Name
		x := onnxio.NewTensor(typ, sd.Entries()[0].Tensor.Dims...)
		if typ != onnxio.Int64 {
			setFloat(x, 1, -1.5)
		}
		sd.Set(name, x)
		rep, err := Apply(m, sd, ApplyOptions{Strict: true})
		if typ == onnxio.Int64 {
			if len(rep.Mismatched) != 1 || err == nil {
				t.Errorf("%v: %v", typ, err)
			}
			continue
		}
		if y := m.Graph.Initializer(name); err != nil || y.Type != onnxio.Float || y.Float32s()[1] != -1.5 ||
			y.Float32s()[0] != 0 {
			t.Errorf("%v: %v", typ, err)
		}
	}
}

// The state dict has PyTorch's order: num_batches_tracked follows running_var, in every BatchNorm.
func TestBatchesTracked(t *testing.T) {
	m, err := builders.Build("resnet", builders.Config{})
	if err != nil {
		t.Fatal(err)
	}
	sd, err := FromModel(m)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for i, e := range sd.Entries() {
		p, ok := strings.CutSuffix(e.Name, ".num_batches_tracked")
		if !ok {
			continue
		}
		found++
		if e.Tensor.Type != onnxio.Int64 || len(e.Tensor.Dims) != 0 ||
			sd.Entries()[i-1].Name != p+".running_var" {
			t.Errorf("%s: %v %v after %s", e.Name, e.Tensor.Type, e.Tensor.Dims, sd.Entries()[i-1].Name)
		}
	}
	norms := 0
	for _, n := range m.Graph.Nodes {
		if n.OpType == "BatchNormalization" {
			norms++
		}
	}
	if found == 0 || found != norms {
		t.Errorf("%d counters for %d layers", found, norms)
	}
}

// A key that is called otherwise in its module is near by its place and shape.
func TestNearestInModule(t *testing.T) {
	m, err := builders.Build("resnet20", builders.Config{})
	if err != nil {
		t.Fatal(err)
	}
	full, err := FromModel(m)
	if err != nil {
		t.Fatal(err)
	}
	sd := &StateDict{}
	for _, e := range full.Entries() {
		sd.Set(strings.Replace(e.Name, "layer2.0.bn1.weight", "layer2.0.bn1.gamma", 1), e.Tensor)
	}
	rep, err := Apply(m, sd, ApplyOptions{Strict: true})
	if err == nil || len(rep.Missing) != 1 || rep.Missing[0].Nearest != "layer2.0.bn1.gamma" ||
		rep.Unexpected[0].Nearest != "layer2.0.bn1.weight" {
		t.Errorf("%v", err)
	}
}
