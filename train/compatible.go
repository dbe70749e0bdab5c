package train

import (
	"fmt"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/spec"
	"github.com/cnnkit/cnnkit/train/data"
)

// compatible compares the data with the model's input and output.
func (r *run) compatible() error {
	if len(r.model.Graph.Inputs) == 0 || len(r.model.Graph.Outputs) == 0 {
		return fmt.Errorf("the model has no input or no output")
	}
	in, shape := r.model.Graph.Inputs[0], r.splits.Train.Shape()
	dims := in.Type.Shape
	if len(dims) != 4 {
		return fmt.Errorf("the model's input %q is no image [N,C,H,W]", in.Name)
	}
	if s, err := spec.Get(r.model); err == nil && s.Input.Type != "float32" {
		return &onnxio.UnsupportedError{Op: "training", Node: in.Name, Reason: "images of " + s.Input.Type +
			": float32 is trained; export the model so"}
	}
	r.takes = formOf(r.model)
	sides := dims[1:] // C,H,W
	if r.takes.Layout == spec.NHWC {
		sides = []onnxio.Dim{dims[3], dims[1], dims[2]}
	}
	for i, d := range sides {
		if d.Known() && d.Value != int64(shape[i]) {
			return fmt.Errorf("data set %s has images of %dx%dx%d, the model takes %dx%dx%d: build it with --input %dx%dx%d",
				r.splits.Name, shape[0], shape[1], shape[2], sides[0].Value, sides[1].Value, sides[2].Value,
				shape[0], shape[1], shape[2])
		}
	}
	out, classes := r.model.Graph.Outputs[0], len(r.splits.Train.Classes())
	if s := out.Type.Shape; len(s) == 2 && s[1].Known() && s[1].Value < int64(classes) {
		return fmt.Errorf("data set %s has %d classes, the model %d outputs: build it with --classes %d",
			r.splits.Name, classes, s[1].Value, classes)
	}
	if r.splits.Train.Len() == 0 || r.splits.Validation.Len() == 0 {
		return fmt.Errorf("data set %s has %d images to train on and %d to validate on", r.splits.Name,
			r.splits.Train.Len(), r.splits.Validation.Len())
	}
	return nil
}

// targets compares the data set's targets with those that the loss takes.
func (r *run) targets() error {
	loss, width := r.loss.Name, data.Width(r.splits.Train)
	pixels := r.kind.masks || r.kind.maps
	switch has := data.Masked(r.splits.Train); {
	case width > 0 && !r.kind.values:
		return fmt.Errorf("loss %s needs class labels, and data set %s has numbers: use bce-with-logits for several labels, mse, l1 or huber for values", loss, r.splits.Name)
	case r.kind.soft && has:
		return fmt.Errorf("loss %s needs class labels, and data set %s has masks", loss, r.splits.Name)
	case pixels && !has:
		return fmt.Errorf("loss %s needs masks, and data set %s has class labels", loss, r.splits.Name)
	case !pixels && has:
		return fmt.Errorf("data set %s has masks, and the model gives one answer for an image", r.splits.Name)
	}
	out, classes := r.channelsFirst(r.model).Graph.Outputs[0].Type.Shape, len(r.splits.Train.Classes())
	if r.kind.values && (len(out) != 2 || out[1].Known() && out[1].Value != int64(width)) {
		return fmt.Errorf("loss %s: data set %s has %d numbers an image, the model's output is %v: build it with --classes %d", loss, r.splits.Name, width, out, width)
	}
	if r.kind.soft && len(out) == 2 && out[1].Value != int64(classes) {
		return fmt.Errorf("loss %s: data set %s has %d classes, the model %d outputs: build it with --classes %d", loss, r.splits.Name, classes, out[1].Value, classes)
	}
	if r.kind.masks && len(out) == 4 && out[1].Known() && out[1].Value != 1 {
		return fmt.Errorf("loss %s takes one channel of logits, the model has %d: build it with --classes 1, or use cross-entropy", loss, out[1].Value)
	}
	return nil
}

// describe records in the model what is needed to predict with it.
func (r *run) describe() {
	shape := r.splits.Train.Shape()
	s, err := spec.Infer(r.model)
	if err != nil { // of a type that compatible lets through and no file can be made into
		return
	}
	said, err := spec.Get(r.model)
	s.Input = spec.Input{Layout: r.takes.Layout, Size: [2]int{shape[1], shape[2]}, Channels: shape[0],
		Mean: r.splits.Mean, Std: r.splits.Std, Resize: "bilinear"}
	if err == nil && said.Input.Shorter > 0 && said.Input.Size == s.Input.Size {
		s.Input.Shorter, s.Input.Resize = said.Input.Shorter, said.Input.Resize
	}
	s.Labels = r.splits.Train.Classes()
	switch {
	case r.kind.several:
		s.Output.Task, s.Output.Thresholds = spec.MultiLabel, r.cfg.Thresholds.Each
	case r.kind.values:
		s.Output.Task = spec.Number
	}
	spec.Set(r.model, s)
}
