package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/train"
	"github.com/cnnkit/cnnkit/train/recipes"
)

func sweepCommand() *cli.Command {
	return &cli.Command{
		Name: "sweep", Usage: "train one recipe in every combination of some values",
		UsageText: "cnnkit sweep RECIPE|NAME --vary FIELD=VALUES --out DIR [--folds K] [--flags]",
		Description: `RECIPE is a recipe's file, NAME a network, with the flags of 'cnnkit train'. Each run has a folder of DIR by its values. At
the end one table shows the best epoch of each, and what differs in seed and fold alone is taken together: mean, median and
deviation. The same command goes on after an interruption, with the run that was interrupted, and repeats none.

  cnnkit sweep recipe.json --vary lr=0.1,0.01 --vary seed=0..4 --out rates
  cnnkit sweep lenet5 --data mnist --epochs 2 --vary optimizer=sgd,adam --out optimizers
  cnnkit sweep resnet18 --data images:photos --folds 5 --out folds`,
		Flags: slices.Concat(partFlags(train.OfNetwork, train.OfData, train.OfTraining), []cli.Flag{setFlag(),
			&cli.GenericFlag{Name: "vary", Value: &assignments{},
				Usage: "`FIELD=VALUE,VALUE` of the recipe, as often as wanted: lr=0.1,0.01, seed=0..4"},
			&cli.IntFlag{Name: "folds",
				Usage: "train each of `K` times, on all but one part of the images to train on, and validate on that"},
			outFlag("the `DIR` to write"), jsonFlag()}),
		Action: sweep,
	}
}

func sweep(c *cli.Context) error {
	g, err := gridOf(c)
	if err != nil {
		return err
	}
	dir, err := required(c, "out")
	if err != nil {
		return err
	}
	points, err := g.Points()
	if err != nil {
		return usageError("%w", err)
	}
	count, last := 0, ""
	rows, err := g.Run(c.Context, dir, func(p train.Point) train.Observer {
		last = p.Name
		return train.Observer{}
	}, func(r train.Row) {
		count++
		if !c.Bool("json") {
			fmt.Fprintf(c.App.Writer, "%d of %d: %s: %s\n", count, len(points), r.Name, rowText(r))
		}
	})
	if stopped := new(train.InterruptedError); errors.As(err, &stopped) {
		return hinted{fmt.Errorf("%s: %w", last, err), "the same command goes on from there"}
	}
	if err != nil {
		return err
	}
	sums := train.Summarize(rows)
	if c.Bool("json") {
		return printJSON(c, map[string]any{"runs": rows, "summary": sums})
	}
	return sweepTable(c, rows, sums)
}

// gridOf reads the recipe and what varies.
func gridOf(c *cli.Context) (train.Grid, error) {
	var g train.Grid
	what, err := one(c, "RECIPE file or network NAME")
	if err != nil {
		return g, err
	}
	g.Fields = train.Fields{"model": what}
	if strings.HasSuffix(what, ".json") || slices.Contains(recipes.Names(), what) {
		if g.Fields, err = recipeFields(what); err != nil {
			return g, err
		}
	}
	if err := override(c, g.Fields); err != nil {
		return g, err
	}
	vary, _ := c.Generic("vary").(*assignments)
	for _, text := range *vary {
		v, err := train.ParseVariation(text)
		if err != nil {
			return g, usageError("--vary: %w", err)
		}
		g.Vary = append(g.Vary, v)
	}
	if g.Folds = c.Int("folds"); c.IsSet("folds") && g.Folds < 2 {
		return g, usageError("--folds must be at least 2")
	}
	if len(g.Vary) == 0 && g.Folds == 0 {
		return g, usageError("nothing varies: say --vary FIELD=VALUE,VALUE or --folds K")
	}
	if data, _ := g.Fields.Text("data"); data == "" && !slices.ContainsFunc(g.Vary,
		func(v train.Variation) bool { return v.Field == "data" }) {
		return g, hinted{usageError("cnnkit sweep needs --data, or a recipe with it"),
			"see 'cnnkit data list' for what there is"}
	}
	return g, nil
}

// rowText is a run's figures on one line.
func rowText(r train.Row) string {
	if r.Failed != "" {
		return r.Failed
	}
	text := fmt.Sprintf("epoch %d", r.Best.Epoch)
	all := r.Figures()
	for _, name := range train.FigureNames([]train.Row{r}) {
		text += ", " + name + " " + figureText(name, all[name])
	}
	return text
}

func figureText(name string, v float64) string {
	if name == "accuracy" {
		return fmt.Sprintf("%.2f%%", 100*v)
	}
	return fmt.Sprintf("%.4f", v)
}

// sweepTable prints the runs, and then what seeds and folds come to.
func sweepTable(c *cli.Context, rows []train.Row, sums []train.Summary) error {
	names := train.FigureNames(rows)
	t := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "\nrun\tepoch\t%s\n", strings.Join(names, "\t"))
	for _, r := range rows {
		if r.Failed != "" {
			fmt.Fprintf(t, "%s\t%s\n", r.Name, r.Failed)
			continue
		}
		fmt.Fprintf(t, "%s\t%d", r.Name, r.Best.Epoch)
		for _, name := range names {
			text := "-"
			if v, ok := r.Figures()[name]; ok {
				text = figureText(name, v)
			}
			fmt.Fprintf(t, "\t%s", text)
		}
		fmt.Fprintln(t)
	}
	if len(sums) < len(rows) {
		fmt.Fprintf(t, "\nmean ± deviation, median\truns\t%s\n", strings.Join(names, "\t"))
		for _, s := range sums {
			fmt.Fprintf(t, "%s\t%d", sharedText(s.Values), s.Runs)
			for _, name := range names {
				fmt.Fprintf(t, "\t%s ± %s, %s", figureText(name, s.Mean[name]), figureText(name, s.Std[name]),
					figureText(name, s.Median[name]))
			}
			fmt.Fprintln(t)
		}
	}
	return t.Flush()
}

// sharedText is what runs have in common.
func sharedText(values map[string]string) string {
	var parts []string
	for name, v := range values {
		parts = append(parts, name+"="+v)
	}
	if slices.Sort(parts); len(parts) == 0 {
		return "all"
	}
	return strings.Join(parts, ",")
}
