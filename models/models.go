// Package models holds trained models, each in a folder: model.onnx, unless it is large, a card with its figure
// and how it was trained, the run's recipe and history. Programs open them by path; a clone of the repository
// has them.
package models
