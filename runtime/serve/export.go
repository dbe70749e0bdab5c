package serve

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/spec"
)

// Export says how a model is laid out for Triton.
type Export struct {
	Name      string        // of the model
	Version   int64         // 0: 1
	MaxBatch  int           // where the model's batch is free; 0: 32
	MaxDelay  time.Duration // of dynamic batching
	Instances int           // 0: 1
	GPU       bool          // on Triton's GPUs
}

// labelFile is beside the configuration, and has a label a line.
const labelFile = "labels.txt"

// Triton writes a model into a repository that Triton and Server read: REPO/NAME/VERSION/model.onnx, its
// config.pbtxt, and labels.txt where the model has labels.
func (e Export) Triton(repo string, m *onnxio.Model) error {
	if !modelName.MatchString(e.Name) {
		return badName(e.Name)
	}
	config, err := e.config(m)
	if err != nil {
		return err
	}
	dir := filepath.Join(repo, e.Name)
	version := filepath.Join(dir, strconv.FormatInt(max(e.Version, 1), 10))
	if err := os.MkdirAll(version, 0o777); err != nil {
		return err
	}
	if err := onnxio.Save(filepath.Join(version, "model.onnx"), m); err != nil {
		return err
	}
	if labels := spec.Labels(m); len(labels) > 0 {
		if err := writeText(filepath.Join(dir, labelFile), lines(labels)); err != nil {
			return err
		}
	}
	return writeText(filepath.Join(dir, configFile), config)
}

func writeText(path, text string) error {
	return onnxio.WriteFile(path, func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	})
}

// lines is a label a line; a line break within one becomes a space.
func lines(labels []string) string {
	var b strings.Builder
	for _, l := range labels {
		b.WriteString(strings.NewReplacer("\n", " ", "\r", " ").Replace(l) + "\n")
	}
	return b.String()
}

// config is the text of the configuration. prototext would do it, but for its spaces, which
// differ from program to program.
func (e Export) config(m *onnxio.Model) (string, error) {
	var in []*onnxio.ValueInfo
	for _, v := range m.Graph.Inputs {
		if m.Graph.Initializer(v.Name) == nil {
			in = append(in, v)
		}
	}
	most := 0
	if unbatchable(in, m.Graph.Outputs) == "" {
		if most = e.MaxBatch; most == 0 {
			most = 32
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "name: %q\nplatform: \"onnxruntime_onnx\"\nmax_batch_size: %d\n", e.Name, most)
	labels := ""
	if len(spec.Labels(m)) > 0 {
		labels = fmt.Sprintf("  label_filename: %q\n", labelFile)
	}
	for _, v := range in {
		if err := configTensor(&b, "input", v, most > 0, ""); err != nil {
			return "", err
		}
	}
	for i, v := range m.Graph.Outputs {
		if i > 0 {
			labels = ""
		}
		if err := configTensor(&b, "output", v, most > 0, labels); err != nil {
			return "", err
		}
	}
	if most > 0 {
		fmt.Fprintf(&b, "dynamic_batching {\n  max_queue_delay_microseconds: %d\n}\n",
			e.MaxDelay.Microseconds())
	}
	kind := "KIND_CPU"
	if e.GPU {
		kind = "KIND_GPU"
	}
	fmt.Fprintf(&b, "instance_group {\n  count: %d\n  kind: %s\n}\n", max(e.Instances, 1), kind)
	_, skipped, err := parseConfig([]byte(b.String()))
	if err == nil {
		err = skipped
	}
	return b.String(), err
}

func configTensor(b *strings.Builder, what string, v *onnxio.ValueInfo, batched bool, more string) error {
	dims := dimsOf(v)
	if dims == nil || datatypeOf(elemOf(v)) == "" {
		return &onnxio.UnsupportedError{Op: "model",
			Reason: fmt.Sprintf("%s %q is %v without a shape that Triton could be told", what,
				v.Name, elemOf(v))}
	}
	if batched {
		dims = dims[1:]
	}
	if len(dims) == 0 {
		dims, more = []int64{1}, more+"  reshape { shape: [ ] }\n"
	}
	text := strings.Join(strings.Fields(strings.Trim(fmt.Sprint(dims), "[]")), ", ")
	_, err := fmt.Fprintf(b, "%s {\n  name: %q\n  data_type: %v\n  dims: [ %s ]\n%s}\n",
		what, v.Name, configType(elemOf(v)), text, more)
	return err
}
