// Package vision brings images to a model and its answers back: it decodes files within limits, prepares the
// input [N,C,H,W] as the model's metadata says, ranks classes, and draws masks.
package vision
