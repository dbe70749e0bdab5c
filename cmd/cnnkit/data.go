package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/train"
	"github.com/cnnkit/cnnkit/train/data"
)

// dataFiles says which files a data set that is not embedded consists of.
var dataFiles = map[string]string{
	"fashion-mnist": "train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz",
	"cifar10":       "data_batch_1.bin to data_batch_5.bin, test_batch.bin",
}

func dataCommand() *cli.Command {
	return &cli.Command{
		Name: "data", Usage: "list data sets, or read one through", UsageText: "cnnkit data list|verify [NAME] [--json]",
		Description: `mnist is part of the program. The others are read from CNNKIT_DATA/NAME, from cnnkit/data/NAME in the user's cache
folder, or from a folder given as NAME=FOLDER wherever a verb takes --data.

  cnnkit data list
  cnnkit data verify cifar10=/data/cifar-10-batches-bin`,
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "what there is, and where the rest would be found", UsageText: "cnnkit data list [--json]",
				Flags: []cli.Flag{jsonFlag()}, Action: listData},
			{Name: "verify", Usage: "read every image of a data set", UsageText: "cnnkit data verify NAME [--json]",
				Flags: []cli.Flag{jsonFlag()}, Action: verifyData},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return usageError("unknown word %q%s", c.Args().First(), didYouMean(c.Args().First(), []string{"list", "verify"}))
			}
			return usageError("say what to do: cnnkit data list, or cnnkit data verify NAME")
		},
	}
}

type dataRow struct {
	Name      string `json:"name"`
	Available bool   `json:"available"`
	Says      string `json:"says"`
}

func listData(c *cli.Context) error {
	if err := none(c); err != nil {
		return err
	}
	var rows []dataRow
	for _, name := range data.Names() {
		row := dataRow{Name: name}
		splits, err := data.Open(name)
		switch {
		case err == nil:
			row.Available, row.Says = true, describeData(splits)
		case errors.Is(err, fs.ErrNotExist):
			row.Says = fmt.Sprintf("not here: put %s into %s", dataFiles[name], dataFolder(name))
		default:
			row.Says = err.Error()
		}
		rows = append(rows, row)
	}
	if c.Bool("json") {
		return printJSON(c, rows)
	}
	t := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t%s\n", r.Name, r.Says)
	}
	return t.Flush()
}

// dataFolder is the first place where a data set is looked for.
func dataFolder(name string) string {
	if root := os.Getenv("CNNKIT_DATA"); root != "" {
		return filepath.Join(root, name)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "CNNKIT_DATA/" + name
	}
	return filepath.Join(cache, "cnnkit", "data", name)
}

func describeData(s data.Splits) string {
	shape := s.Train.Shape()
	return fmt.Sprintf("%d images to train on, %d to validate on, %dx%dx%d, %d classes",
		s.Train.Len(), s.Validation.Len(), shape[0], shape[1], shape[2], len(s.Train.Classes()))
}

// verifyData reads a data set to its last image and counts the labels.
func verifyData(c *cli.Context) error {
	name, err := one(c, "data set NAME")
	if err != nil {
		return err
	}
	splits, err := namedData(name)
	if err != nil {
		return err
	}
	counts := map[string]map[string]int{}
	for part, ds := range map[string]data.Dataset{"train": splits.Train, "validation": splits.Validation} {
		if counts[part], err = countLabels(ds); err != nil {
			return badFile{fmt.Errorf("%s, %s: %w", name, part, err)}
		}
	}
	if c.Bool("json") {
		return printJSON(c, map[string]any{"name": splits.Name, "shape": splits.Train.Shape(), "images": counts})
	}
	fmt.Fprintf(c.App.Writer, "%s: %s\n\n", splits.Name, describeData(splits))
	t := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "class\ttrain\tvalidation")
	for _, class := range splits.Train.Classes() {
		fmt.Fprintf(t, "%s\t%d\t%d\n", class, counts["train"][class], counts["validation"][class])
	}
	return t.Flush()
}

func countLabels(ds data.Dataset) (map[string]int, error) {
	counts := map[string]int{}
	order := data.Sequence(ds.Len())
	for at := 0; at < len(order); at += 500 {
		part := order[at:min(at+500, len(order))]
		x, target := train.NewBatch(ds.Shape(), len(part))
		if err := ds.Fill(x, target, part); err != nil {
			return nil, err
		}
		for _, l := range onnxio.Data[int64](target) {
			if l < 0 || int(l) >= len(ds.Classes()) {
				return nil, fmt.Errorf("label %d of %d classes", l, len(ds.Classes()))
			}
			counts[ds.Classes()[l]]++
		}
	}
	return counts, nil
}
