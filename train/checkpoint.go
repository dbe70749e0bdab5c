package train

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/cnnkit/cnnkit/convert"
	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/onnxio"
)

// CheckpointFile is the name of a run's checkpoint in its folder.
const CheckpointFile = "checkpoint.safetensors"

// Checkpoint is a run at one moment: from it the run goes on to the same bits as if it had never stopped.
// The orders of the images and Dropout's draws depend on the seed and the position alone, so that they
// need no state of their own.
//
// As a file it is in safetensors form, written atomically: "state" is this struct as JSON, "model" the ONNX
// file with the weights, "slot/I/NAME" the optimiser's I-th state of parameter NAME, "gradient/NAME" a
// gradient gathered so far, "average/NAME" an average that the optimiser does not keep: with EMA of a running
// statistic, with SWA of a parameter.
type Checkpoint struct {
	Recipe  Recipe  `json:"recipe"`
	Ranks   int     `json:"ranks,omitzero"` // that had a batch of the recipe's each; 0: 1
	Samples int     `json:"samples"`        // in the data to train on
	Data    string  `json:"data,omitzero"`  // data.Digest of it
	Epoch   int     `json:"epoch"`          // in progress, from 1
	Step    int     `json:"step"`           // batches of it that are done
	Steps   int64   `json:"steps"`          // batches that are done in all
	Updates int64   `json:"updates"`        // the optimiser's
	Loss    float64 `json:"loss"`           // sum over the epoch's images so far
	Right   int     `json:"right"`          // right answers so far
	Counted int     `json:"counted"`        // of so many
	Seen    int     `json:"seen"`           // images so far
	Seconds float64 `json:"seconds"`        // of the epoch so far
	Images  int     `json:"images"`         // in the gathered gradients
	History []Epoch `json:"history"`
	Best    int     `json:"best"` // index in History
	Plateau Plateau `json:"plateau"`

	Averaged int `json:"averaged,omitzero"` // epochs in SWA's average
	Draws    int `json:"draws,omitzero"`    // drawsByImage; 0: by batch, as before

	model *onnxio.Model
	slots map[string][]*onnxio.Tensor
	sums  map[string]*onnxio.Tensor
	means map[string]*onnxio.Tensor
}

// drawsByImage says that what Dropout and stochastic depth draw depends on the image, not on its batch.
const drawsByImage = 1

// OtherDraws reports that a resumed run draws other numbers for Dropout and stochastic depth than the run would
// have: an earlier version drew them by batch.
func (c *Checkpoint) OtherDraws() bool {
	return c.Draws != drawsByImage && slices.ContainsFunc(c.model.Graph.Nodes, func(n *onnxio.Node) bool {
		d := ops.Lookup(n.Domain, n.OpType)
		return d != nil && d.Random
	})
}

// Model is the model as it was then; its weights are not to be changed.
func (c *Checkpoint) Model() *onnxio.Model { return withOwnInitializers(c.model) }

// capture copies the run's state.
func (r *run) capture() (*Checkpoint, error) {
	s, err := r.State()
	if err != nil {
		return nil, err
	}
	c := &Checkpoint{Recipe: r.recipe, Samples: r.splits.Train.Len(), Epoch: r.at, Step: r.done,
		Steps: s.steps, Updates: s.updates, Loss: r.lossSum,
		Right: r.right, Counted: r.counted, Seen: r.seen, Seconds: r.elapsed().Seconds(), Images: s.images,
		History: slices.Clone(r.result.History),
		Best:    r.result.Best, Plateau: r.plateau, model: s.weights, slots: s.slots, sums: s.sums,
		Averaged: r.averaged, Draws: drawsByImage, means: map[string]*onnxio.Tensor{}}
	if r.ranks != nil {
		c.Ranks = r.size()
	}
	if c.Data, err = r.digest(); err != nil {
		return nil, fmt.Errorf("data set %s: %w", r.splits.Name, err)
	}
	for name, mean := range r.means {
		c.means[name] = mean.Clone()
	}
	return c, nil
}

// restore puts the run where c was taken.
func (r *run) restore(c *Checkpoint) error {
	if n := r.splits.Train.Len(); c.Samples != n || c.Step > r.batches {
		return fmt.Errorf("the checkpoint was made with %d images to train on, and data set %s has %d",
			c.Samples, r.splits.Name, n)
	}
	if err := r.Restore(&State{steps: c.Steps, updates: c.Updates, rate: r.rate, weights: c.model,
		slots: c.slots, sums: c.sums, images: c.Images}); err != nil {
		return err
	}
	if err := r.restoreMeans(c); err != nil {
		return err
	}
	r.at, r.done, r.lossSum, r.right, r.counted, r.seen = c.Epoch, c.Step, c.Loss, c.Right, c.Counted, c.Seen
	r.spent, r.plateau = seconds(c.Seconds), c.Plateau
	r.result.History, r.result.Best = slices.Clone(c.History), c.Best
	return nil
}

// Save writes the checkpoint, atomically: when the disk is full, what was there before stays.
func (c *Checkpoint) Save(path string) error {
	state, err := json.Marshal(c)
	if err != nil {
		return err
	}
	model, err := onnxio.Encode(c.model)
	if err != nil {
		return err
	}
	sd := &convert.StateDict{}
	sd.Set("state", &onnxio.Tensor{Type: onnxio.Uint8, Dims: []int64{int64(len(state))}, Raw: state})
	sd.Set("model", &onnxio.Tensor{Type: onnxio.Uint8, Dims: []int64{int64(len(model))}, Raw: model})
	for _, name := range slices.Sorted(maps.Keys(c.slots)) {
		for k, slot := range c.slots[name] {
			sd.Set(fmt.Sprintf("slot/%d/%s", k, name), slot)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.sums)) {
		sd.Set("gradient/"+name, c.sums[name])
	}
	for _, name := range slices.Sorted(maps.Keys(c.means)) {
		sd.Set("average/"+name, c.means[name])
	}
	return onnxio.WriteFile(path, func(w io.Writer) error { return convert.WriteSafetensors(w, sd) })
}

// LoadCheckpoint reads a checkpoint, or that of a run's folder.
func LoadCheckpoint(path string) (*Checkpoint, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		file := filepath.Join(path, CheckpointFile)
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("folder %s holds no %s: no epoch was finished there: %w", path,
				CheckpointFile, err)
		}
		path = file
	}
	sd, err := convert.Load(path)
	if err != nil {
		return nil, err
	}
	bad := func(format string, args ...any) error {
		return &onnxio.FormatError{Format: "checkpoint", Where: path, Msg: fmt.Sprintf(format, args...)}
	}
	raw := map[string][]byte{}
	for _, name := range []string{"state", "model"} {
		t := sd.Get(name)
		if t == nil || t.Type != onnxio.Uint8 {
			return nil, bad("it has no %q", name)
		}
		raw[name] = t.Raw
	}
	c := &Checkpoint{slots: map[string][]*onnxio.Tensor{}, sums: map[string]*onnxio.Tensor{},
		means: map[string]*onnxio.Tensor{}}
	d := json.NewDecoder(bytes.NewReader(raw["state"]))
	d.DisallowUnknownFields()
	if err := d.Decode(c); err != nil {
		return nil, &onnxio.FormatError{Format: "checkpoint", Where: path, Msg: "state", Err: err}
	}
	if c.Epoch < 1 || c.Step < 0 || c.Steps < 0 || c.Updates < 0 || c.Images < 0 || c.Averaged < 0 ||
		c.Best < 0 || c.Best > max(0, len(c.History)-1) {
		return nil, bad("its position makes no sense: epoch %d, step %d", c.Epoch, c.Step)
	}
	if c.model, err = onnxio.Decode(bytes.NewReader(raw["model"]), int64(len(raw["model"])),
		onnxio.Limits{}); err != nil {
		return nil, err
	}
	for _, e := range sd.Entries() {
		if name, ok := cut(e.Name, "gradient/"); ok {
			c.sums[name] = e.Tensor
		}
		if name, ok := cut(e.Name, "average/"); ok {
			c.means[name] = e.Tensor
		}
	}
	for k := 0; ; k++ {
		found := false
		for _, e := range sd.Entries() {
			if name, ok := cut(e.Name, "slot/"+strconv.Itoa(k)+"/"); ok {
				c.slots[name], found = append(c.slots[name], e.Tensor), true
			}
		}
		if !found {
			return c, nil
		}
	}
}

func cut(s, prefix string) (string, bool) {
	if len(s) <= len(prefix) || s[:len(prefix)] != prefix {
		return "", false
	}
	return s[len(prefix):], true
}
