// Package rewrite changes ONNX graphs into others that say the same: simplified, cut out,
// renamed, in another operator set.
//
// Every function leaves its model as it is and gives a new one, which shares tensors with it. What cannot be
// done without changing what the model computes is an error that names the node.
package rewrite
