//go:build mpi && unix

#include "shim.h"

#include <mpi.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { most_connections = 64, tag = 1 };

// connection is a communicator with the memory that its calls use again and again.
typedef struct {
	MPI_Comm comm;
	MPI_Request *requests; // two for each rank
	int *peers;            // of the requests
	int pending;
	float *parts; // the other ranks' numbers
	size_t room;  // floats in parts
} connection_t;

static connection_t connections[most_connections];
static int opened, rank_, size_;

// MPI_THREAD_SERIALIZED lets one thread at a time call: calls are short, since none of them waits.
static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;

static int open_connection(MPI_Comm comm, int *at) {
	if (opened == most_connections) return shim_memory;
	connection_t *c = &connections[opened];
	c->comm = comm;
	c->requests = malloc(2 * size_ * sizeof *c->requests);
	c->peers = malloc(2 * size_ * sizeof *c->peers);
	if (!c->requests || !c->peers) return shim_memory;
	MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
	*at = opened++;
	return shim_done;
}

int shim_init(int *rank, int *size) {
	// Open MPI's handlers of SIGSEGV and its kind would run on goroutines' stacks, and keep Go from recovering.
	setenv("OMPI_MCA_opal_signal", "", 0);
	int provided = 0, at = 0;
	if (MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &provided) != MPI_SUCCESS) return shim_failed;
	if (provided < MPI_THREAD_SERIALIZED) return shim_threads;
	MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
	MPI_Comm_size(MPI_COMM_WORLD, &size_);
	*rank = rank_, *size = size_;
	return open_connection(MPI_COMM_WORLD, &at);
}

int shim_finalize(void) { return MPI_Finalize() == MPI_SUCCESS ? shim_done : shim_failed; }

int shim_dup(int *at) {
	MPI_Comm comm;
	pthread_mutex_lock(&one);
	int result = MPI_Comm_dup(MPI_COMM_WORLD, &comm) == MPI_SUCCESS ? open_connection(comm, at) : shim_failed;
	pthread_mutex_unlock(&one);
	return result;
}

static int send(connection_t *c, const float *x, size_t n, int to) {
	if (n == 0) return shim_done;
	c->peers[c->pending] = to;
	return MPI_Isend(x, (int)n, MPI_FLOAT, to, tag, c->comm, &c->requests[c->pending++]) != MPI_SUCCESS;
}

static int receive(connection_t *c, float *x, size_t n, int from) {
	if (n == 0) return shim_done;
	c->peers[c->pending] = from;
	return MPI_Irecv(x, (int)n, MPI_FLOAT, from, tag, c->comm, &c->requests[c->pending++]) != MPI_SUCCESS;
}

// wait_all waits for the pending requests: at first by giving way to other threads, then asleep for 20 us at a time, so
// that the kernels have the processor, and after some 50 ms, while rank 0 validates, for 500 us.
static int wait_all(connection_t *c, const int *stop, int *lost) {
	struct timespec nap = {0, 20000};
	for (int spins = 0;; spins++) {
		int flag = 0;
		pthread_mutex_lock(&one);
		int rc = MPI_Testall(c->pending, c->requests, &flag, MPI_STATUSES_IGNORE);
		pthread_mutex_unlock(&one);
		if (rc != MPI_SUCCESS) return shim_failed;
		if (flag) {
			c->pending = 0;
			return shim_done;
		}
		if (__atomic_load_n(stop, __ATOMIC_RELAXED)) {
			for (int i = 0; i < c->pending; i++) {
				pthread_mutex_lock(&one);
				if (c->requests[i] != MPI_REQUEST_NULL) MPI_Request_get_status(c->requests[i], &flag, MPI_STATUS_IGNORE);
				pthread_mutex_unlock(&one);
				if (c->requests[i] != MPI_REQUEST_NULL && !flag) {
					*lost = c->peers[i];
					break;
				}
			}
			return shim_stopped;
		}
		if (spins < 100) sched_yield();
		else nanosleep(&nap, NULL);
		if (spins == 800) nap.tv_nsec = 500000;
	}
}

static int reserve(connection_t *c, size_t floats) {
	if (floats <= c->room) return shim_done;
	free(c->parts);
	c->parts = malloc(floats * sizeof *c->parts);
	c->room = c->parts ? floats : 0;
	return c->parts ? shim_done : shim_memory;
}

// add_up leaves in x the sum of the ranks' numbers, in the order of the ranks; parts has those of the others.
static void add_up(float *restrict x, const float *restrict parts, size_t n, float *restrict own) {
	const float *next = parts;
	memcpy(own, x, n * sizeof *x);
	for (int r = 0; r < size_; r++) {
		const float *from = own;
		if (r != rank_) from = next, next += n;
		if (r == 0) memcpy(x, from, n * sizeof *x);
		else for (size_t i = 0; i < n; i++) x[i] += from[i];
	}
}

// begin_of is where a rank's share of n numbers begins.
static size_t begin_of(size_t n, int r) { return n / size_ * r + (n % size_ < (size_t)r ? n % size_ : (size_t)r); }

// short_floats is the number of floats of all ranks together below which a vector is sent whole: 64 KiB.
enum { short_floats = 1 << 14 };

// all_reduce_short sends x to all.
static int all_reduce_short(connection_t *c, float *x, size_t n, const int *stop, int *lost) {
	int rc = reserve(c, n * size_);
	if (rc) return rc;
	float *next = c->parts;
	pthread_mutex_lock(&one);
	for (int r = 0; r < size_ && !rc; r++) {
		if (r == rank_) continue;
		rc = receive(c, next, n, r) || send(c, x, n, r);
		next += n;
	}
	pthread_mutex_unlock(&one);
	if (!rc) rc = wait_all(c, stop, lost);
	if (!rc) add_up(x, c->parts, n, next);
	return rc;
}

int shim_all_reduce(int at, float *x, size_t n, const int *stop, int *lost) {
	connection_t *c = &connections[at];
	if (n * size_ <= short_floats) return all_reduce_short(c, x, n, stop, lost);
	size_t lo = begin_of(n, rank_), own = begin_of(n, rank_ + 1) - lo;
	int rc = reserve(c, own * size_);
	if (rc) return rc;
	float *next = c->parts;
	pthread_mutex_lock(&one);
	for (int r = 0; r < size_ && !rc; r++) {
		if (r == rank_) continue;
		rc = receive(c, next, own, r) || send(c, x + begin_of(n, r), begin_of(n, r + 1) - begin_of(n, r), r);
		next += own;
	}
	pthread_mutex_unlock(&one);
	if (!rc) rc = wait_all(c, stop, lost);
	if (rc) return rc;
	add_up(x + lo, c->parts, own, next);
	pthread_mutex_lock(&one);
	for (int r = 0; r < size_ && !rc; r++) {
		if (r == rank_) continue;
		rc = receive(c, x + begin_of(n, r), begin_of(n, r + 1) - begin_of(n, r), r) || send(c, x + lo, own, r);
	}
	pthread_mutex_unlock(&one);
	return rc ? rc : wait_all(c, stop, lost);
}

int shim_broadcast(int at, float *x, size_t n, const int *stop, int *lost) {
	connection_t *c = &connections[at];
	int rc = 0;
	pthread_mutex_lock(&one);
	if (rank_ != 0) rc = receive(c, x, n, 0);
	for (int r = 1; r < size_ && rank_ == 0 && !rc; r++) rc = send(c, x, n, r);
	pthread_mutex_unlock(&one);
	return rc ? rc : wait_all(c, stop, lost);
}
