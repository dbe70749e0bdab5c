package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/convert/rewrite"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/spec"
	"github.com/cnnkit/cnnkit/train"
	"github.com/cnnkit/cnnkit/train/data"
	"github.com/cnnkit/cnnkit/train/recipes"
)

// job is what a call of train is to do.
type job struct {
	recipe train.Recipe
	model  *onnxio.Model     // to start from
	from   *train.Checkpoint // or to go on from
	dir    string
}

// assignments gathers the values of a flag that may stand several times; values may have commas.
type assignments []string

// Set implements cli.Generic.
func (a *assignments) Set(s string) error {
	*a = append(*a, s)
	return nil
}

func (a *assignments) String() string { return strings.Join(*a, " ") }

func recipeFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "recipe",
			Usage: "`FILE` with the fields of a run, or one of 'cnnkit list recipes'"},
		setFlag(),
		&cli.BoolFlag{Name: "force", Usage: "write over the run that --out holds"},
		&cli.StringFlag{Name: "resume", Usage: "go on from a checkpoint `FILE`, or that of a DIR"},
	}
}

func setFlag() cli.Flag {
	return &cli.GenericFlag{Name: "set", Value: &assignments{},
		Usage: "`FIELD=VALUE` of the recipe, as often as wanted: lr=0.1, schedule.kind=cosine, groups=[]"}
}

// namedJob is a run whose network is an argument.
func namedJob(c *cli.Context) (job, error) {
	what, err := one(c, "network NAME or MODEL file")
	if err != nil {
		return job{}, err
	}
	return newJob(c, train.Fields{"model": what})
}

// recipeJob is a run from a file; an argument replaces its model.
func recipeJob(c *cli.Context) (job, error) {
	fields, err := recipeFields(c.String("recipe"))
	if err != nil {
		return job{}, err
	}
	if c.NArg() > 0 {
		what, err := one(c, "network NAME or MODEL file")
		if err != nil {
			return job{}, err
		}
		fields["model"] = what
	}
	return newJob(c, fields)
}

// recipeFields reads a recipe's file, or a recipe of the program by its name.
func recipeFields(path string) (train.Fields, error) {
	var f fs.File
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() {
		f, err = os.Open(path)
	} else if slices.Contains(recipes.Names(), strings.TrimSuffix(path, ".json")) {
		f, err = recipes.Open(path)
	} else if err == nil {
		err = fmt.Errorf("%s is a folder: a recipe's file is wanted", path)
	}
	if err != nil {
		if !strings.ContainsAny(path, "/.") {
			return nil, usageError("no recipe %q: neither a file nor one of 'cnnkit list recipes'%s", path,
				didYouMean(path, recipes.Names()))
		}
		return nil, badFile{err}
	}
	defer f.Close()
	fields, err := train.ReadFields(f)
	if err != nil {
		return nil, badFile{fmt.Errorf("%s: %w", path, err)}
	}
	return fields, nil
}

// newJob resolves the fields with what --set and the flags say on top, and makes the model.
func newJob(c *cli.Context, fields train.Fields) (job, error) {
	j := job{}
	var err error
	if j.dir, err = required(c, "out"); err != nil {
		return j, err
	}
	if err := free(c, j.dir); err != nil {
		return j, err
	}
	if err := override(c, fields); err != nil {
		return j, err
	}
	what, err := fields.Text("model")
	if err == nil && what == "" {
		err = fmt.Errorf("the recipe names no model: cnnkit train takes a network NAME or MODEL file")
	}
	if err != nil {
		return j, usageError("%w", err)
	}
	if strings.HasSuffix(what, ".onnx") {
		if flag := shaping(c); flag != "" && flag != "classes" {
			return j, usageError("--%s shapes a network that is built by name; %s has its shape already",
				flag, what)
		}
	}
	var head *rewrite.NewHead
	if j.model, head, err = headedModel(fields); err != nil {
		return j, err
	}
	sayHead(c, what, head)
	if j.recipe, err = fields.Recipe(archOf(j.model)); err != nil {
		return j, usageError("%w", err)
	}
	if err := start(c, j.model, j.recipe); err != nil {
		return j, err
	}
	return j, j.prepare(c)
}

// free refuses a folder that holds a run, unless --force says that it may be lost. A search
// for a rate writes no model.
func free(c *cli.Context, dir string) error {
	if c.Bool("force") || c.Bool("find-lr") {
		return nil
	}
	if _, err := os.Stat(filepath.Join(dir, train.CheckpointFile)); err != nil {
		return nil
	}
	return hinted{usageError("%s holds a run already", dir),
		"write elsewhere with --out, go on with 'cnnkit train --resume " + dir +
			"', or write over it with --force"}
}

// prepare puts --preset into the model, and what it says of the values into the recipe, which is
// what a resumed run reads.
func (j *job) prepare(c *cli.Context) error {
	if !c.IsSet("preset") {
		return nil
	}
	s, err := spec.Get(j.model)
	if err != nil {
		return badFile{err}
	}
	if err := s.Preset(c.String("preset"), j.model); err != nil {
		return usageError("--preset: %w", err)
	}
	if j.recipe.Mean == nil {
		j.recipe.Mean, j.recipe.Std = s.Input.Mean, s.Input.Std
	}
	spec.Set(j.model, s)
	return nil
}

// shaping is a flag that shapes a network; "" where none is set.
func shaping(c *cli.Context) string {
	for _, f := range train.RecipeFields() {
		if f.Part == train.OfNetwork && f.Moves && f.Flag != "" && c.IsSet(f.Flag) {
			return f.Flag
		}
	}
	return ""
}

// resumedJob goes on from a checkpoint with its recipe.
func resumedJob(c *cli.Context) (job, error) {
	if c.NArg() > 0 || c.IsSet("recipe") {
		return job{}, usageError(
			"--resume goes on with the network and the recipe of the checkpoint: leave out %s",
			c.Args().First()+c.String("recipe"))
	}
	if flag := shaping(c); flag != "" {
		return job{}, usageError(
			"--%s shapes a network that is built by name; --resume goes on with that of the checkpoint", flag)
	}
	for _, flag := range []string{"preset", "weights"} {
		if c.IsSet(flag) {
			return job{}, usageError("--%s is that of the checkpoint: leave it out with --resume", flag)
		}
	}
	path := c.String("resume")
	from, err := train.LoadCheckpoint(path)
	if err != nil {
		return job{}, badFile{err}
	}
	if from.OtherDraws() {
		fmt.Fprintln(c.App.ErrWriter, "cnnkit: the run is of an earlier version, which drew Dropout and stochastic depth by "+
			"batch: it goes on with other draws than it would have then")
	}
	j := job{from: from, dir: c.String("out")}
	if j.dir == "" {
		if j.dir = path; strings.HasSuffix(path, ".safetensors") {
			j.dir = filepath.Dir(path)
		}
	}
	raw, err := json.Marshal(from.Recipe)
	if err != nil {
		return j, err
	}
	fields, err := train.ReadFields(strings.NewReader(string(raw)))
	if err != nil {
		return j, err
	}
	if err := override(c, fields); err != nil {
		return j, err
	}
	if j.recipe, err = fields.Recipe(""); err != nil {
		return j, usageError("%w", err)
	}
	return j, nil
}

// override puts what --set says into the fields, then what the flags say.
func override(c *cli.Context, fields train.Fields) error {
	if set, ok := c.Generic("set").(*assignments); ok {
		for _, s := range *set {
			if err := fields.SetText(s); err != nil {
				return usageError("--set: %w", err)
			}
		}
	}
	return setFields(c, fields, train.OfNetwork, train.OfData, train.OfTraining)
}

// open opens the job's data set.
func (j job) open(c *cli.Context) (data.Splits, error) {
	if j.recipe.Data == "" {
		return data.Splits{}, hinted{usageError("cnnkit train needs --data"),
			"see 'cnnkit data list' for what there is"}
	}
	if j.from != nil {
		return openRecipe(c, j.recipe, j.from.Model())
	}
	return openRecipe(c, j.recipe, j.model)
}
