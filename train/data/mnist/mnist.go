// Package mnist embeds the MNIST database of handwritten digits: 60,000 training and 10,000 test images of 28x28 grey
// pixels, in the four original gzip files (12 MB).
//
// MNIST is by Yann LeCun, Corinna Cortes and Christopher J.C. Burges, derived from NIST's special databases 1 and 3,
// and is commonly stated to be available under the Creative Commons Attribution-ShareAlike 3.0 licence. A program that
// imports this package carries the data; package data reads it.
package mnist

import "embed"

// Files holds train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz and
// t10k-labels-idx1-ubyte.gz under "files".
//
//go:embed files/*.gz
var Files embed.FS
