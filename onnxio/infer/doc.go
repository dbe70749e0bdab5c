// Package infer works out the types and shapes of a model's values, with symbolic dimensions where the inputs
// have them: a Conv of stride 2 on [N,3,32,32] gives [N,16,16,16] for every batch size N.
//
// Operators declare their own inference (package internal/ops). Small integer vectors are followed through
// Shape, Gather, Concat and Slice, so that a Reshape whose target is computed is known as well. What cannot
// be known is left unknown, which is no error; a node that contradicts its inputs is, and the error names it.
// Operators and domains that are not known here are foreign: their outputs are what value_info says.
//
// Shapes are written [N,C,H,W].
package infer
