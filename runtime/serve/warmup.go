package serve

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime/serve/internal/oip"
)

// maxWarmups bounds the runs that one entry of model_warmup asks for.
const maxWarmups = 1000

// warmAsConfigured runs what model_warmup asks for. A warm-up that fails keeps the model out of service.
func (m *model) warmAsConfigured(ctx context.Context, dir string) error {
	for _, w := range m.config.ModelWarmup {
		if w.Count > maxWarmups {
			return fmt.Errorf("model_warmup %q: a count of %d, %d at most", w.Name, w.Count, maxWarmups)
		}
		in := map[string]*onnxio.Tensor{}
		for _, v := range m.session.Inputs() {
			said := w.Inputs[v.Name]
			if said == nil {
				return fmt.Errorf("model_warmup %q has no input %q", w.Name, v.Name)
			}
			t, err := m.warmInput(v, w, said, dir)
			if err != nil {
				return fmt.Errorf("model_warmup %q: input %q: %w", w.Name, v.Name, err)
			}
			in[v.Name] = t
		}
		for range max(w.Count, 1) {
			if _, err := m.session.Run(ctx, in); err != nil {
				return fmt.Errorf("model_warmup %q: %w", w.Name, err)
			}
		}
	}
	return nil
}

func (m *model) warmInput(v *onnxio.ValueInfo, w *oip.ModelWarmup, said *oip.ModelWarmup_Input,
	dir string) (*onnxio.Tensor, error) {
	if said.DataType != oip.DataType_TYPE_INVALID && said.DataType != configType(elemOf(v)) {
		return nil, fmt.Errorf("%v, but the model takes %v", said.DataType, configType(elemOf(v)))
	}
	dims := slices.Clone(said.Dims)
	if m.queue.most > 0 {
		dims = append([]int64{int64(max(w.BatchSize, 1))}, dims...)
	}
	if file, ok := said.InputDataType.(*oip.ModelWarmup_Input_InputDataFile); ok {
		return warmFile(elemOf(v), dims, dir, file.InputDataFile)
	}
	n, err := onnxio.CheckedBytes(elemOf(v), dims)
	if err != nil {
		return nil, err
	}
	if n > maxExample {
		return nil, &onnxio.LimitError{What: "bytes of a warm-up", Got: n, Limit: maxExample}
	}
	if said.GetRandomData() {
		return noise(rand.New(rand.NewPCG(1, 1)), elemOf(v), dims), nil
	}
	return onnxio.NewTensor(elemOf(v), dims...), nil
}

// warmFile reads elements in binary from a file of the model's folder warmup.
func warmFile(typ onnxio.DataType, dims []int64, dir, name string) (*onnxio.Tensor, error) {
	root, err := os.OpenRoot(filepath.Join(dir, "warmup"))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxExample+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxExample {
		return nil, &onnxio.LimitError{What: "bytes of a warm-up", Got: int64(len(data)), Limit: maxExample}
	}
	return fromRaw(typ, dims, data)
}
