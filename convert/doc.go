// Package convert exchanges weights with PyTorch: state dicts in .pt and .pth files (torch.save's zip format
// and its legacy one) and in .safetensors, read and written without Python.
//
// A model's initializers are its state dict: the name of an initializer is PyTorch's key
// ("layer1.0.conv1.weight"), its shape PyTorch's ([O,I,kH,kW] for Conv, [I,O,kH,kW] for ConvTranspose,
// [out,in] for Linear). So Apply and FromModel rename nothing.
//
// Load tells a file's kind from its content. Of a checkpoint it takes the state dict: the only one, or the
// one that LoadKey names. Of a module that was saved whole it takes the tensors under the keys that
// state_dict() would give them. Sparse tensors become dense and quantized ones float32; StateDict.Notes says
// so. Apply finds the model's names for the file's keys: it takes off prefixes and renames by a KeyMap.
//
// Files are hostile until proven otherwise. A pickle is run by a machine that knows a few opcodes and a short
// list of names and can construct or call nothing; an object of any other name is opaque, and an error where
// a tensor must be. Every length is checked against the bytes that remain; sizes, strides and offsets must
// stay inside their storage. Errors are *onnxio.FormatError, *onnxio.UnsupportedError and *onnxio.LimitError.
// Functions may be called concurrently; a StateDict must not be changed while another goroutine uses it.
package convert
