package transforms

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// known are the transforms that a list can hold, with what stands in for settings that are not given.
var known map[string]Transform

func init() { // not an initialiser: RandomApply's list refers back to the table
	known = byName[Transform](
		Resize{}, CenterCrop{}, Pad{}, RandomCrop{}, RandomResizedCrop{},
		RandomHorizontalFlip{P: 0.5}, AlternatingFlip{}, RandomVerticalFlip{P: 0.5}, RandomRotation{},
		RandomAffine{},
		ColorJitter{}, Grayscale{}, RandomGrayscale{P: 0.1}, GaussianBlur{}, RandomAdjustSharpness{P: 0.5},
		RandomInvert{P: 0.5}, RandomPosterize{P: 0.5}, RandomSolarize{P: 0.5}, RandomAutocontrast{P: 0.5},
		RandomEqualize{P: 0.5},
		RandomErasing{P: 0.5}, AutoAugment{}, RandAugment{Magnitude: 9}, TrivialAugmentWide{},
		RandomApply{P: 0.5}, RandomChoice{},
	)
}

// knownBatch are the transforms of whole batches.
var knownBatch = byName[BatchTransform](MixUp{P: 1}, CutMix{P: 1})

// required are the settings that have no default.
var required = map[string][]string{
	"Resize": {"size"}, "CenterCrop": {"size"}, "Pad": {"padding"}, "RandomCrop": {"size"},
	"RandomResizedCrop": {"size"},
	"RandomRotation":    {"degrees"}, "RandomAffine": {"degrees"}, "GaussianBlur": {"kernel_size"},
	"RandomAdjustSharpness": {"sharpness_factor"}, "RandomPosterize": {"bits"},
	"RandomSolarize": {"threshold"},
	"RandomApply":    {"transforms"}, "RandomChoice": {"transforms"},
}

func byName[T any](ts ...T) map[string]T {
	m := make(map[string]T, len(ts))
	for _, t := range ts {
		m[nameOf(t)] = t
	}
	return m
}

// nameOf is the type's name, which is the name in JSON.
func nameOf(t any) string {
	v := reflect.TypeOf(t)
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	return v.Name()
}

// Names lists the transforms that Parse knows.
func Names() []string {
	registry.RLock()
	defer registry.RUnlock()
	return slices.Sorted(maps.Keys(known))
}

// BatchNames lists the transforms that ParseBatch knows.
func BatchNames() []string { return slices.Sorted(maps.Keys(knownBatch)) }

// registry guards known.
var registry sync.RWMutex

// Checker is a transform that says whether its settings make sense.
type Checker interface{ Check() error }

// Register adds a transform, which Parse then knows by the name of its type. Its fields are its
// settings, by their JSON names, and default are what stands in t. A transform that is a Checker is
// asked whether they make sense.
func Register(t Transform) error {
	v := reflect.TypeOf(t)
	if v == nil || v.Kind() != reflect.Struct || v.Name() == "" {
		return fmt.Errorf("transform %T: a struct type with a name is wanted", t)
	}
	for i := range v.NumField() {
		if name, _, _ := strings.Cut(v.Field(i).Tag.Get("json"), ","); name == "" ||
			!v.Field(i).IsExported() {
			return fmt.Errorf("transform %s: field %s wants to be exported, with a JSON name", v.Name(),
				v.Field(i).Name)
		}
	}
	registry.Lock()
	defer registry.Unlock()
	if known[v.Name()] != nil || knownBatch[v.Name()] != nil {
		return fmt.Errorf("there is a transform %q already", v.Name())
	}
	known[v.Name()] = t
	return nil
}

// Settings are the settings of a transform in their order, with their defaults; a
// required one has none (nil).
func Settings(name string) (names []string, defaults []any) {
	registry.RLock()
	defer registry.RUnlock()
	var t any = known[name]
	if known[name] == nil {
		t = knownBatch[name]
	}
	if t == nil {
		return nil, nil
	}
	v := reflect.ValueOf(t)
	names = settingsOf(v.Type())
	for i, setting := range names {
		if slices.Contains(required[name], setting) {
			defaults = append(defaults, nil)
		} else {
			defaults = append(defaults, v.Field(i).Interface())
		}
	}
	return names, defaults
}

// Parse reads a list such as
//
//	[{"name": "RandomCrop", "size": 32, "padding": 4}, {"name": "RandomHorizontalFlip"}]
//
// Names and settings are torchvision's. A name or a setting that is not known, that stands twice or makes no
// sense is an error that says where. The empty list does nothing.
func Parse(list []byte) (Compose, error) {
	c := Compose{}
	registry.RLock()
	all := maps.Clone(known) // a list may hold lists, which are parsed meanwhile
	registry.RUnlock()
	err := parse(list, "transform", all, func(t Transform) { c = append(c, t) })
	if err != nil {
		return nil, err
	}
	return c, nil
}

// UnmarshalJSON is Parse.
func (c *Compose) UnmarshalJSON(b []byte) (err error) {
	*c, err = Parse(b)
	return err
}

// MarshalJSON writes what Parse reads.
func (c Compose) MarshalJSON() ([]byte, error) {
	registry.RLock()
	defer registry.RUnlock()
	return write(c, known)
}

// BatchCompose applies transforms of batches one after the other.
type BatchCompose []BatchTransform

// ParseBatch reads a list such as
//
//	[{"name": "MixUp", "alpha": 0.2, "p": 0.5}]
func ParseBatch(list []byte) (BatchCompose, error) {
	c := BatchCompose{}
	err := parse(list, "batch transform", knownBatch, func(t BatchTransform) { c = append(c, t) })
	if err != nil {
		return nil, err
	}
	return c, nil
}

// UnmarshalJSON is ParseBatch.
func (c *BatchCompose) UnmarshalJSON(b []byte) (err error) {
	*c, err = ParseBatch(b)
	return err
}

// MarshalJSON writes what ParseBatch reads.
func (c BatchCompose) MarshalJSON() ([]byte, error) { return write(c, knownBatch) }

// field is a member of a JSON object.
type field struct {
	name  string
	value json.RawMessage
}

func parse[T any](list []byte, what string, known map[string]T, add func(T)) error {
	if !json.Valid(list) {
		var v any
		return fmt.Errorf("%ss: %w", what, json.Unmarshal(list, &v))
	}
	var items []json.RawMessage
	if err := json.Unmarshal(list, &items); err != nil || items == nil {
		return fmt.Errorf("%ss: a list of objects is wanted, not %.40s", what, list)
	}
	for i, item := range items {
		fields, err := members(item)
		if err != nil {
			return fmt.Errorf("%s %d: %w", what, i, err)
		}
		at := slices.IndexFunc(fields, func(f field) bool { return f.name == "name" })
		if at < 0 {
			return fmt.Errorf("%s %d: no name", what, i)
		}
		var name string
		if err := json.Unmarshal(fields[at].value, &name); err != nil {
			return fmt.Errorf("%s %d: name %s: a string is wanted", what, i, fields[at].value)
		}
		defaults, ok := known[name]
		if !ok {
			return fmt.Errorf("%s %d: %s", what, i, unknown(name))
		}
		t, err := fill(defaults, name, slices.Delete(fields, at, at+1))
		if err != nil {
			return fmt.Errorf("%s %d, %s: %w", what, i, name, err)
		}
		add(t)
	}
	return nil
}

// unknown helps with names that stand elsewhere.
func unknown(name string) string {
	switch {
	case name == "Normalize" || name == "ToTensor":
		return fmt.Sprintf("%q is not for a list: every image is normalised after it, with the data set's mean and std", name)
	case knownBatch[name] != nil:
		return fmt.Sprintf("%q mixes batches: it stands in the list of batch transforms", name)
	case known[name] != nil:
		return fmt.Sprintf("%q changes single images: it stands in the list of transforms", name)
	}
	return fmt.Sprintf("no %q is known; there are %s", name, strings.Join(Names(), ", "))
}

// members takes an object apart, in order, and refuses a name that stands twice.
func members(object []byte) ([]field, error) {
	d := json.NewDecoder(bytes.NewReader(object))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("an object with a name is wanted, not %.40s", object)
	}
	var fields []field
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		f := field{name: t.(string)}
		if err := d.Decode(&f.value); err != nil && err != io.EOF {
			return nil, err
		}
		if slices.ContainsFunc(fields, func(g field) bool { return g.name == f.name }) {
			return nil, fmt.Errorf("%q stands twice", f.name)
		}
		fields = append(fields, f)
	}
	return fields, nil
}

// fill sets the fields of a copy of the defaults.
func fill[T any](defaults T, name string, fields []field) (T, error) {
	v := reflect.New(reflect.TypeOf(defaults)).Elem()
	v.Set(reflect.ValueOf(defaults))
	settings := settingsOf(v.Type())
	for _, f := range fields {
		i := slices.Index(settings, f.name)
		if i < 0 {
			return defaults, fmt.Errorf("no setting %q is known; there are %s", f.name,
				strings.Join(settings, ", "))
		}
		if bytes.Equal(f.value, []byte("null")) {
			return defaults, fmt.Errorf("%s is null", f.name)
		}
		if err := json.Unmarshal(f.value, v.Field(i).Addr().Interface()); err != nil {
			if _, ok := err.(*json.UnmarshalTypeError); ok {
				err = fmt.Errorf("%s where %s is wanted", f.value, kinds[v.Field(i).Kind()])
			}
			return defaults, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	for _, r := range required[name] {
		if !slices.ContainsFunc(fields, func(f field) bool { return f.name == r }) {
			return defaults, fmt.Errorf("%s is missing", r)
		}
	}
	t := v.Interface().(T)
	return t, checked(t)
}

// checked asks a transform whether its settings make sense.
func checked(t any) error {
	switch t := t.(type) {
	case checker:
		return t.check()
	case Checker:
		return t.Check()
	}
	return nil
}

// kinds are the settings that are no list, in words.
var kinds = map[reflect.Kind]string{reflect.Int: "a whole number", reflect.Float64: "a number",
	reflect.Bool:   "true or false",
	reflect.String: "a string"}

// settingsOf are the names of a transform's settings, in the order of its fields.
func settingsOf(t reflect.Type) []string {
	names := make([]string, t.NumField())
	for i := range names {
		names[i], _, _ = strings.Cut(t.Field(i).Tag.Get("json"), ",")
	}
	return names
}

func write[T any](ts []T, known map[string]T) ([]byte, error) {
	b := []byte{'['}
	for i, t := range ts {
		if i > 0 {
			b = append(b, ',')
		}
		if d, ok := known[nameOf(t)]; !ok || reflect.TypeOf(d) != reflect.TypeOf(t) {
			return nil, fmt.Errorf("transform %d: a %T has no name in JSON: Register gives it one", i, t)
		}
		settings, err := json.Marshal(t)
		if err != nil {
			return nil, err
		}
		b = fmt.Appendf(b, `{"name":%q`, nameOf(t))
		if len(settings) > 2 {
			b = append(b, ',')
		}
		b = append(b, settings[1:]...)
	}
	return append(b, ']'), nil
}
