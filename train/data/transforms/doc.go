// Package transforms augments images, and the masks that belong to them, as torchvision.transforms does.
//
// Images are [C,H,W] uint8 with 1 or 3 channels, masks [H,W] uint8 (transforms that move pixels move the
// mask's alike, taking the nearest). Results are those of torchvision on PIL images, to the byte wherever PIL
// computes in whole numbers: resizing (with antialias), cropping, turning, colour. A list of transforms is
// data: Parse reads it from JSON with torchvision's names, Of makes it in Go.
//
// Nothing is drawn from a global source. Every Apply gets its *rand.Rand, and NewRand makes one for a
// sample from the run's seed, the epoch and the sample's index, so that the same run makes the same images
// with any number of workers.
//
// After the list, a Normalizer makes float32 of the image. MixUp and CutMix then work on a whole batch
// [N,C,H,W] and its soft targets [N,classes].
package transforms
