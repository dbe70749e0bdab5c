// Package convert exchanges weights with PyTorch: state dicts in .pt and .pth files (torch.save's zip format and its
// legacy one) and in .safetensors, read and written without Python.
//
// A model's initializers are its state dict: the name of an initializer is PyTorch's key ("layer1.0.conv1.weight"),
// its shape PyTorch's ([O,I,kH,kW] for Conv, [I,O,kH,kW] for ConvTranspose, [out,in] for Linear). So Apply and
// FromModel rename nothing.
//
// Files are hostile until proven otherwise. A pickle is run by a machine that knows a few opcodes and a short list of
// names and can construct or call nothing; every length is checked against the bytes that remain; sizes, strides and
// offsets must stay inside their storage. Errors are *onnxio.FormatError, *onnxio.UnsupportedError and
// *onnxio.LimitError. Functions may be called concurrently; a StateDict must not be changed while another goroutine
// uses it.
package convert
