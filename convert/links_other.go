//go:build !unix

package convert

import "io/fs"

// linkCount is how many names the file has; the file's information does not say here.
func linkCount(fs.FileInfo) uint64 { return 1 }
