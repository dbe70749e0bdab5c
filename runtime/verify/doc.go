// Package verify compares engines: the outputs of several sessions on the same inputs, each pair of them,
// and, node by node, every value inside a model on the native engine and on ONNX Runtime.
//
// A difference counts when it is above the tolerance, relative to the largest number of the
// tensor where that is above
// 1. Outputs [N,classes] are compared by label too: the class with the largest value of each row.
package verify
