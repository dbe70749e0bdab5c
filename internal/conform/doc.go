// Package conform runs the conformance cases of the ONNX project against this module's engines.
//
// A Suite is a folder of cases: a model, inputs and right outputs each. An Engine runs one case through
// package runtime, as a user's program would, or asks another question of it: whether inferred shapes are the
// declared ones, whether the file survives being written and read. Gaps are the cases that an engine is known
// to fail, each with its reason. They are exact: a case that fails without being a gap is a fault, and so is
// a gap that passes, which has to leave the list.
//
//	CNNKIT_ONNX_SUITE=/path/to/suite go test ./internal/conform            holds the engines to their gaps, prints a table
//	CNNKIT_ONNX_SUITE=/path/to/suite go test ./internal/conform -update    writes the gaps anew, keeping known reasons
//
// What always holds: results are compared by ONNX's own rule, |got - want| <= 1e-7 + 1e-3 |want|, with the
// same shape and element type; NaN equals NaN; strings, integers and bools are equal.
package conform
