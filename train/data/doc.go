// Package data reads labelled images and serves them in batches.
//
// A Dataset fills float32 inputs [N,C,H,W] and targets from indices; Splits pairs the data to train on with the data to
// validate on. Open finds a data set by name: "mnist" is embedded in the program, others are looked up under CNNKIT_DATA
// and then in the user's cache folder.
//
// Decoders check every length against the bytes there are before they allocate.
package data
