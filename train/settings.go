package train

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/cnnkit/cnnkit/train/data"
)

// Field is a row of the table of a recipe's fields. The command line makes its flags and their help of the
// table, a recipe is checked by it, and a resumed run may change what it says.
type Field struct {
	// Name is the field's in JSON, of a nested one such as schedule.kind; Doc "" is an entry's
	Setting
	Part  Part            // of the recipe
	Flag  string          // of cnnkit train; "": none
	In    Interval        // where numbers must lie
	Words func() []string // what a text may be
	Moves bool            // a resumed run may have another value: what was computed so far stays the same

	parse func(text string) (any, error) // of a flag that says something else than the field
}

// Part is what a field is about.
type Part string

// The parts of a recipe.
const (
	OfNetwork  Part = "network"
	OfData     Part = "data"
	OfTraining Part = "training"
)

// Interval bounds numbers. The zero value bounds nothing.
type Interval struct {
	Low, High         float64
	LowOpen, HighOpen bool
}

var (
	positive    = Interval{0, math.Inf(1), true, false}
	notNegative = Interval{0, math.Inf(1), false, false}
	fromOne     = Interval{1, math.Inf(1), false, false}
	shareBelow1 = Interval{0, 1, false, true}
)

func (in Interval) has(v float64) bool {
	if in == (Interval{}) {
		return true
	}
	return (v > in.Low || v == in.Low && !in.LowOpen) && (v < in.High || v == in.High && !in.HighOpen)
}

// String says what is wanted.
func (in Interval) String() string {
	switch in {
	case Interval{}:
		return ""
	case positive:
		return "it must be positive"
	case notNegative:
		return "it must not be negative"
	case fromOne:
		return "at least 1"
	}
	left, right := "[", "]"
	if in.LowOpen {
		left = "("
	}
	if in.HighOpen {
		right = ")"
	}
	return fmt.Sprintf("it must be in %s%v,%v%s", left, in.Low, in.High, right)
}

// RecipeFields is the table of a recipe's fields.
func RecipeFields() []Field { return slices.Clone(fields) }

// FieldOf finds a field by its name in JSON.
func FieldOf(name string) (Field, bool) {
	return found(func(f Field) bool { return f.Name == name })
}

func found(fits func(Field) bool) (Field, bool) {
	if i := slices.IndexFunc(fields, fits); i >= 0 {
		return fields[i], true
	}
	return Field{}, false
}

// Type is the field's type in Go.
func (f Field) Type() reflect.Type {
	t := reflect.TypeFor[Recipe]()
	for name := range strings.SplitSeq(f.Name, ".") {
		s, ok := fieldNamed(t, name)
		if !ok {
			return nil
		}
		t = s.Type
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// fieldNamed finds a field of a struct by its name in JSON.
func fieldNamed(t reflect.Type, name string) (reflect.StructField, bool) {
	if t.Kind() != reflect.Struct {
		return reflect.StructField{}, false
	}
	fields, ok := jsonFields.Load(t)
	if !ok {
		named := map[string]reflect.StructField{}
		for _, s := range reflect.VisibleFields(t) {
			tag, _, _ := strings.Cut(s.Tag.Get("json"), ",")
			if _, twice := named[tag]; !twice && !s.Anonymous {
				named[tag] = s
			}
		}
		fields, _ = jsonFields.LoadOrStore(t, named)
	}
	s, ok := fields.(map[string]reflect.StructField)[name]
	return s, ok
}

// jsonFields are the fields of structs by their names in JSON, by type: a program asks for them hundreds of
// times before it does anything.
var jsonFields sync.Map

// Help is the field's documentation, after the names of the losses or optimizers that alone read it, and
// before the words that it may be.
func (f Field) Help() string {
	doc := f.Doc
	for _, r := range [][]Entry{DescribeLosses(), DescribeOptimizers()} {
		var readers []string
		for _, e := range r {
			for _, s := range e.Settings {
				if s.Name != f.Name {
					continue
				}
				readers = append(readers, e.Name)
				if doc == "" {
					doc = s.Doc
				}
			}
		}
		if n := len(readers); n > 0 && n <= 4 {
			doc = strings.Join(readers, ", ") + ": " + doc
		}
	}
	if f.Words != nil {
		doc += ": " + strings.Join(f.Words(), ", ")
	}
	return doc
}

// check compares a number, or each of several, with In.
func (f Field) check(v reflect.Value) error {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return f.check(v.Elem())
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if err := f.check(v.Index(i)); err != nil {
				return err
			}
		}
		return nil
	case reflect.Int, reflect.Int64:
		v = reflect.ValueOf(float64(v.Int()))
	case reflect.Float64, reflect.Float32:
	default:
		return nil
	}
	if !f.In.has(v.Float()) {
		return fmt.Errorf("%s is %v: %v", f.Name, v.Float(), f.In)
	}
	return nil
}

// validateFields compares the numbers of a recipe with the table. A zero of a field whose
// zero is a default is one.
func (recipe Recipe) validateFields() error {
	for _, f := range fields {
		v, tag := reflect.ValueOf(recipe), ""
		for name := range strings.SplitSeq(f.Name, ".") {
			s, ok := fieldNamed(v.Type(), name)
			if !ok {
				return fmt.Errorf("no field %q", f.Name)
			}
			v, tag = v.FieldByIndex(s.Index), s.Tag.Get("json")
		}
		if strings.Contains(tag, ",omit") && v.IsZero() {
			continue
		}
		if err := f.check(v); err != nil {
			return err
		}
	}
	return nil
}

// SetFlag puts the value of a flag of cnnkit train into its field: a bool or a number as it is,
// text as the field takes it.
func (f Fields) SetFlag(flag string, value any) error {
	field, ok := found(func(f Field) bool { return f.Flag == flag })
	if !ok || flag == "" {
		return fmt.Errorf("no field has the flag --%s", flag)
	}
	if text, ok := value.(string); ok {
		v, err := field.Parse(text)
		if err != nil {
			return err
		}
		value = v
	}
	if err := field.check(reflect.ValueOf(value)); err != nil {
		return err
	}
	return f.Set(field.Name, value)
}

// Parse reads the text of a flag: a list of numbers, words or transforms, or text as it is.
func (f Field) Parse(text string) (any, error) {
	if f.parse != nil {
		return f.parse(text)
	}
	switch t := f.Type(); {
	case t == reflect.TypeFor[ClassWeights]():
		if text == "balanced" {
			return text, nil
		}
		v, err := floats(text)
		if err != nil {
			return nil, fmt.Errorf("it wants balanced, or a number for each class such as 1,2.5,1, not %q",
				text)
		}
		return v, nil
	case strings.HasSuffix(t.Name(), "Compose"):
		return transformList(text)
	case t.Kind() == reflect.String:
		return text, nil
	case t.Kind() != reflect.Slice && t.Kind() != reflect.Array:
		return nil, fmt.Errorf("it takes %v, not text", t)
	case t.Elem().Kind() == reflect.String:
		return strings.Split(text, ","), nil
	case t.Elem().Kind() == reflect.Int:
		return positives(text)
	case t.Kind() == reflect.Array:
		v, err := floats(text)
		if err != nil || len(v) != t.Len() {
			return nil, fmt.Errorf("it wants two numbers such as 0.9,0.999, not %q", text)
		}
		return v, nil
	}
	v, err := floats(text)
	if err != nil {
		return nil, fmt.Errorf("it wants numbers such as 0.5,0.5,0.5, not %q", text)
	}
	return v, nil
}

// floats reads numbers between commas, as JSON keeps them.
func floats(text string) ([]float64, error) {
	var out []float64
	for word := range strings.SplitSeq(text, ",") {
		v, err := strconv.ParseFloat(strings.TrimSpace(word), 64)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

func positives(text string) ([]int, error) {
	var out []int
	for word := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(word))
		if err != nil || n < 1 {
			return nil, fmt.Errorf("it wants positive numbers such as 2,2,2, not %q", text)
		}
		out = append(out, n)
	}
	return out, nil
}

// transformList reads JSON, or names alone.
func transformList(text string) (any, error) {
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

// undecayed makes groups without weight decay.
func undecayed(text string) (any, error) {
	var groups []any
	for params := range strings.SplitSeq(text, ",") {
		groups = append(groups, map[string]any{"params": params, "weight_decay": 0})
	}
	return groups, nil
}

// patterns parts a list at its commas; those in brackets belong to a pattern.
func patterns(text string) (any, error) {
	var out []any
	depth, begin := 0, 0
	for i, c := range text + "," {
		switch {
		case c == '[':
			depth++
		case c == ']':
			depth--
		case c == ',' && (depth <= 0 || i == len(text)):
			out, begin = append(out, strings.TrimSpace(text[begin:i])), i+1
		}
	}
	return out, nil
}

func field(name, flag, doc string) Field {
	return Field{Setting: Setting{Name: name, Doc: doc}, Flag: flag, Part: OfTraining}
}

func (f Field) of(p Part) Field                        { f.Part = p; return f }
func (f Field) in(i Interval) Field                    { f.In = i; return f }
func (f Field) moves() Field                           { f.Moves = true; return f }
func (f Field) words(w func() []string) Field          { f.Words = w; return f }
func (f Field) read(p func(string) (any, error)) Field { f.parse = p; return f }

// fields is the table. A test holds it against Recipe: every field in JSON has a row.
var fields []Field

func init() { // not an initializer: the table's parsers read the table
	network := func(name, flag, doc string) Field { return field(name, flag, doc).of(OfNetwork).moves() }
	images := func(name, flag, doc string) Field { return field(name, flag, doc).of(OfData) }
	fields = []Field{
		network("model", "", "a network of 'cnnkit list networks', or an .onnx file"),
		network("opset", "opset", "ONNX operator set, 13 to 21 (default 17)"),
		field("seed", "seed",
			"of the initial weights, the images' order and all that is drawn").of(OfNetwork),
		network("input", "input",
			"input shape `CxHxW`, such as 3x32x32 (default: the network's own)").read(shapeText),
		network("classes", "classes", "number of classes, or of mask channels").in(fromOne),
		network("blocks", "blocks", "residual networks: blocks per layer, such as 2,2,2"),
		network("width", "width",
			"unet, VGG, residual networks: width, the channels of the first level").in(fromOne),
		network("depth", "depth", "unet: number of levels").in(fromOne),
		network("stochastic_depth", "stochastic-depth",
			"networks with residual blocks: probability `P` with which training drops the last one for an image; it rises linearly to that (default: torchvision's)"),

		images("data", "data",
			"data set `NAME` or NAME=FOLDER, images:DIR, masks:IMAGES,MASKS or csv:FILE (see 'cnnkit data list')").moves(),
		images("size", "size",
			"`HEIGHTxWIDTH` to bring images to (default: the model's for image files, else the data set's)"),
		images("subset", "subset", "train on so many of the images, chosen by the seed").in(notNegative),
		images("stratified", "stratified", "the subset has of each class its share"),
		images("validation", "validation",
			"`SHARE` of the images to train on to validate on (default: the set's own part; of a set without parts 0.2)"),
		images("fold", "fold",
			"`I/K`, such as 2/5: validate on the second of five parts of the images to train on (k-fold cross-validation)"),
		images("task", "task",
			"`TASK` of the columns of csv:FILE beside path and split (default: label, a class)").words(
			data.Tasks),
		images("weight_column", "weight-column",
			"of csv:FILE: the `COLUMN` with a weight for each image, which --sampler weights and --sample-weights read; it is no target"),
		images("no_exif", "no-exif",
			"leave photographs as the sensor saw them, whatever their EXIF orientation says"),
		images("mask_classes", "mask-classes",
			"`K` classes, background included, that masks:IMAGES,MASKS have, whose values are 0 to K-1 (default: foreground, of 1 or 255)"),
		images("ignore_index", "ignore",
			"with --mask-classes: the `LABEL` of pixels that do not count, such as 255"),
		images("mean", "mean",
			"`NUMBERS`, one a channel: inputs are (p/255 - mean) / std (default: the model's, else the set's own)"),
		images("std", "std", "`NUMBERS` that go with --mean, such as 0.5,0.5,0.5"),
		images("augment", "augment",
			"`LIST` of transforms, with torchvision's names: RandomHorizontalFlip,RandAugment, or with settings as JSON: [{\"name\":\"RandomCrop\",\"size\":32,\"padding\":4}]"),
		images("mix", "mix", "`LIST` of what mixes batches: MixUp,CutMix, or with settings as JSON"),
		images("workers", "workers", "goroutines that read and change images (0: as many as are useful)").in(
			notNegative).moves(),
		images("in_memory", "in-memory", "decode image files once; they are augmented at their --size then"),

		field("weights", "weights",
			"start a network from a checkpoint `FILE`; a classifier for another number of classes is left out and starts anew").moves(),
		field("freeze", "freeze",
			"`PATTERNS` of parameters and modules that stay as they are, such as 'conv1,bn1,layer[1-3].*'").read(patterns),
		field("unfreeze", "",
			"gradual unfreezing: [{\"epoch\": 3, \"params\": \"layer4\"}] trains what freeze holds from an epoch on"),
		field("lr_decay_per_layer", "lr-decay-per-layer",
			"`FACTOR` of the learning rate from each layer to the one below it").in(Interval{0, 1,
			false, false}),
		field("cache_features", "cache-features",
			"with --freeze: compute what the frozen first layers give once for each image"),
		field("cache_mib", "cache-mib",
			"with --cache-features: the most memory for it, in MiB (default: a quarter of the machine's)").in(
			notNegative).moves(),
		field("epochs", "epochs", "times to go through the data").in(fromOne).moves(),
		field("batch", "batch", "images a step").in(fromOne),
		field("loss", "loss",
			"loss, or the `FILE`.onnx of a graph of the model's output and the target").words(Losses),
		field("optimizer", "optimizer", "optimizer").words(Optimizers),
		field("lr", "lr", "learning rate; of one-cycle the highest").in(positive),
		field("momentum", "momentum", "momentum").in(shareBelow1),
		field("dampening", "dampening", ""),
		field("nesterov", "nesterov", ""),
		field("betas", "betas", "decay rates `B1,B2` (default 0.9,0.999; lion 0.9,0.99)").in(shareBelow1),
		field("eps", "eps", "the constant in the denominator (default 1e-8; adagrad 1e-10, lamb 1e-6)").in(
			notNegative),
		field("alpha", "", "").in(shareBelow1),
		field("centered", "", ""),
		field("lr_decay", "", "").in(notNegative),
		field("accumulator", "", "").in(notNegative),
		field("trust", "", "").in(notNegative),
		field("ns_steps", "", "").in(notNegative),
		field("unit_norm", "", ""),
		field("weight_decay", "weight-decay", "weight decay").in(notNegative),
		field("groups", "no-decay",
			"`GROUPS` of parameters without weight decay, such as bias,norm").read(undecayed),
		field("schedule", "", "of the learning rate"),
		field("schedule.kind", "schedule",
			"`KIND` of the learning rate's schedule, whose settings are set with --set schedule.FIELD=VALUE").words(Schedules),
		field("schedule.warmup", "warmup",
			"epochs in which the learning rate rises to its value").in(notNegative),
		field("accumulate", "accumulate", "batches whose gradients make one step").in(fromOne),
		field("clip_norm", "clip-norm", "the greatest norm of the gradient").in(notNegative),
		field("clip_value", "clip-value", "the greatest number in the gradient").in(notNegative),
		field("lookahead", "", "slow weights, arXiv:1907.08610"),
		field("ema", "ema", "`DECAY` of a moving average of the weights, which is validated and saved in their place").in(shareBelow1),
		field("whiten", "", "so many of the images to train on give the first convolution filters that whiten their patches").in(notNegative),
		field("swa", "", "stochastic weight averaging"),
		field("swa.start", "swa",
			"from `EPOCH` on validate and save the average of the epochs' weights (stochastic weight averaging)"),
		field("swa.lr", "swa-lr",
			"with --swa: the learning rate to end at; how fast with --set swa.anneal_epochs=N"),
		field("sampler", "sampler",
			"draw the images of an epoch with replacement, as PyTorch's WeightedRandomSampler does, so that all classes come alike often or by --weight-column (default: every image once)").words(Samplers),
		field("draws", "draws", "with --sampler: `N` images an epoch (default: as many as there are)").in(
			notNegative),
		field("label_smoothing", "label-smoothing", "").in(shareBelow1),
		field("class_weights", "class-weights", "balanced, or the `WEIGHT,...` of each class in the loss"),
		field("sample_weights", "sample-weights",
			"each image's loss counts as many times as its --weight-column says"),
		field("gamma", "", "").in(notNegative),
		field("balance", "", "").in(shareBelow1),
		field("smooth", "", "").in(notNegative),
		field("delta", "", "").in(positive),
		field("pos_weight", "pos-weight",
			"`WEIGHT,...` of the ones, one for each output, or one for all").in(positive),
		field("tversky", "", "").in(notNegative),
		field("settings", "", "of a loss, a metric or an optimizer that Register... added"),
		field("thresholds", "thresholds",
			"of several labels an image: the `PROBABILITY,...` above which it has a label, one for all or one for each (default: what the model says, else 0.5); f1 finds those of the highest F1 on the images to validate on").read(parseThresholds),
		field("metrics", "metrics", "`NAMES` of what to measure beside accuracy").words(Metrics).moves(),
		field("monitor", "monitor",
			"what the best model is best in (default accuracy): loss, or one of the metrics").moves(),
		field("patience", "patience",
			"epochs without a better one after which to stop").in(notNegative).moves(),
		field("validate_every", "",
			"epochs from one validation to the next; the last is always validated").in(notNegative).moves(),
		field("keep", "keep",
			"`K` of the last epochs leave their model and checkpoint beside: epoch-0007.onnx, epoch-0007.safetensors").in(notNegative).moves(),
		field("checkpoint_steps", "checkpoint-steps",
			"steps between checkpoints within an epoch").in(notNegative).moves(),
		field("precision", "precision",
			"of maps and convolutions, where bf16 is faster with AMX and has 8 bits; weights and optimizer stay float32").words(Precisions),
		field("distributed", "distributed",
			"how the processes of a data-parallel run are connected, which 'mpirun -n N cnnkit train' starts; --batch is each one's").words(Distributions).moves(),
		field("sync_bn", "sync-bn",
			"with --distributed: BatchNormalization takes the statistics of all processes' images"),
		field("deterministic", "deterministic",
			"with --distributed: refuse processors with other instructions than rank 0's, compare the processes' weights after each epoch").moves(),
		field("threads", "threads", "threads to compute with (0: as many as the process may use)").in(
			notNegative).moves(),
	}
}
