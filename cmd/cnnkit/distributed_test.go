package main

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/train/mpi"
)

// A program that was built without MPI says how to build it with; what several processes cannot do is
// refused before they connect.
func TestDistributed(t *testing.T) {
	if _, err := mpi.Open(); !errors.Is(err, mpi.ErrNotBuilt) {
		t.Skip("built with MPI: package train/mpi tests that")
	}
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"without MPI": {[]string{"--distributed", "mpi"}, exitMissing,
			"CC=mpicc go build -tags mpi ./cmd/cnnkit"},
		"unknown": {[]string{"--distributed", "gloo"}, exitUsage, `no distribution "gloo": known are [mpi]`},
		"finding": {[]string{"--distributed", "mpi", "--find-lr"}, exitUsage,
			"--find-lr looks for a rate in one process"},
	} {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			r := cnnkit(t, append([]string{"train", "lenet5", "--data", "mnist", "--subset", "32", "--out",
				out}, c.args...)...)
			if r.code != c.code || !strings.Contains(r.err, c.says) {
				t.Errorf("exit code %d: %s", r.code, r.err)
			}
		})
	}
}
