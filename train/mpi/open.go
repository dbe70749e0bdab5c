package mpi

import (
	"errors"
	"fmt"
	"os"
	"time"
)

// ErrNotBuilt says that the program was compiled without MPI, and how to compile it with.
var ErrNotBuilt = errors.New(
	"this program was built without MPI: install Open MPI or MPICH with its compiler mpicc " +
		"(Debian: apt-get install openmpi-bin libopenmpi-dev) and build it by CC=mpicc go build -tags mpi ./cmd/cnnkit")

// GraceVariable names the environment variable that sets Grace, as time.ParseDuration reads it.
const GraceVariable = "CNNKIT_MPI_GRACE"

// defaultGrace is shorter than the second after which mpirun kills.
const defaultGrace = 700 * time.Millisecond

// Grace is how long a rank goes on waiting for the others after its context has ended. Where the launcher
// leaves ranks more time than mpirun's second, a longer one lets long steps end.
func Grace() (time.Duration, error) {
	text := os.Getenv(GraceVariable)
	if text == "" {
		return defaultGrace, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%s is %q: it wants a duration such as 20s", GraceVariable, text)
	}
	return d, nil
}
