// Package ops is the operator registry: one file per family, in which each operator declares its versions,
// inputs, attributes, shape inference, reference kernel, gradient and numeric tolerance.
//
// # Glossary
//
//   - definition: everything known of an operator (Def); its versions are the opsets
//     at which ONNX changed it.
//   - reference kernel: Eval, plain Go over the element types of the schema, correct before fast. The engine
//     replaces it by a float32 fast path where it has one.
//   - storage type: an element type that no kernel computes in, as the halves, float8, int4 and
//     strings. Cast and the quantizers convert it, data movers copy it; moving makes a mover of whole
//     bytes serve types without any.
//   - level: a quantized number, which stands for scale * (level - zero point).
//   - gradient table: the Grad functions. Each gets the names of the gradients of a node's outputs and
//     emits nodes that compute those of its inputs, so the backward pass is graph too, and passes
//     through the same compiler.
//
// Besides those of ai.onnx there are operators of TrainingDomain, of ContribDomain, which ONNX Runtime's
// quantizer and optimizer write, and of GradDomain. OPERATORS.md lists those of ai.onnx and of ContribDomain.
//
// # Adding an elementwise operator
//
// A function of one element is a row of the table in activations.go: its name and versions, f and its
// derivative in float64, and its kernel. That is all; registration, inference, both reference kernels and the
// gradient follow from the row (activation.go), blocked maps, fusion into convolutions and the fast paths of
// both directions from Def.Map (paths_elementwise.go of package engine). The kernel is one of
//
//   - a function that package kernels has, with parameters: Celu is FuncElu with others than Elu's;
//   - an expression of such functions, kernels.Expression, whose gradient is the chain rule: phish_test.go
//     adds x*tanh(gelu(x)) that way, and TestAddedOperator trains a network with it at every level;
//   - a routine of its own where it is worth one: a row in _gen/elementwise.go, a constant in function.go and
//     the twin in function_twins.go of package kernels.
//
// Shapes are written [N,C,H,W].
package ops

//go:generate go run ./optable -o OPERATORS.md
