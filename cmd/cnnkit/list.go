package main

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/train"
	"github.com/cnnkit/cnnkit/train/data"
	"github.com/cnnkit/cnnkit/train/data/transforms"
	"github.com/cnnkit/cnnkit/train/recipes"
)

// lists are what 'cnnkit list' shows besides the networks.
var lists = map[string]func() []train.Entry{
	"losses":     train.DescribeLosses,
	"metrics":    train.DescribeMetrics,
	"optimizers": train.DescribeOptimizers,
	"schedules":  train.DescribeSchedules,
	"transforms": listTransforms,
	"data":       listDataSets,
	"settings":   listSettings,
	"recipes":    listRecipes,
}

// listNames are the words of 'cnnkit list', in their order.
var listNames = []string{"networks", "losses", "metrics", "optimizers", "schedules", "transforms", "data",
	"settings", "recipes"}

func listCommand() *cli.Command {
	return &cli.Command{
		Name: "list", Usage: "what a recipe can name, with the settings", UsageText: "cnnkit list " +
			strings.Join(listNames, "|") + " [--json]",
		Description: `Settings stand behind their names with what they are when a recipe does not say them. Each is a field of the recipe, and
most are flags of 'cnnkit train'; those of a transform stand in its entry of augment or mix. settings are all fields of a
recipe: their flags, their bounds, and which of them a resumed run may change.

  cnnkit list losses
  cnnkit list optimizers --json`,
		Flags: []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			what, err := one(c, "word: "+strings.Join(listNames, ", "))
			if err != nil {
				return err
			}
			entries, ok := lists[what]
			if what == "networks" {
				return listNetworks(c)
			}
			if !ok {
				return usageError("nothing is listed under %q%s", what, didYouMean(what, listNames))
			}
			if c.Bool("json") {
				return printJSON(c, entries())
			}
			t := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
			for _, e := range entries() {
				fmt.Fprintf(t, "%s\t%s\n", e.Name, e.Doc)
				for _, s := range e.Settings {
					fmt.Fprintf(t, "  %s\t  %s\n", setting(s), s.Doc)
				}
			}
			return t.Flush()
		},
	}
}

// setting is a setting's name with its default.
func setting(s train.Setting) string {
	if s.Default == nil {
		return s.Name
	}
	return fmt.Sprintf("%s=%v", s.Name, s.Default)
}

func listTransforms() []train.Entry {
	var out []train.Entry
	for _, name := range slices.Concat(transforms.Names(), transforms.BatchNames()) {
		e := train.Entry{Name: name, Doc: "changes an image: augment", Settings: []train.Setting{}}
		if slices.Contains(transforms.BatchNames(), name) {
			e.Doc = "mixes a batch: mix"
		}
		names, defaults := transforms.Settings(name)
		for i, setting := range names {
			e.Settings = append(e.Settings, train.Setting{Name: setting, Doc: "torchvision's",
				Default: defaults[i]})
		}
		out = append(out, e)
	}
	return out
}

// listRecipes are the recipes that train and sweep open by name.
func listRecipes() []train.Entry {
	var out []train.Entry
	for _, name := range recipes.Names() {
		e := train.Entry{Name: name, Settings: []train.Setting{}}
		if fields, err := recipeFields(name); err == nil {
			e.Doc = fmt.Sprintf("%v on %v, %v epochs", fields["model"], fields["data"], fields["epochs"])
		}
		out = append(out, e)
	}
	return out
}

// listSettings is the table of a recipe's fields.
func listSettings() []train.Entry {
	var out []train.Entry
	for _, f := range train.RecipeFields() {
		e := train.Entry{Name: f.Name, Doc: strings.ReplaceAll(f.Help(), "`", ""),
			Settings: []train.Setting{}}
		if f.Flag != "" {
			e.Settings = append(e.Settings, train.Setting{Name: "--" + f.Flag, Doc: "its flag"})
		}
		if in := f.In.String(); in != "" {
			e.Settings = append(e.Settings, train.Setting{Name: "bounds", Doc: in})
		}
		if f.Moves {
			e.Settings = append(e.Settings, train.Setting{Name: "resume", Doc: "may change it"})
		}
		out = append(out, e)
	}
	return out
}

func listDataSets() []train.Entry {
	var out []train.Entry
	for _, name := range data.Names() {
		out = append(out, train.Entry{Name: name, Doc: dataSet(name).Says, Settings: []train.Setting{}})
	}
	for scheme, doc := range map[string]string{"images:DIR": "images by class",
		"masks:IMAGES,MASKS": "images and their masks", "csv:FILE": "a table of images and targets"} {
		out = append(out, train.Entry{Name: scheme, Doc: doc, Settings: []train.Setting{}})
	}
	slices.SortStableFunc(out[len(data.Names()):], func(a, b train.Entry) int {
		return strings.Compare(a.Name, b.Name)
	})
	return out
}
