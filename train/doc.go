// Package train trains ONNX models.
//
// A training run is a graph: the model with BatchNormalization and Dropout in training mode, and a loss made of ONNX
// operators (TrainingGraph). The engine differentiates it and applies the optimiser (SGD, Adam, AdamW, by PyTorch's exact
// rules). Run loops over epochs, validates, and keeps the last and the best model, a history and its plot.
//
// Inputs are [N,C,H,W] float32; targets are [N] int64 class numbers, or for bce-with-logits masks of the output's shape.
// The same configuration and seed give the same bits, whatever the number of threads.
package train
