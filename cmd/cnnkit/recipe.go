package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/spec"
	"github.com/cnnkit/cnnkit/train"
	"github.com/cnnkit/cnnkit/train/data"
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
		&cli.StringFlag{Name: "recipe", Usage: "`FILE` with the fields of a run"},
		&cli.GenericFlag{Name: "set", Value: &assignments{}, Usage: "`FIELD=VALUE` of the recipe, as often as wanted: lr=0.1, schedule.kind=cosine, groups=[]"},
		&cli.BoolFlag{Name: "force", Usage: "write over the run that --out holds"},
		&cli.StringFlag{Name: "resume", Usage: "go on from a checkpoint `FILE`, or that of a DIR"},
	}
}

// networkFields are the flags of networkFlags, each with a field of its name (fieldOf).
var networkFields = []string{"seed", "opset", "input", "classes", "blocks", "width", "depth", "stochastic-depth"}

// fieldOf is the recipe's field for a flag.
func fieldOf(flag string) string { return strings.ReplaceAll(flag, "-", "_") }

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
	path := c.String("recipe")
	f, err := os.Open(path)
	if err != nil {
		return job{}, badFile{err}
	}
	defer f.Close()
	fields, err := train.ReadFields(f)
	if err != nil {
		return job{}, badFile{fmt.Errorf("%s: %w", path, err)}
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
	for _, name := range networkFields { // network() reads the flags
		if v := fields[fieldOf(name)]; v != nil && !c.IsSet(name) {
			if err := c.Set(name, flagText(v)); err != nil {
				return j, usageError("recipe: %s: %w", name, err)
			}
		}
	}
	if j.model, err = modelToTrain(c, what); err != nil {
		return j, err
	}
	if j.recipe, err = fields.Recipe(archOf(j.model)); err != nil {
		return j, usageError("%w", err)
	}
	return j, j.prepare(c)
}

// free refuses a folder that holds a run, unless --force says that it may be lost. A search for a rate writes no model.
func free(c *cli.Context, dir string) error {
	if c.Bool("force") || c.Bool("find-lr") {
		return nil
	}
	if _, err := os.Stat(filepath.Join(dir, train.CheckpointFile)); err != nil {
		return nil
	}
	return hinted{usageError("%s holds a run already", dir), "write elsewhere with --out, go on with 'cnnkit train --resume " + dir + "', or write over it with --force"}
}

// prepare puts --preset into the model, and what it says of the values into the recipe, which is what a resumed run reads.
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

// flagText is a field's value as its flag takes it.
func flagText(v any) string {
	switch v := v.(type) {
	case []any:
		parts := make([]string, len(v))
		for i, x := range v {
			parts[i] = fmt.Sprint(x)
		}
		return strings.Join(parts, ",")
	case []int:
		return strings.Trim(strings.ReplaceAll(fmt.Sprint(v), " ", ","), "[]")
	}
	return fmt.Sprint(v)
}

// resumedJob goes on from a checkpoint with its recipe.
func resumedJob(c *cli.Context) (job, error) {
	if c.NArg() > 0 || c.IsSet("recipe") {
		return job{}, usageError("--resume goes on with the network and the recipe of the checkpoint: leave out %s", c.Args().First()+c.String("recipe"))
	}
	for _, flag := range networkFields {
		if c.IsSet(flag) && flag != "seed" { // which the run has too, and compares
			return job{}, usageError("--%s shapes a network that is built by name; --resume goes on with that of the checkpoint", flag)
		}
	}
	if c.IsSet("preset") {
		return job{}, usageError("--preset is that of the checkpoint: leave it out with --resume")
	}
	path := c.String("resume")
	from, err := train.LoadCheckpoint(path)
	if err != nil {
		return job{}, badFile{err}
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
	if _, err := threads(c); err != nil {
		return err
	}
	for _, f := range slices.Concat(networkFlags(), trainFlags(), dataFlags(), []cli.Flag{threadsFlag()}) {
		name := f.Names()[0]
		if !c.IsSet(name) {
			continue
		}
		if err := setFlag(fields, name, c.Value(name)); err != nil {
			return err
		}
	}
	return nil
}

// setFlag puts a flag's value into its field.
func setFlag(fields train.Fields, name string, v any) error {
	field := fieldOf(name)
	switch name {
	case "schedule":
		field = "schedule.kind"
	case "warmup":
		field = "schedule.warmup"
	case "ignore":
		field = "ignore_index"
	case "swa":
		field = "swa.start"
	case "swa-lr":
		field = "swa.lr"
	case "betas":
		var b [2]float64
		if n, err := fmt.Sscanf(v.(string), "%g,%g", &b[0], &b[1]); n != 2 || err != nil {
			return usageError("--betas wants two numbers such as 0.9,0.999, not %q", v)
		}
		v = b
	case "class-weights":
		if v != "balanced" {
			numbers, err := floats(name, v.(string))
			if err != nil {
				return usageError("--class-weights wants balanced, or a number for each class such as 1,2.5,1, not %q", v)
			}
			v = numbers
		}
	case "mean", "std", "pos-weight":
		numbers, err := floats(name, v.(string))
		if err != nil {
			return err
		}
		v = numbers
	case "blocks":
		numbers, err := ints(name, v.(string))
		if err != nil {
			return err
		}
		v = numbers
	case "augment", "mix":
		l, err := list(v.(string))
		if err != nil {
			return usageError("--%s: %w", name, err)
		}
		v = l
	case "metrics":
		v = strings.Split(v.(string), ",")
	case "no-decay":
		field = "groups"
		var groups []map[string]any
		for _, params := range strings.Split(v.(string), ",") {
			groups = append(groups, map[string]any{"params": params, "weight_decay": 0})
		}
		v = groups
	}
	if err := fields.Set(field, v); err != nil {
		return usageError("--%s: %w", name, err)
	}
	return nil
}

// dataFlags say what is taken of the data, and what becomes of the images.
func dataFlags() []cli.Flag {
	return []cli.Flag{dataFlag(), sizeFlag(),
		&cli.IntFlag{Name: "subset", Usage: "train on so many of the images, chosen by the seed"},
		&cli.BoolFlag{Name: "stratified", Usage: "the subset has of each class its share"},
		validationFlag(), foldFlag(), taskFlag(), noEXIFFlag(), maskClassesFlag(), ignoreFlag(), meanFlag(), stdFlag(),
		&cli.StringFlag{Name: "augment", Usage: "`LIST` of transforms, with torchvision's names: RandomHorizontalFlip,RandAugment, or with settings as JSON: [{\"name\":\"RandomCrop\",\"size\":32,\"padding\":4}]"},
		&cli.StringFlag{Name: "mix", Usage: "`LIST` of what mixes batches: MixUp,CutMix, or with settings as JSON"},
		&cli.IntFlag{Name: "workers", Usage: "goroutines that read and change images (0: as many as are useful)"},
		&cli.BoolFlag{Name: "in-memory", Usage: "decode image files once; they are augmented at their --size then"},
	}
}

// list reads the value of --augment or --mix: JSON, or names alone.
func list(text string) (any, error) {
	if strings.HasPrefix(strings.TrimSpace(text), "[") {
		var v []any
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		if err := d.Decode(&v); err != nil {
			return nil, err
		}
		return v, nil
	}
	v := []any{}
	for name := range strings.SplitSeq(text, ",") {
		v = append(v, map[string]any{"name": strings.TrimSpace(name)})
	}
	return v, nil
}

// open opens the job's data set.
func (j job) open(c *cli.Context) (data.Splits, error) {
	if j.recipe.Data == "" {
		return data.Splits{}, hinted{usageError("cnnkit train needs --data"), "see 'cnnkit data list' for what there is"}
	}
	if j.from != nil {
		return openRecipe(c, j.recipe, j.from.Model())
	}
	return openRecipe(c, j.recipe, j.model)
}
