// Package pickle reads Python's pickles as data: dicts, lists, tuples, numbers and strings, and what a
// caller's Rules make of the few names that its kind of file mentions. Objects of other names are refused, or
// Opaque where Rules.Opaque says so. Nothing is ever constructed, imported or called. It serves PyTorch's
// checkpoints (package convert) and the CIFAR sets (package train/data).
package pickle
