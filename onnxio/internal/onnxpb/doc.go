// Package onnxpb is ONNX on the wire: the Go code that protoc-gen-go makes of cnnkit/onnx.proto.
//
// go generate needs nothing but Go: the generator in _gen, a module of its own so that users never download
// it, parses the .proto and calls protoc-gen-go's code. A protoc with that plugin gives the same file but for
// the line that names its version.
package onnxpb

//go:generate go -C _gen run .
