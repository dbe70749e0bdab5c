package conform

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/internal/conform/draw"
	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/infer"
	"github.com/cnnkit/cnnkit/runtime"
	"github.com/cnnkit/cnnkit/runtime/ort"
)

// TestDrawnORT draws models and compares the native engine with ONNX Runtime where both run them.
// CNNKIT_DRAW=FROM:COUNT asks for other drawings. They are drawn in processes of their own, since ONNX
// Runtime dies of some.
func TestDrawnORT(t *testing.T) {
	if err := ort.Available(); err != nil {
		t.Skip(err)
	}
	from, count := uint64(0), uint64(300)
	if a, b, ok := strings.Cut(os.Getenv("CNNKIT_DRAW"), ":"); ok {
		from, _ = strconv.ParseUint(a, 10, 64)
		count, _ = strconv.ParseUint(b, 10, 64)
	} else if testing.Short() {
		t.Skip("does not depend on the kernel level")
	}
	compared, died := 0, 0
	for next, end := from, from+count; next < end; next++ {
		cmd := exec.Command(os.Args[0], "-test.run=^TestDrawings$")
		cmd.Env = append(os.Environ(), fmt.Sprintf("CNNKIT_DRAWINGS=%d:%d", next, end))
		out, err := cmd.Output()
		done := false
		for line := range strings.Lines(string(out)) {
			word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
			switch word {
			case "drawing":
				next, _ = strconv.ParseUint(rest, 10, 64)
			case "compared":
				n, _ := strconv.Atoi(rest)
				compared += n
			case "parts":
				text, _ := strconv.Unquote(rest)
				t.Errorf("drawing %d: %s", next, text)
			case "done":
				done = true
			}
		}
		if done {
			break
		}
		if died++; died > int(count)/20 {
			t.Fatalf("ONNX Runtime died %d times, of drawing %d last: %v", died, next, err)
		}
		t.Logf("ONNX Runtime died of drawing %d", next)
	}
	t.Logf("%d runs compared", compared)
	if compared < int(count)/4 {
		t.Error("ONNX Runtime refuses most drawings: they test nothing")
	}
}

// TestDrawings is the process that TestDrawnORT starts.
func TestDrawings(t *testing.T) {
	a, b, ok := strings.Cut(os.Getenv("CNNKIT_DRAWINGS"), ":")
	if !ok {
		t.Skip("is started by TestDrawnORT")
	}
	from, _ := strconv.ParseUint(a, 10, 64)
	end, _ := strconv.ParseUint(b, 10, 64)
	for seed := from; seed < end; seed++ {
		fmt.Println("drawing", seed)
		choices := draw.Choices(seed)
		n, err := compareORT(choices)
		fmt.Println("compared", n)
		if err != nil {
			fmt.Println("parts", strconv.Quote(err.Error()))
		}
	}
	fmt.Println("done")
}

// compareORT counts the runs that both engines make, and says where they part. That one of them refuses a
// model is no fault, unless it is for an operator that is not there.
func compareORT(choices []byte) (compared int, err error) {
	c := draw.New(choices, 8, false)
	isDisputed := func(n *onnxio.Node) bool { return disputed(c, n) }
	if len(c.Model.Graph.Outputs) == 0 || slices.ContainsFunc(c.Model.Graph.Nodes, isDisputed) {
		return 0, nil
	}
	native, err := runtime.OpenModel(c.Model, runtime.WithEngine(runtime.Native), runtime.WithThreads(1))
	if err != nil {
		var fault *engine.FaultError
		var unsupported *onnxio.UnsupportedError
		if errors.As(err, &fault) || errors.As(err, &unsupported) {
			return 0, err
		}
		return 0, nil
	}
	defer native.Close()
	witness, err := runtime.OpenModel(c.Model, runtime.WithEngine(runtime.ORT), runtime.WithThreads(1))
	if err != nil {
		return 0, nil // no kernel for these types, a newer opset, a form that it refuses
	}
	defer witness.Close()
	for _, in := range c.Runs {
		if hasNone(in) {
			continue // ONNX Runtime dies of empty tensors, or makes numbers of them
		}
		got, err := native.Run(context.Background(), in)
		var fault *engine.FaultError
		if errors.As(err, &fault) {
			return compared, fmt.Errorf("%w\n%s\n%s", err, fault.Stack, c.Show(in))
		}
		if err != nil {
			continue
		}
		want, err := witness.Run(context.Background(), in)
		if err != nil {
			continue
		}
		for _, out := range c.Model.Graph.Outputs {
			if !finite(got[out.Name]) || !finite(want[out.Name]) || want[out.Name].Size() == 0 ||
				got[out.Name].Size() == 0 {
				// what a maximum makes of NaN is nowhere said, and ONNX Runtime has its own idea of nothing
				continue
			}
			if err := draw.Near(got[out.Name], want[out.Name]); err != nil {
				return compared, fmt.Errorf("output %s: %w\n%s", out.Name, err, c.Show(in))
			}
		}
		compared++
	}
	return compared, nil
}

// disputed says that ONNX Runtime reads a node's operator otherwise than ONNX, or that ONNX does not say.
func disputed(c *draw.Case, n *onnxio.Node) bool {
	same := n.Str("auto_pad", "NOTSET") != "NOTSET"
	switch n.OpType {
	case "Pow", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceProd":
		shapes, err := infer.Shapes(c.Model)
		// roots, logarithms and overflow, as integers
		return err != nil || !ops.Floats.Has(shapes.ValueInfo(n.Inputs[0]).Type.Elem)
	case "Pad":
		return n.Str("mode", "") == "wrap" // ONNX Runtime goes around once
	case "ConvTranspose":
		return same // ONNX Runtime does not stretch to input * stride where the kernel is smaller
	case "Resize":
		// from the size that is rounded, or the one that is not
		return n.Str("coordinate_transformation_mode", "") == "align_corners"
	case "AveragePool", "LpPool", "MaxPool":
		return same && len(n.Ints("dilations")) > 0 // ONNX Runtime leaves the dilation out
	}
	return false
}

func hasNone(in map[string]*onnxio.Tensor) bool {
	for _, t := range in {
		if t.Size() == 0 {
			return true
		}
	}
	return false
}

func finite(t *onnxio.Tensor) bool {
	for _, v := range floats(t) {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return false
		}
	}
	return true
}
