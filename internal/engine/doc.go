// Package engine compiles an ONNX graph with concrete input shapes into a Plan: a flat list of steps over one
// preallocated arena, run by a pool of workers. The same compiler serves inference and training; a training run is a
// longer graph (forward, loss, gradients) whose plan ends in the optimiser's update. Large parameters are updated as soon
// as their gradient is there; that of a large fully connected layer is computed and used up slab by slab.
//
// # Passes
//
// One file each, in this order: import, infer, simplify, differentiate (training), fuse, layout, lower (which chooses
// each operator's kernel), allocate. What they work on is the graph of graph.go.
//
// # Layouts
//
// A value is plain (row-major, any element type) or blocked ([N][C/16][H][W][16] float32 with a zero halo, see package
// kernels). Operators over feature maps work on blocked values; conversions stand only where the graph enters, leaves
// or flattens. A convolution's weights are packed: once for constants, for good for trained parameters, whose optimiser
// state is packed with them.
//
// # Determinism
//
// Steps are cut into chunks that do not depend on the number of threads, and partial sums are combined in a fixed
// order, so any number of threads gives the same bits at one kernel level.
package engine
