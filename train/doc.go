// Package train trains ONNX models.
//
// A training run is a graph: the model with BatchNormalization and Dropout in training mode, and a loss made
// of ONNX operators (TrainingGraph). The engine differentiates it and applies the optimiser: SGD, Adam,
// AdamW, RMSprop, Adagrad and Muon by PyTorch's rules, Lion, LARS and LAMB by their papers'. A Trainer makes
// single steps, for loops of one's own.
//
// Run is a loop over epochs: a Schedule moves the learning rate; the run validates, measures, and keeps the
// last and the best model, a history and its plot, and a Checkpoint. With Config.EMA or an SWA it is an
// average of the weights that is validated and kept. Recipe.FindLR looks for a learning rate.
//
// Config.Freeze keeps parameters and modules as they are, running statistics included. The frozen layers
// before the first trained one run as inference does, once for each image where CacheFeatures says so;
// Unfreeze trains them from an epoch on.
//
// Recipe.Open opens the data set that a recipe names. Batches of sets in memory are copied from there; where
// images are read from files, augmented (Config.Augment) or mixed (Config.Mix), a data.Loader makes the
// batches ahead of the steps. Config.Sampler draws the images of an epoch by weights, and
// Config.SampleWeights weighs their losses.
//
// A loss is ONNX nodes that RegisterLoss's function emits, or the graph of an .onnx file. RegisterMetric,
// RegisterOptimizer, transforms.Register and data.Register add the rest of what a recipe can name; Losses,
// Metrics, Optimizers and Schedules list it.
//
// All of a run is data: a Recipe, which is a JSON file whose fields are those of Recipe and Config.
// The same recipe gives the same bits, whatever the number of threads, and however often the run
// was interrupted and resumed.
//
// With a Comm (Config.Comm; package train/mpi has MPI's) several processes train one network: rank r of N has
// part r of each joint batch, and gradients are added up in buckets while the backward pass goes on. The run
// is that of one process with the joint batch, to rounding: orders, augmentation, mixing and Dropout are
// drawn by image. Config.SyncBN says whose statistics BatchNormalization takes. Rank 0 alone validates,
// writes and reports; train/mpi/SCALE.md says what to expect.
//
// Inputs are [N,C,H,W] float32. Targets are [N] int64 class numbers; where the data set has masks, [N,1,H,W]
// float32 for the losses of two classes and [N,H,W] int64 class numbers for cross-entropy. Mixed batches have
// [N,classes] float32, and so have targets that are numbers: 0 and 1 of several labels, or values.
package train
