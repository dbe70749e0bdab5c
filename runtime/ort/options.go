//go:build cgo && (linux || darwin || windows)

package ort

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	onnxruntime "github.com/yalue/onnxruntime_go"

	"github.com/cnnkit/cnnkit/runtime/internal/engines"
)

// graphLevels are the names of ONNX Runtime's graph optimizations.
var graphLevels = map[string]onnxruntime.GraphOptimizationLevel{
	"disable":  onnxruntime.GraphOptimizationLevelDisableAll,
	"basic":    onnxruntime.GraphOptimizationLevelEnableBasic,
	"extended": onnxruntime.GraphOptimizationLevelEnableExtended,
	"all":      onnxruntime.GraphOptimizationLevelEnableAll,
}

// genericProviders are those that ONNX Runtime takes by name alone.
var genericProviders = map[string]string{"xnnpack": "XNNPACK", "qnn": "QNN", "webgpu": "WebGPU"}

// ownSteps sets what ONNX Runtime alone can be told.
func ownSteps(o *onnxruntime.SessionOptions, opt engines.ORTOptions) []func() error {
	var steps []func() error
	if opt.Graph != "" {
		steps = append(steps, func() error {
			level, ok := graphLevels[opt.Graph]
			if !ok {
				return fmt.Errorf("graph optimizations %q: known are disable, basic, extended, all",
					opt.Graph)
			}
			return o.SetGraphOptimizationLevel(level)
		})
	}
	if opt.Parallel {
		steps = append(steps, func() error { return o.SetExecutionMode(onnxruntime.ExecutionModeParallel) })
	}
	if opt.NoArena {
		steps = append(steps, func() error { return o.SetCpuMemArena(false) },
			func() error { return o.SetMemPattern(false) })
	}
	for _, key := range slices.Sorted(maps.Keys(opt.Entries)) {
		steps = append(steps, func() error { return o.AddSessionConfigEntry(key, opt.Entries[key]) })
	}
	if opt.Provider != "" {
		steps = append(steps, func() error { return useProvider(o, opt.Provider, opt.ProviderOptions) })
	}
	return steps
}

// useProvider asks for an execution provider by its name. Where it is not there, ONNX
// Runtime gives the reason.
func useProvider(o *onnxruntime.SessionOptions, name string, options map[string]string) error {
	var err error
	switch name {
	case "tensorrt":
		err = useTensorRT(o, options)
	case "openvino":
		err = o.AppendExecutionProviderOpenVINO(options)
	case "coreml":
		err = o.AppendExecutionProviderCoreMLV2(options)
	case "directml":
		device := 0
		if _, err := fmt.Sscan(options["device_id"], &device); options["device_id"] != "" && err != nil {
			return fmt.Errorf("device_id %q of directml is no number", options["device_id"])
		}
		err = o.AppendExecutionProviderDirectML(device)
	default:
		generic, ok := genericProviders[name]
		if !ok {
			return fmt.Errorf("no execution provider %q: known are cuda, %s", name,
				strings.Join(Providers(), ", "))
		}
		err = o.AppendExecutionProvider(generic, options)
	}
	if err != nil {
		return &MissingError{Component: "the execution provider " + name, Reason: err.Error(),
			Do: "point CNNKIT_ORT_LIB at a library that has it, or use --provider cpu"}
	}
	return nil
}

func useTensorRT(o *onnxruntime.SessionOptions, options map[string]string) error {
	t, err := onnxruntime.NewTensorRTProviderOptions()
	if err != nil {
		return err
	}
	defer t.Destroy()
	if err := t.Update(options); err != nil {
		return err
	}
	return o.AppendExecutionProviderTensorRT(t)
}
