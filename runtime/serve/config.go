package serve

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"google.golang.org/protobuf/encoding/prototext"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime"
	"github.com/cnnkit/cnnkit/runtime/serve/internal/oip"
)

// configFile is the name of a model's configuration in Triton's layout.
const configFile = "config.pbtxt"

// maxConfig bounds the bytes of a configuration.
const maxConfig = 1 << 20

// readConfig reads dir's configuration; nil where it has none. Settings that cnnkit does not know are said
// and skipped; those that would change what a model answers are refused.
func readConfig(dir string, log *slog.Logger) (*oip.ModelConfig, error) {
	path := filepath.Join(dir, configFile)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxConfig {
		large := &onnxio.LimitError{What: "bytes of a configuration", Got: int64(len(text)), Limit: maxConfig}
		return nil, fmt.Errorf("%s: %w", path, large)
	}
	c, skipped, err := parseConfig(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if skipped != nil {
		log.Warn("settings that are not known are skipped", "file", path, "first", skipped)
	}
	return c, nil
}

// parseConfig reads the text form; skipped is the complaint about the first setting that is not known.
func parseConfig(text []byte) (c *oip.ModelConfig, skipped, err error) {
	c = &oip.ModelConfig{}
	skipped = prototext.Unmarshal(text, c)
	if skipped != nil {
		c = &oip.ModelConfig{}
		if err := (prototext.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(text, c); err != nil {
			return nil, nil, &onnxio.FormatError{Format: configFile, Err: err}
		}
	}
	return c, skipped, refused(c)
}

// refused names a setting that cnnkit cannot honor and must not skip.
func refused(c *oip.ModelConfig) error {
	for what, there := range map[string]bool{
		"sequence_batching": c.SequenceBatching != nil, "ensemble_scheduling": c.EnsembleScheduling != nil,
		"model_repository_agents":   c.ModelRepositoryAgents != nil,
		"a negative max_batch_size": c.MaxBatchSize < 0,
	} {
		if there {
			return &onnxio.UnsupportedError{Op: "configuration", Reason: what + " is not served"}
		}
	}
	onnx := slices.Contains([]string{"", "onnxruntime_onnx", platform}, c.Platform)
	if !onnx || !slices.Contains([]string{"", "onnxruntime", "cnnkit"}, c.Backend) {
		return &onnxio.UnsupportedError{Op: "configuration",
			Reason: fmt.Sprintf("platform %q, backend %q: ONNX models are served", c.Platform, c.Backend)}
	}
	for _, v := range c.Input {
		if err := reshaped(v.Name, &v.Dims, &v.Reshape); err != nil {
			return err
		}
	}
	for _, v := range c.Output {
		if err := reshaped(v.Name, &v.Dims, &v.Reshape); err != nil {
			return err
		}
	}
	return nil
}

// reshaped refuses to reshape a tensor, but where Triton wants it: of one that has no
// dimension but the batch.
func reshaped(name string, dims *[]int64, r **oip.ModelTensorReshape) error {
	if *r == nil {
		return nil
	}
	if len((*r).Shape) > 0 || len(*dims) != 1 || (*dims)[0] != 1 {
		return &onnxio.UnsupportedError{Op: "configuration", Reason: "reshape of " + name + " is not served"}
	}
	*dims, *r = nil, nil
	return nil
}

// platform names what serves the models, in the protocol's form PROJECT_FORMAT.
const platform = "cnnkit_onnx"

// complete makes the configuration say what the model does: it fills in what is left out
// and refuses what is wrong.
func complete(c *oip.ModelConfig, name string, s runtime.Session, opt *Options) error {
	if c.Name != "" && c.Name != name {
		return &onnxio.FormatError{Format: configFile,
			Msg: fmt.Sprintf("the name is %q, but the folder's is %q", c.Name, name)}
	}
	c.Name, c.Platform, c.Backend = name, platform, "cnnkit"
	if c.MaxBatchSize > 0 {
		if why := unbatchable(s.Inputs(), s.Outputs()); why != "" {
			return &onnxio.FormatError{Format: configFile, Msg: fmt.Sprintf("max_batch_size is %d, but %s",
				c.MaxBatchSize, why)}
		}
	}
	in, err := configInputs(c, s)
	if err != nil {
		return err
	}
	out, err := configOutputs(c, s)
	if err != nil {
		return err
	}
	c.Input, c.Output = in, out
	if len(c.InstanceGroup) == 0 {
		one := &oip.ModelInstanceGroup{Name: name, Kind: oip.ModelInstanceGroup_KIND_CPU,
			Count: int32(max(opt.Instances, 1))}
		c.InstanceGroup = []*oip.ModelInstanceGroup{one}
	}
	return nil
}

func configInputs(c *oip.ModelConfig, s runtime.Session) ([]*oip.ModelInput, error) {
	var out []*oip.ModelInput
	for _, v := range s.Inputs() {
		out = append(out, &oip.ModelInput{Name: v.Name, DataType: configType(elemOf(v)),
			Dims: configDims(c, v)})
	}
	for _, v := range c.Input {
		i := slices.IndexFunc(out, func(o *oip.ModelInput) bool { return o.Name == v.Name })
		if i < 0 {
			if v.Optional || slices.ContainsFunc(s.Defaults(), func(d *onnxio.ValueInfo) bool {
				return d.Name == v.Name
			}) {
				continue
			}
			return nil, &onnxio.FormatError{Format: configFile,
				Msg: fmt.Sprintf("the model has no input %q", v.Name)}
		}
		if err := agrees(v.Name, v.DataType, out[i].DataType, v.Dims, out[i].Dims); err != nil {
			return nil, err
		}
		out[i].Format = v.Format
	}
	return out, nil
}

func configOutputs(c *oip.ModelConfig, s runtime.Session) ([]*oip.ModelOutput, error) {
	var out []*oip.ModelOutput
	for _, v := range s.Outputs() {
		out = append(out, &oip.ModelOutput{Name: v.Name, DataType: configType(elemOf(v)),
			Dims: configDims(c, v)})
	}
	for _, v := range c.Output {
		i := slices.IndexFunc(out, func(o *oip.ModelOutput) bool { return o.Name == v.Name })
		if i < 0 {
			return nil, &onnxio.FormatError{Format: configFile,
				Msg: fmt.Sprintf("the model has no output %q", v.Name)}
		}
		if err := agrees(v.Name, v.DataType, out[i].DataType, v.Dims, out[i].Dims); err != nil {
			return nil, err
		}
		out[i].LabelFilename = v.LabelFilename
	}
	return out, nil
}

// agrees compares what a configuration says of a tensor with the model; -1 is any size.
func agrees(name string, said, is oip.DataType, dims, are []int64) error {
	bad := said != oip.DataType_TYPE_INVALID && said != is
	if len(dims) > 0 && are != nil && !bad {
		bad = len(dims) != len(are)
		for i := 0; !bad && i < len(dims); i++ {
			bad = dims[i] != are[i] && dims[i] != -1 && are[i] != -1
		}
	}
	if bad {
		return &onnxio.FormatError{Format: configFile,
			Msg: fmt.Sprintf("%q is %v %v, but the model has %v %v", name, said, dims, is, are)}
	}
	return nil
}

func elemOf(v *onnxio.ValueInfo) onnxio.DataType {
	if v.Type == nil {
		return onnxio.Undefined
	}
	return v.Type.Elem
}

// configDims is the shape, without the batch where the configuration has one.
func configDims(c *oip.ModelConfig, v *onnxio.ValueInfo) []int64 {
	dims := dimsOf(v)
	if c.MaxBatchSize > 0 && len(dims) > 0 {
		return dims[1:]
	}
	return dims
}

// dimsOf is a declared shape, in which any size is -1; nil where none is declared.
func dimsOf(v *onnxio.ValueInfo) []int64 {
	if v.Type == nil || !v.Type.HasShape {
		return nil
	}
	out := make([]int64, len(v.Type.Shape))
	for i, d := range v.Type.Shape {
		if out[i] = -1; d.Known() {
			out[i] = d.Value
		}
	}
	return out
}

// unbatchable says why requests cannot share runs of a model; "" where the shapes allow it: the first
// dimension of every input and output must be free, and carry one name where it carries any.
func unbatchable(in, out []*onnxio.ValueInfo) string {
	symbol := ""
	if len(in) == 0 {
		return "the model takes no inputs"
	}
	for _, v := range slices.Concat(in, out) {
		if v.Type == nil || v.Type.Kind != onnxio.TensorType || !v.Type.HasShape || len(v.Type.Shape) == 0 {
			return fmt.Sprintf("%q has no declared batch", v.Name)
		}
		d := v.Type.Shape[0]
		if d.Known() {
			return fmt.Sprintf("the batch of %q is fixed to %d", v.Name, d.Value)
		}
		if d.Param != "" && symbol != "" && d.Param != symbol {
			return fmt.Sprintf("%q begins with %s where another begins with %s", v.Name, d.Param, symbol)
		}
		if d.Param != "" {
			symbol = d.Param
		}
	}
	return ""
}
