package main

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/convert"
	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/internal/parallel"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/infer"
	"github.com/cnnkit/cnnkit/runtime"
	"github.com/cnnkit/cnnkit/runtime/verify"
)

func inspectCommand() *cli.Command {
	return &cli.Command{
		Name: "inspect", Usage: "show what is in a model or state dict",
		UsageText: "cnnkit inspect FILE [--plan[=PASS]] [--trainable] [--json]",
		Description: `Nodes with their output shapes, parameters and floating-point operations for one image; the state dict's tensors for
.pt, .pth and .safetensors. --plan shows what the native engine makes of the model: kernels, layouts, chunks, and what each step was expected to
take, on one kind of processor, and took here with random input. --plan=PASS shows the graph after a pass of the compiler instead:
` + strings.Join(engine.Passes(), ", ") + ".",
		Flags: []cli.Flag{jsonFlag(), threadsFlag(), precisionFlag(),
			&cli.BoolFlag{Name: "trainable",
				Usage: "say what is a weight and what a constant, why, and what keeps it from being trained"},
			&cli.GenericFlag{Name: "plan", Value: new(optionalText),
				Usage: "show the native engine's plan, or the graph after a pass: --plan=PASS"},
			&cli.IntFlag{Name: "batch", Value: 1, Usage: "images the plan and the FLOPs are for"}},
		Action: func(c *cli.Context) error {
			path, err := one(c, "FILE")
			if err != nil {
				return err
			}
			if c.Int("batch") < 1 {
				return usageError("--batch must be at least 1")
			}
			if isStateDict(path) {
				sd, err := convert.Load(path)
				if err != nil {
					return badFile{err}
				}
				return inspectStateDict(c, path, sd)
			}
			m, err := loadModel(path)
			if err != nil {
				return err
			}
			if c.Bool("trainable") {
				return inspectTrainable(c, path, m)
			}
			if plan := c.Generic("plan").(*optionalText); plan.set {
				if plan.text != "" {
					return inspectPass(c, m, plan.text)
				}
				return inspectPlan(c, m)
			}
			return inspectModel(c, path, m)
		},
	}
}

// nodeRow is a line of the table.
type nodeRow struct {
	Name       string `json:"name"`
	Op         string `json:"op"`
	Output     string `json:"output"`
	Shape      string `json:"shape"`
	Parameters int64  `json:"parameters"`
	FLOPs      int64  `json:"flops"`
}

func inspectModel(c *cli.Context, path string, m *onnxio.Model) error {
	batch := int64(c.Int("batch"))
	shapes, err := infer.Shapes(bound(m, batch))
	if err != nil {
		return badFile{fmt.Errorf("%s: %w", path, err)}
	}
	inits := map[string]*onnxio.Tensor{}
	for _, t := range m.Graph.Initializers {
		inits[t.Name] = t
	}
	var rows []nodeRow
	var params int64
	flops := shapes.TotalFLOPs(m.Graph) // auxiliary heads, which no output needs, count in their rows alone
	counted := map[string]bool{}
	for _, n := range m.Graph.Nodes {
		row := nodeRow{Name: n.Name, Op: n.OpType}
		for i, in := range n.Inputs {
			running := n.OpType == "BatchNormalization" && i >= 3 || n.OpType == "Cast"
			if t := inits[in]; t != nil && !counted[in] && !running && isFloat(t.Type) && len(t.Dims) > 0 {
				counted[in] = true
				row.Parameters += t.Size()
			}
		}
		if len(n.Outputs) > 0 {
			row.Output = n.Outputs[0]
			row.Shape = shapeOf(shapes.ValueInfo(n.Outputs[0]).Type)
		}
		row.FLOPs = shapes.FLOPs(n)
		params += row.Parameters
		rows = append(rows, row)
	}
	if c.Bool("json") {
		return printJSON(c, map[string]any{
			"file": path, "ir_version": m.IRVersion, "opset": m.Opset(""), "producer": m.ProducerName,
			"inputs": valueRows(m.Graph.Inputs), "outputs": valueRows(m.Graph.Outputs),
			"metadata": properties(m), "nodes": rows, "parameters": params, "flops": flops, "batch": batch,
		})
	}
	w := c.App.Writer
	fmt.Fprintf(w, "%s: opset %d, IR version %d", path, m.Opset(""), m.IRVersion)
	if m.ProducerName != "" {
		fmt.Fprintf(w, ", by %s", m.ProducerName)
	}
	fmt.Fprintln(w)
	for _, v := range m.Graph.Inputs {
		if inits[v.Name] == nil {
			fmt.Fprintf(w, "input   %s %s\n", v.Name, shapeOf(v.Type))
		}
	}
	for _, v := range m.Graph.Outputs {
		fmt.Fprintf(w, "output  %s %s\n", v.Name, shapeOf(v.Type))
	}
	for _, p := range m.Metadata {
		fmt.Fprintf(w, "%s: %s\n", p.Key, shortened(p.Value, 100))
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	const line = "%s\t%s\t%s\t%10s\t%9s\n"
	fmt.Fprintf(t, line, "op", "name", "shape", "parameters", "MFLOP")
	for _, r := range rows {
		fmt.Fprintf(t, line, r.Op, r.Name, r.Shape, blank(r.Parameters), mega(r.FLOPs))
	}
	fmt.Fprintf(t, line, "total", "", "", fmt.Sprint(params), mega(flops))
	return t.Flush()
}

// bound gives every symbolic batch dimension a number.
func bound(m *onnxio.Model, batch int64) *onnxio.Model {
	out, g := *m, *m.Graph
	out.Graph = &g
	g.Inputs = nil
	for _, v := range m.Graph.Inputs {
		if v.Type != nil && len(v.Type.Shape) > 0 && !v.Type.Shape[0].Known() {
			info, typ := *v, *v.Type
			typ.Shape = append([]onnxio.Dim{{Value: batch}}, typ.Shape[1:]...)
			info.Type = &typ
			v = &info
		}
		g.Inputs = append(g.Inputs, v)
	}
	g.Outputs = nil
	for _, v := range m.Graph.Outputs { // their declared symbols no longer hold
		g.Outputs = append(g.Outputs, &onnxio.ValueInfo{Name: v.Name, Type: &onnxio.Type{Elem: elemOf(v)}})
	}
	g.Values = nil
	return &out
}

// inspectPass prints the compiler's graph after a pass.
func inspectPass(c *cli.Context, m *onnxio.Model, after string) error {
	if !slices.Contains(engine.Passes(), after) {
		return usageError("no pass %q: known are %s", after, strings.Join(engine.Passes(), ", "))
	}
	p, err := precision(c)
	if err != nil {
		return err
	}
	text, err := engine.Dump(bound(m, int64(c.Int("batch"))), engine.Options{BF16: p == runtime.BF16}, after)
	if err != nil {
		return badFile{err}
	}
	_, err = fmt.Fprint(c.App.Writer, text)
	return err
}

func inspectPlan(c *cli.Context, m *onnxio.Model) error {
	pool := parallel.New(c.Int("threads"))
	defer pool.Close()
	batch := int64(c.Int("batch"))
	p, err := precision(c)
	if err != nil {
		return err
	}
	plan, err := engine.Compile(bound(m, batch), engine.Options{Pool: pool, BF16: p == runtime.BF16})
	if err != nil {
		return badFile{err}
	}
	if err := measurePlan(c, plan, batch); err != nil {
		return err
	}
	steps := plan.Steps()
	if c.Bool("json") {
		return printJSON(c, map[string]any{"batch": batch, "arena_bytes": plan.ArenaBytes(), "steps": steps})
	}
	t := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "step\tnode\top\tkernel\tshape\ttype\tlayout\tchunks\tMFLOP\testimated\tmeasured")
	var estimated, measured time.Duration
	for i, s := range steps {
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", i, s.Name, s.Op, s.Kernel,
			portioned(s.Portions, s.Shape), s.Type, s.Layout, s.Chunks, mega(s.FLOPs),
			micro(s.Estimate), micro(s.Time))
		estimated, measured = estimated+s.Estimate, measured+s.Time
	}
	fmt.Fprintf(t, "\t\t\t\t\t\t\t\t\t%s\t%s\n", micro(estimated), micro(measured))
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "arena: %.1f MB\n", float64(plan.ArenaBytes())/1e6)
	return nil
}

// portioned is the shape of what a step gives, with the number of portions of the batch.
func portioned(portions int, shape []int64) string {
	if portions == 0 {
		return fmt.Sprint(shape)
	}
	return fmt.Sprintf("%d x %v", portions, shape)
}

// measurePlan runs a plan a few times, at most about a second, with every step timed.
func measurePlan(c *cli.Context, plan *engine.Plan, batch int64) error {
	in, err := verify.Random(plan.Inputs(), batch, 0)
	if err != nil {
		return badFile{err}
	}
	start := time.Now()
	for i := 0; i < 20 && (i < 2 || time.Since(start) < time.Second); i++ {
		if i == 1 {
			plan.Profile(true) // the first run is a warm-up
		}
		if _, err := plan.Run(c.Context, in); err != nil {
			return err
		}
	}
	return nil
}

// micro is a duration in microseconds.
func micro(d time.Duration) string { return fmt.Sprintf("%.1f us", float64(d.Nanoseconds())/1e3) }

func inspectStateDict(c *cli.Context, path string, sd *convert.StateDict) error {
	type row struct {
		Name  string  `json:"name"`
		Type  string  `json:"type"`
		Shape []int64 `json:"shape"`
	}
	var rows []row
	var total int64
	for _, e := range sd.Entries() {
		rows = append(rows, row{e.Name, e.Tensor.Type.String(), e.Tensor.Dims})
		total += e.Tensor.Size()
	}
	if c.Bool("json") {
		return printJSON(c, map[string]any{"file": path, "tensors": rows, "elements": total})
	}
	fmt.Fprintf(c.App.Writer, "%s: state dict, %d tensors, %d elements\n\n", path, len(rows), total)
	t := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "name\ttype\tshape")
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t%s\t%v\n", r.Name, r.Type, r.Shape)
	}
	return t.Flush()
}

func valueRows(vs []*onnxio.ValueInfo) []map[string]string {
	var out []map[string]string
	for _, v := range vs {
		out = append(out, map[string]string{"name": v.Name, "shape": shapeOf(v.Type),
			"type": elemOf(v).String()})
	}
	return out
}

// elemOf is a value's element type; files that are not sound leave it out.
func elemOf(v *onnxio.ValueInfo) onnxio.DataType {
	if v.Type == nil {
		return onnxio.Undefined
	}
	return v.Type.Elem
}

func properties(m *onnxio.Model) map[string]string {
	out := map[string]string{}
	for _, p := range m.Metadata {
		out[p.Key] = p.Value
	}
	return out
}

func isFloat(t onnxio.DataType) bool {
	return t == onnxio.Float || t == onnxio.Double || t == onnxio.Float16 || t == onnxio.BFloat16
}

func blank(n int64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

func mega(flops int64) string {
	if flops == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", float64(flops)/1e6)
}

func shortened(s string, n int) string {
	s = strings.ReplaceAll(s, "\n", " ")
	if len(s) > n {
		return s[:n] + "..."
	}
	return s
}
