package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/train"
	"github.com/cnnkit/cnnkit/train/mpi"
)

// connect connects the processes that --distributed names. Rank 0 alone prints and reports from then on.
func connect(c *cli.Context, j *job) (train.Comm, error) {
	if j.recipe.Distributed == "" {
		return train.SingleProcess(), nil
	}
	if c.Bool("find-lr") {
		return nil, usageError(
			"--find-lr looks for a rate in one process: leave out --distributed; --batch is the joint batch then")
	}
	comm, err := mpi.Open()
	if err != nil {
		return nil, err
	}
	j.recipe.Comm = comm
	if comm.Rank() > 0 {
		c.App.Writer = io.Discard
	}
	return comm, nil
}

// ofRank says in an error which process it is of.
func ofRank(comm train.Comm, err error) error {
	if err == nil || comm == nil || comm.Size() < 2 {
		return err
	}
	return fmt.Errorf("rank %d: %w", comm.Rank(), err)
}

// launcher is how a command is started on as many ranks.
func launcher(comm train.Comm) string {
	if comm.Size() < 2 {
		return ""
	}
	return fmt.Sprintf("mpirun -n %d ", comm.Size())
}

// isLost says that a rank did not answer.
func isLost(err error) bool { return errors.As(err, new(*train.LostError)) }
