// Package mnist embeds the MNIST database of handwritten digits: 60,000 training and 10,000 test images of
// 28x28 grey pixels, in the four original gzip files (12 MB).
//
// MNIST is by Yann LeCun, Corinna Cortes and Christopher J.C. Burges, derived from NIST's special databases 1
// and 3, and is commonly stated to be available under the Creative Commons Attribution-ShareAlike 3.0
// licence. A program that imports this package carries the data, which package data then opens as "mnist":
//
//	import _ "github.com/cnnkit/cnnkit/train/data/mnist"
package mnist

import (
	"embed"
	"io/fs"

	"github.com/cnnkit/cnnkit/train/data"
)

// Files holds train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz and
// t10k-labels-idx1-ubyte.gz under "files".
//
//go:embed files/*.gz
var Files embed.FS

func init() {
	files, err := fs.Sub(Files, "files")
	if err != nil { // of a name that is none
		panic(err)
	}
	data.EmbedMNIST(files)
}
