package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime"
	"github.com/cnnkit/cnnkit/train/mpi"
)

// The exit codes; `cnnkit --help` lists them.
const (
	exitDone        = 0
	exitNo          = 1
	exitUsage       = 2
	exitBadFile     = 3
	exitMissing     = 4
	exitInterrupted = 130
)

// errNo says that the work was done and the answer is no; what there is to say has been printed.
var errNo = errors.New("no")

// usage is an error of how the program was called.
type usage struct{ error }

func usageError(format string, args ...any) error { return usage{fmt.Errorf(format, args...)} }

func (u usage) Unwrap() error { return u.error }

// badFile marks an error as that of an input file.
type badFile struct{ error }

func (b badFile) Unwrap() error { return b.error }

// badOutput marks an error as one of writing, whatever its cause.
type badOutput struct{ error }

func (b badOutput) Unwrap() error { return b.error }

// saved marks the error of writing a file, when there is one.
func saved(err error) error {
	if err == nil {
		return nil
	}
	return badOutput{err}
}

// hinted carries what to do next.
type hinted struct {
	error
	do string
}

func (h hinted) Unwrap() error { return h.error }

func hint(err error) string {
	var h hinted
	if errors.As(err, &h) {
		return h.do
	}
	return ""
}

func exitCode(ctx context.Context, err error) int {
	var (
		u           usage
		bad         badFile
		out         badOutput
		format      *onnxio.FormatError
		unsupported *onnxio.UnsupportedError
		limit       *onnxio.LimitError
		missing     *runtime.MissingError
	)
	switch {
	case errors.Is(err, errNo):
		return exitNo
	case errors.As(err, &u):
		return exitUsage
	case errors.As(err, &missing), errors.Is(err, mpi.ErrNotBuilt):
		return exitMissing
	case isLost(err):
		return exitNo
	case errors.As(err, &out):
		return exitNo
	case errors.Is(err, context.Canceled) || ctx.Err() != nil:
		return exitInterrupted
	case errors.As(err, &bad), errors.As(err, &format), errors.As(err, &unsupported), errors.As(err,
		&limit), errors.Is(err, fs.ErrNotExist):
		return exitBadFile
	}
	return exitNo
}
