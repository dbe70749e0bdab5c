// Package quantize makes a model of bytes of one of float32: QuantizeLinear and DequantizeLinear
// around convolutions and matrix products, with scales that were found by running the model on images
// (static quantization, QDQ).
//
//	float32 model -> batch normalization folded, ranges of channels equalized -> Observe on images -> scales by Method
//	              -> weights in int8, biases corrected -> Gate: what does each layer gain, and what does it cost -> QDQ model
//
// Activations [N,C,H,W] are uint8 with a zero point, weights [O,C,KH,KW] int8 without, one scale
// for all outputs or one for each. The file runs in ONNX Runtime and in the native engine, which
// makes integer kernels of it.
//
// What rounding costs, training gets back. Options.Trainable leaves the weights in float32 before their
// QuantizeLinear: package train passes gradients through the rounding where nothing is clipped, and Finish
// makes bytes of what it learned. It does so for models that PyTorch's quantization-aware training exports,
// too.
//
// The gate runs both models on this machine. A layer that is slower in int8 stays float32; so does the layer
// that costs most, until the loss is small enough. A model that is slower altogether is refused: ErrSlower.
package quantize
