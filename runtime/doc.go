// Package runtime runs ONNX models: a Session over one of three engines.
//
//   - Native: this module's own engine
//   - ORT: ONNX Runtime, on the CPU or through its CUDA execution provider, of
//     programs that import runtime/ort
//   - OnnxGo: github.com/owulveryck/onnx-go, an independent witness, of programs that import runtime/onnxgo
//
// A program that imports neither links no C and nothing of theirs:
//
//	import (
//		"github.com/cnnkit/cnnkit/runtime"
//		_ "github.com/cnnkit/cnnkit/runtime/ort" // registers ONNX Runtime
//	)
//
// Inputs and outputs go by name; shapes are [N,C,H,W] for images, with any batch size N. A Session
// is safe for concurrent use.
//
// Weights are read into memory, external data too, and never mapped: whoever shortens a mapped file
// ends every process that reads it with SIGBUS, which Go cannot turn into an error. The native
// engine packs them into the form that its kernels read, so a mapping would save the copy of the
// file and not that of the kernels.
package runtime
