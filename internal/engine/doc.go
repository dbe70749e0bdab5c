// Package engine compiles ONNX graphs and runs them. The same compiler serves inference and training; a
// training run is a longer graph (forward, loss, gradients) whose plan ends in the optimiser's update.
//
//	onnxio.Model --import--> graph --passes--> Program --bind shapes--> Plan --run--> tensors
//
// # From a model to its answer
//
// A Program is a model compiled as far as that goes without shapes: functions inlined, constants folded, what
// exporters spell out recognized. When shapes turn up, a copy of its graph gets them, and becomes a Plan: a
// flat list of steps over one arena, in which nothing is allocated while it runs. A Lane holds an arena and
// the plans that live in it; it serves one Run at a time.
//
// Shapes that follow from data (NonZero, NonMaxSuppression, Reshape by a computed shape) and control flow
// (If, Loop, Scan) are islands: their ops run one by one on reference kernels, between the plans of what
// shapes alone decide. See Program.Run.
//
// # Passes
//
// One file each, in the order of passes.go. A Conv, its BatchNormalization, a Relu and a MaxPool
// of [2,3,16,16] after each (testdata/passes has the full text; `cnnkit inspect MODEL
// --plan=PASS` prints that of a model):
//
//	import     Conv <- input[2,3,16,16] w= b= -> y; BatchNormalization <- y ... -> z; Relu <- z -> r; MaxPool <- r -> p[2,16,8,8]
//	simplify   Conv <- input[2,3,16,16] folded-w= folded-b= -> z; Relu <- z -> r; MaxPool <- r -> p
//	recognize  the same
//	integers   the same: nothing stands between DequantizeLinear and QuantizeLinear
//	fuse       Conv <- input ... -> r +relu; MaxPool <- r -> p
//	layout     ToBlocked <- input -> x/c3h1; Conv <- x/c3h1 ... -> r/c16h0 +relu; MaxPool <- r/c16h0 -> p/c16h0; ToPlain <- p -> ...
//
// Training differentiates after simplify and does not recognize. Lowering then gives each op its
// steps, by its row of the table in paths.go or else by its reference kernel, and allocation
// places buffers in the arena.
//
// # Forms
//
// A value is plain (row-major, any element type), blocked ([N][C/16][H][W][16] float32 with a zero halo, see
// package kernels) or in lines (bf16 in blocks of 32 channels, where Options.BF16 allows it; bytes in blocks
// of 64, or 4 for a few channels, in quantized models). Operators over feature maps work on blocks;
// conversions stand only where the graph enters, leaves or flattens. In training in bf16 a line of a map of
// 16 channels may hold two pixels of a row (fold.go). A convolution's weights are packed: once for constants,
// for good for trained parameters, whose optimiser state is packed with them.
//
// # Bytes
//
// QLinearConv and its kind run on bytes in lines, requantized in the kernel that sums. Where the processor
// has kernels of bytes, the pass integers writes those operators for what stands between DequantizeLinear and
// QuantizeLinear (a Conv becomes QLinearConv, HardSwish a Table of 256 bytes), as ONNX Runtime does. Where
// the file sums in float32, an op's result may be a step away from the file's, which later ops pass on. The
// halo of a map of bytes holds the zero point of the convolutions that read it (value.zero). With Reference
// the graph stays as it is.
//
// # Portions
//
// Where the maps of a whole batch do not stay in the second-level cache and those of few images do, a stretch
// of ops runs in portions of the batch: a thread takes some images through all of them, then the next, in
// memory of its own (portions.go). The stretch is the one that saves the most bytes from and to far, less
// the weights that each portion reads again. Algorithms are chosen for the batch, so that portions change no
// bit.
//
// # Several processes
//
// With TrainOptions.Exchange the gradients of a joint batch are sums over processes. They are gathered
// in buckets behind the op that completes one, and handed over; the update waits for all (exchange.go).
// The order of the buckets is that of the backward pass as differentiate writes it, so that it is the
// same for every part's size.
//
// # What always holds
//
//   - Edges are values. The names that an op's node has are those of the file, for messages.
//   - What a pass leaves computes the same outputs; verify.go says what else it leaves, and tests
//     check it after each pass.
//   - Halos and lanes past the last channel are zero; of bytes halos are value.zero,
//     and those lanes anything.
//   - Steps are cut into chunks that do not depend on the number of threads, and partial sums are combined in
//     a fixed order: any number of threads gives the same bits at one kernel level.
//   - A size that is allocated was checked in int64 against Options.MaxBytes.
//   - A panic ends one call: Recover makes a FaultError of it.
package engine
