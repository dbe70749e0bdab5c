// Package onnxpb is ONNX on the wire: the Go code that protoc-gen-go makes of cnnkit/onnx.proto.
//
// Regenerating needs a protobuf compiler (the package protobuf-compiler of most systems) and the plugin of the
// version that go.mod pins:
//
//	go install google.golang.org/protobuf/cmd/protoc-gen-go
package onnxpb

//go:generate protoc --go_out=. --go_opt=module=github.com/cnnkit/cnnkit/onnxio/internal/onnxpb cnnkit/onnx.proto
