package train

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/cnnkit/cnnkit/train/data"
)

// RecipeFile is the name of the resolved recipe in a run's folder.
const RecipeFile = "recipe.json"

// Recipe is all that makes an experiment: the network, the data and the configuration. As a file it is JSON,
// whose fields are these and those of Config; fields that are left out have the network's defaults.
type Recipe struct {
	Model string `json:"model,omitzero"` // a network of package builders, or an .onnx file
	// Weights is the checkpoint that a network that is built starts from; a classifier of another
	// number of classes is left out.
	Weights string `json:"weights,omitzero"`

	Data string `json:"data,omitzero"` // a word that package data opens: mnist, cifar10=DIR, images:DIR, ...

	// Of the data; Open reads them.
	Size       string `json:"size,omitzero"`       // 128x128: height and width that images are brought to
	Subset     int    `json:"subset,omitzero"`     // so many of the images to train on; 0: all
	Stratified bool   `json:"stratified,omitzero"` // the subset has of each class its share
	// share of the images to train on that is validated on instead; 0: the set's own part
	Validation float64 `json:"validation,omitzero"`
	// 2/5: the second of five parts of the images to train on is validated on instead
	// (k-fold cross-validation)
	Fold string `json:"fold,omitzero"`
	// image files are decoded once; Augment then has them at their size here
	InMemory bool `json:"in_memory,omitzero"`

	// image files stay as the sensor saw them, whatever their EXIF orientation
	NoEXIF bool `json:"no_exif,omitzero"`

	// Task is what the columns of a csv:FILE are: "" a class, multi-label, regression.
	Task data.Task `json:"task,omitzero"`

	// WeightColumn names the column of a csv:FILE with a weight for each image, for
	// Sampler and SampleWeights.
	WeightColumn string `json:"weight_column,omitzero"`

	// MaskClasses is how many classes masks:IMAGES,MASKS have whose values are classes, 0, 1, ...; 0:
	// foreground alone. IgnoreIndex, of Config, is the value that does not count.
	MaskClasses int `json:"mask_classes,omitzero"`

	// Inputs are (p/255 - Mean) / Std, a number a channel; nil: as the model says, else the set's own.
	Mean []float32 `json:"mean,omitempty"`
	Std  []float32 `json:"std,omitempty"`

	// Of a network that is built, as builders.Config has them; zero values mean its defaults.
	Opset   int    `json:"opset,omitzero"`
	Input   string `json:"input,omitzero"` // 3x32x32
	Classes int    `json:"classes,omitzero"`
	Blocks  []int  `json:"blocks,omitzero"`
	Width   int    `json:"width,omitzero"`
	Depth   int    `json:"depth,omitzero"`

	StochasticDepth float64 `json:"stochastic_depth,omitzero"`

	Config
}

// Save writes the recipe into a run's folder, atomically.
func (recipe Recipe) Save(dir string) error { return writeJSON(filepath.Join(dir, RecipeFile), recipe) }

// Fields is a recipe in the making: fields by their JSON names, nested ones as Fields of their own.
type Fields map[string]any

// ReadFields reads a recipe's file.
func ReadFields(r io.Reader) (Fields, error) {
	raw, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	f := Fields{}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode((*map[string]any)(&f)); err != nil {
		return nil, fmt.Errorf("recipe: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("recipe: text behind the closing }")
	}
	if f == nil {
		return nil, fmt.Errorf("recipe: it is null")
	}
	if err := once(json.NewDecoder(bytes.NewReader(raw)), ""); err != nil {
		return nil, fmt.Errorf("recipe: %w", err)
	}
	return f, nil
}

// once refuses a document in which an object has a key twice.
func once(d *json.Decoder, at string) error {
	t, err := d.Token()
	if err != nil {
		return err
	}
	delim, _ := t.(json.Delim)
	seen := map[string]bool{}
	for (delim == '{' || delim == '[') && d.More() {
		where := at
		if delim == '{' {
			key, err := d.Token()
			if err != nil {
				return err
			}
			where += "." + key.(string)
			if where != strings.ToLower(where) { // encoding/json would take LR for lr
				return fmt.Errorf("unknown field %q", where[1:])
			}
			if seen[where] {
				return fmt.Errorf("field %q stands twice", where[1:])
			}
			seen[where] = true
		}
		if err := once(d, where); err != nil {
			return err
		}
	}
	if delim == '{' || delim == '[' {
		_, err = d.Token()
	}
	return err
}

// Set puts a value at a field, or at a nested one such as schedule.kind.
func (f Fields) Set(path string, value any) error {
	head, rest, nested := strings.Cut(path, ".")
	if head == "" {
		return fmt.Errorf("%q names no field", path)
	}
	if !nested {
		f[head] = value
		return nil
	}
	inner, ok := f[head].(map[string]any)
	if !ok {
		if f[head] != nil {
			return fmt.Errorf("%q has no fields", head)
		}
		inner = map[string]any{}
	}
	f[head] = inner
	return Fields(inner).Set(rest, value)
}

// SetText is Set of FIELD=VALUE, the value in JSON; what is no JSON is text.
func (f Fields) SetText(assignment string) error {
	path, text, ok := strings.Cut(assignment, "=")
	if !ok {
		return fmt.Errorf("%q is no FIELD=VALUE", assignment)
	}
	return f.Set(path, jsonOrText(text))
}

// jsonOrText is a value in JSON; what is no JSON is text.
func jsonOrText(text string) any {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil || d.More() {
		return text
	}
	return v
}

// Text is a field that must be text.
func (f Fields) Text(name string) (string, error) {
	s, ok := f[name].(string)
	if !ok && f[name] != nil {
		return "", fmt.Errorf("recipe: %s is %v: it wants text", name, f[name])
	}
	return s, nil
}

// Recipe resolves the fields: what they leave out are the defaults of a network of package builders,
// arch, and those that go with the optimizer. A field that no recipe has is an error, and so is a
// value that makes no sense.
func (f Fields) Recipe(arch string) (Recipe, error) {
	recipe := Recipe{Config: Defaults(arch)}
	optimizer, err := f.Text("optimizer")
	if err != nil {
		return recipe, err
	}
	if optimizer != "" {
		recipe.Config = recipe.With(optimizer)
	}
	if f["swa"] != nil && f["ema"] == nil {
		recipe.EMA = 0 // one average of the weights is enough
	}
	raw, err := json.Marshal(f)
	if err != nil {
		return recipe, err
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&recipe); err != nil {
		return recipe, mistyped(err)
	}
	if err := recipe.ValidateData(); err != nil {
		return recipe, err
	}
	_, err = recipe.Rule()
	return recipe, err
}

// mistyped names the field of a recipe that JSON has in another type.
func mistyped(err error) error {
	var typ *json.UnmarshalTypeError
	if errors.As(err, &typ) {
		return fmt.Errorf("recipe: field %q takes %s, not %s", strings.TrimPrefix(typ.Field, "Config."),
			typ.Type, typ.Value)
	}
	return fmt.Errorf("recipe: %s", strings.TrimPrefix(err.Error(), "json: "))
}

// continues says which field of next makes it another run than recipe: one that the table of
// fields does not let move.
func (recipe Recipe) continues(next Recipe) error {
	if s := recipe.Schedule; s.ofLength() && s.Total == 0 && recipe.Epochs != next.Epochs {
		keep := ""
		if s.filled(1).By != "step" {
			if recipe.Schedule.Total = recipe.Epochs; next.Schedule.Total == recipe.Epochs {
				return recipe.continues(next)
			}
			keep = fmt.Sprintf(", or keep its length with schedule.total=%d (--set), after which it goes on as PyTorch's does", recipe.Epochs)
		}
		return fmt.Errorf("schedule %s ends with the run, which had %d epochs when the checkpoint was made, and has %d now: its rates would jump. "+
			"Start a new run from the checkpoint's model%s", s.Kind, recipe.Epochs, next.Epochs, keep)
	}
	was, err := recipe.fields()
	if err != nil {
		return err
	}
	is, err := next.fields()
	if err != nil {
		return err
	}
	for _, f := range fields {
		if f.Moves || strings.Contains(f.Name, ".") {
			continue // a nested one is compared with all of its kind
		}
		if a, b := was[f.Name], is[f.Name]; !bytes.Equal(a, b) {
			return fmt.Errorf("%s was %s when the checkpoint was made, and is %s now: the run could not go on as it was. "+
				"Leave it as it was, or start a new run from the checkpoint's model", f.Name,
				cmp.Or(string(a), "not set"), cmp.Or(string(b), "not set"))
		}
	}
	return nil
}

// fields are the recipe's, each as JSON; what means the same looks the same.
func (recipe Recipe) fields() (map[string]json.RawMessage, error) {
	if recipe.Precision == Precisions()[0] {
		recipe.Precision = ""
	}
	raw, err := json.Marshal(recipe)
	if err != nil {
		return nil, err
	}
	var out map[string]json.RawMessage
	return out, json.Unmarshal(raw, &out)
}
