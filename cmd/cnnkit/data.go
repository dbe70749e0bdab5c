package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/train/data"
	_ "github.com/cnnkit/cnnkit/train/data/mnist" // the program has MNIST
)

func dataCommand() *cli.Command {
	return &cli.Command{
		Name: "data", Usage: "list, fetch and verify data sets",
		UsageText: "cnnkit data list|get|verify [NAME] [--json]",
		Description: `mnist is part of the program. Others are read from CNNKIT_DATA/NAME, from cnnkit/data/NAME in the user's cache folder,
or from a folder given as NAME=FOLDER wherever a verb takes --data. A set of one's own is given as

  images:DIR            images by class: DIR/CLASS/..., or DIR/train/CLASS/... and DIR/val/CLASS/...
  masks:IMAGES,MASKS    pairs of files that have the same name but for its extension
  csv:FILE              a table with the columns path and label, and perhaps split (train or validation)

pets has masks, in which pet and border are foreground; pets-breeds has the same images with their breeds. cifar10 and
cifar100 are taken in the form that lies there: the binary files, Python's pickles (cifar-10-batches-py), or train/CLASS/*.png
and test/CLASS/*.png.

  cnnkit data list
  cnnkit data get cifar10
  cnnkit data verify cifar10=/data/cifar-10-batches-bin`,
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "what there is, and where the rest would be found",
				UsageText: "cnnkit data list [--json]",
				Flags:     []cli.Flag{jsonFlag()}, Action: listData},
			{Name: "get", Usage: "fetch a data set from its official place",
				UsageText: "cnnkit data get NAME [--mirror URL] [--dir DIR] [--json]",
				Description: `Downloads are checked against known hashes, go on where they were interrupted, and are unpacked into a folder that
appears when everything is there.`,
				Flags: []cli.Flag{&cli.StringFlag{Name: "mirror",
					Usage: "`URL` of a folder that has the official files"},
					&cli.StringFlag{Name: "dir",
						Usage: "the data set's folder (default: where it is looked for first)"}, jsonFlag()},
				Action: getData},
			{Name: "verify", Usage: "check hashes, and read every image of a data set",
				UsageText: "cnnkit data verify NAME [--size HxW] [--json]",
				Flags: []cli.Flag{&cli.StringFlag{Name: "size",
					Usage: "`HEIGHTxWIDTH` to bring images to that differ in size"}, jsonFlag()},
				Action: verifyData},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return usageError("unknown word %q%s", c.Args().First(),
					didYouMean(c.Args().First(), []string{"list", "get", "verify"}))
			}
			return usageError("say what to do: cnnkit data list, cnnkit data get NAME, or cnnkit data verify NAME")
		},
	}
}

type dataRow struct {
	Name      string `json:"name"`
	Available bool   `json:"available"`
	Folder    string `json:"folder,omitempty"` // "" for one that is part of the program
	Fetchable bool   `json:"fetchable"`
	Says      string `json:"says"`
}

func listData(c *cli.Context) error {
	if err := none(c); err != nil {
		return err
	}
	var rows []dataRow
	for _, name := range data.Names() {
		rows = append(rows, dataSet(name))
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

// dataSet says of a data set where it is. CIFAR is not opened, which can take
// seconds; its folder says enough.
func dataSet(name string) dataRow {
	row := dataRow{Name: name, Fetchable: data.Fetchable(name)}
	folder, err := data.Find(name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && row.Fetchable:
		row.Says = fmt.Sprintf("not here: 'cnnkit data get %s' fetches it into %s", name, dataFolder(name))
		return row
	case err != nil:
		row.Says = fmt.Sprintf("not here: it is looked for in %s", strings.Join(data.Places(name), " and "))
		return row
	}
	row.Folder = folder
	if strings.HasPrefix(name, "cifar") {
		row.Available, row.Says = true, "in "+folder
		if packed, _ := filepath.Glob(filepath.Join(folder, "*.bin.xz")); len(packed) > 0 {
			row.Says += ", packed: each start takes some seconds less once they are unpacked (xz -dk *.bin.xz) into a folder for --data " + name + "=FOLDER"
		}
		return row
	}
	splits, err := data.Open(name)
	if err != nil {
		row.Says = err.Error()
		return row
	}
	row.Available, row.Says = true, describeData(splits)
	if folder != "" {
		row.Says += ", in " + folder
	} else {
		row.Says += ", part of the program"
	}
	return row
}

// dataFolder is the first place where a data set is looked for.
func dataFolder(name string) string {
	if places := data.Places(name); len(places) > 0 {
		return places[0]
	}
	return "CNNKIT_DATA/" + name
}

func describeData(s data.Splits) string {
	shape := s.Train.Shape()
	of := fmt.Sprintf("%d classes", len(s.Train.Classes()))
	if data.Masked(s.Train) {
		of = "masks of " + strings.Join(s.Train.Classes(), ", ")
	}
	return fmt.Sprintf("%d images to train on, %d to validate on, %dx%dx%d, %s",
		s.Train.Len(), s.Validation.Len(), shape[0], shape[1], shape[2], of)
}

// getData fetches a data set, with a bar on a terminal.
func getData(c *cli.Context) error {
	name, err := one(c, "data set NAME")
	if err != nil {
		return err
	}
	if !slices.Contains(data.Names(), name) {
		return usageError("no data set %q%s", name, didYouMean(name, data.Names()))
	}
	if !data.Fetchable(name) {
		return usageError("%s cannot be fetched; it is looked for in %s", name,
			strings.Join(data.Places(name), " and "))
	}
	o := data.GetOptions{Dir: c.String("dir"), Mirror: c.String("mirror")}
	if o.Dir != "" {
		if o.Dir, err = filepath.Abs(o.Dir); err != nil {
			return err
		}
	}
	clear := func() {}
	if isTerminal(c.App.ErrWriter) && !c.Bool("json") {
		o.Progress, clear = fetchBar(c.App.ErrWriter)
	}
	got, err := data.Get(c.Context, name, o)
	clear()
	if err != nil {
		return hinted{err, "what has come so far is kept: the same command goes on there; --mirror URL fetches from elsewhere"}
	}
	if c.Bool("json") {
		return printJSON(c, map[string]any{"name": name, "folder": got.Dir, "already": got.Already,
			"unpinned": got.Unpinned})
	}
	if got.Already {
		fmt.Fprintf(c.App.Writer, "%s is in %s already, and unchanged\n", name, got.Dir)
		return nil
	}
	fmt.Fprintf(c.App.Writer, "%s is in %s\n", name, got.Dir)
	for _, f := range got.Unpinned {
		fmt.Fprintf(c.App.Writer, "%s: its hash is not known; its size has been checked\n", f)
	}
	return nil
}

// fetchBar shows downloads, redrawn ten times a second at most.
func fetchBar(w io.Writer) (show func(file string, done, total int64), clear func()) {
	var bar *progressbar.ProgressBar
	var current string
	var shown time.Time
	clear = func() {
		if bar != nil {
			_ = bar.Clear()
			bar = nil
		}
	}
	return func(file string, done, total int64) {
		if file != current {
			clear()
			current = file
			if total == 0 {
				total = -1
			}
			bar = progressbar.NewOptions64(total, progressbar.OptionSetWriter(w),
				progressbar.OptionSetWidth(24), progressbar.OptionShowBytes(true),
				progressbar.OptionSetDescription(file), progressbar.OptionSetPredictTime(true),
				progressbar.OptionThrottle(0))
		}
		if time.Since(shown) >= 100*time.Millisecond || done == total {
			shown = time.Now()
			_ = bar.Set64(done)
		}
	}, clear
}

// verifyData checks the known hashes, reads a data set to its last image and counts labels, or pixels.
func verifyData(c *cli.Context) error {
	word, err := one(c, "data set NAME")
	if err != nil {
		return err
	}
	if !data.Known(word) {
		known, _, _ := strings.Cut(word, "=")
		return usageError("no data set %q%s", known, didYouMean(known, data.Names()))
	}
	var o data.Options
	if size := c.String("size"); size != "" {
		if n, err := fmt.Sscanf(size, "%dx%d", &o.Size[0], &o.Size[1]); n != 2 || err != nil {
			return usageError("--size wants HEIGHTxWIDTH such as 128x128, not %q", size)
		}
	}
	report, err := data.Verify(word)
	var other []string
	if strings.Contains(word, "=") {
		report, other = others(report)
	}
	if err == nil {
		err = data.Sums(report)
	}
	if err != nil {
		return hinted{badFile{err}, "see 'cnnkit data list' for what there is"}
	}
	splits, err := data.OpenWith(word, o)
	if err != nil {
		return hinted{badFile{err}, "see 'cnnkit data list' for what there is"}
	}
	parts := []string{"train", "validation"}
	counts := map[string]map[string]int64{}
	for i, ds := range []data.Dataset{splits.Train, splits.Validation} {
		if counts[parts[i]], err = readThrough(c, ds); err != nil {
			return badFile{fmt.Errorf("%s, %s: %w", word, parts[i], err)}
		}
	}
	if c.Bool("json") {
		unit := "images"
		if data.Masked(splits.Train) {
			unit = "pixels"
		}
		return printJSON(c, map[string]any{"name": splits.Name, "shape": splits.Train.Shape(), unit: counts,
			"hashes": len(report), "other": other})
	}
	return showData(c, splits, len(report), other, counts)
}

// others parts from a report the files that are not the official ones: a folder given as NAME=FOLDER may hold
// a set of one's own in the format of NAME.
func others(report []data.FileReport) (same []data.FileReport, other []string) {
	for _, r := range report {
		if r.Official && r.Err != nil && !errors.Is(r.Err, fs.ErrNotExist) {
			other = append(other, r.File)
		} else {
			same = append(same, r)
		}
	}
	return same, other
}

func showData(c *cli.Context, splits data.Splits, hashes int, other []string,
	counts map[string]map[string]int64) error {
	fmt.Fprintf(c.App.Writer, "%s: %s\n", splits.Name, describeData(splits))
	switch {
	case hashes > 0:
		fmt.Fprintf(c.App.Writer, "%d files have the known hashes\n", hashes)
	case len(other) == 0:
		fmt.Fprintln(c.App.Writer, "no hashes are known of it; every image could be read")
	}
	if len(other) > 0 {
		fmt.Fprintf(c.App.Writer, "not the official %s: a set of your own, or files that have been changed\n",
			strings.Join(other, ", "))
	}
	fmt.Fprintln(c.App.Writer)
	t := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	if data.Masked(splits.Train) {
		fmt.Fprintln(t, "pixels of\ttrain\tvalidation")
	} else {
		fmt.Fprintln(t, "class\ttrain\tvalidation")
	}
	for _, class := range splits.Train.Classes() {
		fmt.Fprintf(t, "%s\t%d\t%d\n", class, counts["train"][class], counts["validation"][class])
	}
	return t.Flush()
}

// readThrough decodes every sample and counts what there is of each class.
func readThrough(c *cli.Context, ds data.Dataset) (map[string]int64, error) {
	loader, err := data.NewLoader(ds, data.LoaderConfig{Batch: 64})
	if err != nil {
		return nil, err
	}
	for _, err := range loader.Epoch(c.Context, 1, 0) {
		if err != nil {
			return nil, err
		}
	}
	n, err := data.Counts(ds)
	if err != nil {
		return nil, err
	}
	counts := map[string]int64{}
	for i, class := range ds.Classes() {
		counts[class] = n[i]
	}
	return counts, nil
}
