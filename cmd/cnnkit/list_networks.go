package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio/infer"
	"github.com/cnnkit/cnnkit/onnxio/spec"
)

// networkRow is a line of 'cnnkit list networks'. Of weights it names those that --preset imagenet prepares
// images for; JSON has all.
type networkRow struct {
	Name       string         `json:"name"`
	Summary    string         `json:"summary"`
	Input      [3]int         `json:"input"`
	Parameters int64          `json:"parameters"`
	FLOPs      int64          `json:"flops"` // for one image, two for each multiply-add
	Weights    []spec.Weights `json:"weights"`
}

// describeNetwork builds the network without weights, and counts.
func describeNetwork(info builders.Info) (networkRow, error) {
	row := networkRow{Name: info.Name, Summary: info.Summary, Input: info.Defaults.Input,
		Weights: spec.Published(info.Name)}
	m, err := builders.Outline(info.Name, builders.Config{})
	if err != nil {
		return row, err
	}
	m = bound(m, 1)
	shapes, err := infer.Shapes(m)
	if err != nil {
		return row, err
	}
	row.Parameters, row.FLOPs = builders.Parameters(m), shapes.TotalFLOPs(m.Graph)
	return row, nil
}

func listNetworks(c *cli.Context) error {
	var rows []networkRow
	for _, info := range builders.List() {
		row, err := describeNetwork(info)
		if err != nil {
			return err
		}
		rows = append(rows, row)
	}
	if c.Bool("json") {
		return printJSON(c, rows)
	}
	t := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "network\tinput\tparameters\tGFLOP\tlicense\tweights\tsummary")
	for _, r := range rows {
		license, url := "-", "-"
		if len(r.Weights) > 0 {
			license, url = r.Weights[0].License, r.Weights[0].URL
		}
		fmt.Fprintf(t, "%s\t%dx%dx%d\t%d\t%.2f\t%s\t%s\t%s\n", r.Name, r.Input[0], r.Input[1], r.Input[2],
			r.Parameters,
			float64(r.FLOPs)/1e9, license, url, r.Summary)
	}
	return t.Flush()
}
