// Package mpi connects the processes of a data-parallel training over MPI, whatever Open MPI or MPICH the
// system has. It is compiled with the build tag mpi by MPI's own compiler; without the tag Open says how:
//
//	apt-get install openmpi-bin libopenmpi-dev
//	CC=mpicc go build -tags mpi ./cmd/cnnkit
//	mpirun -n 4 ./cnnkit train resnet18 --data images:photos --batch 16 --distributed mpi --out photos
//
// Of MPI it takes Isend, Irecv and Testall, from which the shim makes the sums of train.Comm: each rank adds
// up its share of the vector in the order of the ranks and sends it to the others. So the bits are the same
// in each run and do not depend on the library; each rank sends and receives 2(N-1)/N of the vector. Short
// vectors are sent to all and added up everywhere, which takes one message time instead of two.
//
// # A lost rank
//
// When a process ends before its time, mpirun ends the others: SIGTERM, and SIGKILL a second later (Open
// MPI's parameter odls_base_sigkill_timeout). A rank that waits when SIGTERM comes goes on waiting for Grace,
// then gives up with a *train.LostError. What the last finished epoch has left is on disk.
package mpi
