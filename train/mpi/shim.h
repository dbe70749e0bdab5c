#include <stddef.h>

// Results of the calls below: an MPI error is shim_failed, a call that *stop has ended shim_stopped.
enum { shim_done = 0, shim_failed = 1, shim_stopped = 2, shim_threads = 3, shim_memory = 4 };

// shim_init starts MPI. One thread calls it and shim_finalize.
int shim_init(int *rank, int *size);
int shim_finalize(void);

// shim_dup gives a connection of its own, from 0 on.
int shim_dup(int *connection);

// shim_all_reduce replaces x by the sum of all ranks' x, each element added up in the order of the ranks. Where it is
// stopped, *lost is the first rank that it waits for.
int shim_all_reduce(int connection, float *x, size_t n, const int *stop, int *lost);

// shim_broadcast replaces x by that of rank 0.
int shim_broadcast(int connection, float *x, size_t n, const int *stop, int *lost);
