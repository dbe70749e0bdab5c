package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/train"
	"github.com/cnnkit/cnnkit/train/data"
)

func findLRFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "find-lr",
			Usage: "do not train, but look for a learning rate: raise it step by step, and write the losses to find-lr.csv and find-lr.png"},
		&cli.StringFlag{Name: "find-lr-range", Value: "1e-7,10",
			Usage: "with --find-lr: the rates `LOW,HIGH`"},
		&cli.IntFlag{Name: "find-lr-steps", Value: 100,
			Usage: "with --find-lr: the steps from one to the other"},
	}
}

// findLR is train --find-lr.
func findLR(c *cli.Context, j job, splits data.Splits) error {
	find := train.FindLR{Steps: c.Int("find-lr-steps")}
	if n, err := fmt.Sscanf(c.String("find-lr-range"), "%g,%g", &find.Low, &find.High); n != 2 || err != nil {
		return usageError("--find-lr-range wants two numbers such as 1e-7,10, not %q",
			c.String("find-lr-range"))
	}
	if err := find.Validate(); err != nil {
		return usageError("--find-lr: %w", err)
	}
	if err := os.MkdirAll(j.dir, 0o777); err != nil {
		return fmt.Errorf("output folder: %w", err)
	}
	if !c.Bool("json") {
		fmt.Fprintf(c.App.Writer,
			"looking for a learning rate: at most %d steps of %d images, from %.3g to %.3g\n", find.Steps,
			j.recipe.Batch*max(1, j.recipe.Accumulate), find.Low, find.High)
	}
	sweep, err := j.recipe.FindLR(c.Context, j.model, splits, find)
	if err != nil {
		return err
	}
	table, picture := filepath.Join(j.dir, train.FindLRFile), filepath.Join(j.dir, train.FindLRPlotFile)
	if err := sweep.WriteCSV(table); err != nil {
		return err
	}
	if err := sweep.Plot(picture); err != nil {
		return err
	}
	if c.Bool("json") {
		return json.NewEncoder(c.App.Writer).Encode(map[string]any{"suggestion": sweep.Suggestion,
			"lowest": sweep.Lowest, "diverged": sweep.Diverged,
			"steps": len(sweep.Steps), "table": table, "plot": picture})
	}
	return reportSweep(c, sweep, table, picture)
}

func reportSweep(c *cli.Context, sweep *train.Sweep, table, picture string) error {
	w, last := c.App.Writer, sweep.Steps[len(sweep.Steps)-1]
	if sweep.Diverged {
		fmt.Fprintf(w, "ended after %d steps, at %.3g: the loss diverges\n", len(sweep.Steps), last.LR)
	}
	fmt.Fprintf(w, "losses: %s, %s\n", table, picture)
	if sweep.Suggestion == 0 {
		fmt.Fprintf(w, "no suggestion: the loss falls at none of these rates; try others with --find-lr-range\n")
		return nil
	}
	fmt.Fprintf(w, "the loss falls most steeply at %.3g and is lowest at %.3g: try --lr %.2g, or %.2g, a tenth of the latter\n",
		sweep.Suggestion, sweep.Lowest, sweep.Suggestion, sweep.Lowest/10)
	return nil
}
