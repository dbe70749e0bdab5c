// Package onnxio is ONNX in memory and on the wire: models, graphs, nodes and tensors as plain Go types, and
// reading and writing them.
//
//	m, err := onnxio.Load("resnet18.onnx")     // external data included
//	err = onnxio.Save("copy.onnx", m)          // atomic; the same model gives the same bytes
//
// Every part of a ModelProto has its place in Model: functions, subgraphs in attributes, sparse and
// quantised tensors, every element type, metadata, and fields of a newer schema, which are written
// back as they were read. What is in the file and not in the types is only whether a field with its
// default value was spelled out.
//
// # Tensors
//
// Shapes are written [N,C,H,W], row-major. Whichever field of TensorProto held the elements, Tensor.Raw holds
// them as little-endian bytes, aligned, and Data views them as a Go slice without a copy. This package runs
// on little-endian machines, which are all that Go supports ONNX-sized work on.
//
// # Input from outside
//
// A file is checked before anything is made of it: lengths against the bytes that remain, nesting, wire
// types, and the memory that decoding would take, which is at most twice the file's size and what Limits
// grants on top. External data is only read from regular files below the model's folder. Errors are
// *FormatError, *UnsupportedError and *LimitError, and say where. Package check tells whether what was
// read is a sensible graph.
//
// Functions may be called from several goroutines; a Model or Tensor that one of them changes may
// not be in use by another.
package onnxio
