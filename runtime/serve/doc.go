// Package serve answers requests to models over HTTP and gRPC: the Open Inference Protocol, version 2,
// which KServe and Triton speak, with the extensions for binary tensors, statistics, classification
// and the model repository.
//
// A request goes through these hands:
//
//	decodeRequest, requestOf   bytes to tensors, within the limits of the options
//	model.accepts              names, types and shapes against the model's
//	queue                      by priority; refused at once where it is full
//	model.work                 jobs of equal shapes as one batch [N,...], each other alone
//	model.encode, message      tensors to bytes
//
// What always holds:
//
//   - a request that is answered with 200 was computed by the engine as if it had run alone, to rounding:
//     requests share a run only where the model's shapes have a free batch and a trial has shown that rows
//     do not depend on each other
//   - a request that fails fails alone
//   - nothing is allocated by a length that a client announces, only by what has come; requests count
//     from their first byte on, answers while they are written and sent, and what is too much is refused
//   - a model is replaced without a request noticing: those that it has taken end on it
package serve
