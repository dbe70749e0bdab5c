// Package ops is the operator registry: one file per family, in which each operator declares its versions, inputs,
// attributes, shape inference, reference kernel, gradient and numeric tolerance.
//
// # Glossary
//
//   - definition: everything known of an operator (Def); its versions are the opsets at which ONNX changed it.
//   - reference kernel: Eval, plain Go over the element types of the schema, correct before fast. The engine replaces
//     it by a float32 fast path where it has one.
//   - storage type: an element type that no kernel computes in, as the halves, float8, int4 and strings. Cast and the
//     quantizers convert it, data movers copy it; moving makes a mover of whole bytes serve types without any.
//   - level: a quantized number, which stands for scale * (level - zero point).
//   - gradient table: the Grad functions. Each gets the names of the gradients of a node's outputs and emits nodes
//     that compute those of its inputs, so the backward pass is graph too, and passes through the same compiler.
//
// Besides those of ai.onnx there are operators of TrainingDomain, of ContribDomain, which ONNX Runtime's quantizer and
// optimizer write, and of GradDomain. OPERATORS.md lists those of ai.onnx and of ContribDomain.
//
// Shapes are written [N,C,H,W].
package ops

//go:generate go run ./optable -o OPERATORS.md
