// Package check says what is wrong with a model, all of it at once: its structure (names, single assignment,
// order, scopes of subgraphs, functions), its tensors, and every node against the definition of its operator.
//
// A model that passes can be given to a compiler or to ONNX Runtime without surprises: no name is dangling,
// no shape that stands in the file asks for more memory than there can be, and inlining its functions ends.
// Shapes of values in between are the business of package infer.
//
// Shapes are written [N,C,H,W]. Walks are iterative, so a deep or cyclic model is an
// error, never a stack overflow.
package check
