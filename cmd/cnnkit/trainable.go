package main

import (
	"fmt"
	"slices"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/onnxio"
)

// useRow is what training does with an initializer.
type useRow struct {
	Name    string  `json:"name"`
	Kind    string  `json:"kind"`
	Dims    []int64 `json:"dims"`
	Reason  string  `json:"reason"`
	numbers int64
}

// inspectTrainable says what of a model is a weight, a running statistic or a constant, and what
// keeps it from being trained.
func inspectTrainable(c *cli.Context, path string, m *onnxio.Model) error {
	uses, err := engine.Uses(m)
	if err != nil {
		return badFile{fmt.Errorf("%s: %w", path, err)}
	}
	obstacles, err := engine.Obstacles(m)
	if err != nil {
		return badFile{fmt.Errorf("%s: %w", path, err)}
	}
	var rows []useRow
	tensors, numbers := map[engine.UseKind]int{}, map[engine.UseKind]int64{}
	for _, u := range uses {
		t := m.Graph.Initializer(u.Name)
		rows = append(rows, useRow{u.Name, string(u.Kind), append([]int64{}, t.Dims...), u.Reason, t.Size()})
		tensors[u.Kind]++
		numbers[u.Kind] += t.Size()
	}
	var against []map[string]string
	for _, o := range obstacles {
		against = append(against, map[string]string{"node": o.Node.Name, "op": o.Node.OpType,
			"reason": o.Reason})
	}
	notes := trainingNotes(m)
	if c.Bool("json") {
		return printJSON(c, map[string]any{"file": path, "initializers": rows, "obstacles": against,
			"notes":   notes,
			"weights": numbers[engine.UseWeight]})
	}
	w := c.App.Writer
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t%s\t%v\t%s\n", r.Kind, r.Name, r.Dims, r.Reason)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "%d weights of %d numbers, %d running statistics, %d constants\n",
		tensors[engine.UseWeight], numbers[engine.UseWeight],
		tensors[engine.UseRunning], tensors[engine.UseConstant])
	for _, o := range obstacles {
		fmt.Fprintf(w, "cannot train: %s %q: %s\n", o.Node.OpType, o.Node.Name, o.Reason)
	}
	for _, n := range notes {
		fmt.Fprintln(w, n)
	}
	return nil
}

// trainingNotes says how a model behaves in training, where that is not what its author may expect.
func trainingNotes(m *onnxio.Model) []string {
	var notes []string
	counts := map[string]int{}
	for _, n := range m.Graph.Nodes {
		counts[n.OpType]++
	}
	if counts["Conv"] > 0 && counts["BatchNormalization"] == 0 {
		notes = append(notes,
			"no BatchNormalization: there was none, or the exporter folded it into the convolutions; they are trained as they are, with their biases")
	}
	if counts["Dropout"] == 0 {
		notes = append(notes, "no Dropout: there was none, or the exporter took it out")
	}
	if counts["QLinearConv"] > 0 || slices.ContainsFunc(m.Graph.Nodes, func(n *onnxio.Node) bool {
		return n.OpType == "DequantizeLinear" && m.Graph.Initializer(n.Inputs[0]) != nil
	}) {
		notes = append(notes, "the model is quantized: its integer weights are not trained; 'cnnkit quantize "+
			"--trainable' of the float32 model leaves them to be")
	}
	if in := m.Graph.Inputs; len(in) > 0 && in[0].Type != nil && len(in[0].Type.Shape) > 0 &&
		in[0].Type.Shape[0].Known() {
		notes = append(notes, fmt.Sprintf("the batch is fixed: train it with --batch %d",
			in[0].Type.Shape[0].Value))
	}
	return notes
}
