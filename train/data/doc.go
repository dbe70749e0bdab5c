// Package data reads labelled images and images with masks, and serves them in batches.
//
// Open finds a data set by a word: names are looked up under CNNKIT_DATA and then in the user's cache folder,
// "mnist" is part of a program that imports package mnist, and images:DIR, masks:IMAGES,MASKS and csv:FILE
// are folders and tables of one's own. Splits pairs what to train on with what to validate on. CIFAR is read
// in its binary form, as Python's pickles (nothing of which is executed) or as folders of images.
//
// A Dataset fills float32 inputs [N,C,H,W] and targets from indices; NewBatch makes both. A Source, which
// every set that Open gives is, also has its samples before normalisation, [C,H,W] of 8 bits. Take, Split,
// KFold and ClassWeights work on any of them by its labels; a Sampler draws samples by weights (WithWeights,
// BalancedWeights). A Loader makes batches on several goroutines ahead of the steps that take them, and
// applies transforms; the batches are the same whatever the number of goroutines.
//
// Get fetches the sets that can be fetched, and Verify compares their files with the known hashes.
//
// Decoders check every length against the bytes there are before they allocate, and errors name the file.
package data
