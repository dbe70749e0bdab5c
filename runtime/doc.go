// Package runtime runs ONNX models: a Session over one of three engines.
//
//   - Native: this module's own engine
//   - ORT: ONNX Runtime, on the CPU or through its CUDA execution provider (package runtime/ort)
//   - OnnxGo: github.com/owulveryck/onnx-go, an independent witness (package runtime/onnxgo)
//
// Inputs and outputs go by name; shapes are [N,C,H,W] for images, with any batch size N. A Session is safe for
// concurrent use.
package runtime
