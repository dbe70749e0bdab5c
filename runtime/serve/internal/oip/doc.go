// Package oip holds the messages and the gRPC service of the Open Inference Protocol, version 2, with the
// numbers that Triton and KServe give its fields. The protobuf package is "inference", as clients ask for it:
// a program that links another Go rendering of the same protocol cannot link this one too.
package oip

//go:generate go -C _gen run .
