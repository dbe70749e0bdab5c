//go:build !mpi || !cgo || !unix

package mpi

import "github.com/cnnkit/cnnkit/train"

// Open fails with ErrNotBuilt.
func Open() (train.Comm, error) { return nil, ErrNotBuilt }
