package serve

import (
	"container/list"
	"context"
	"runtime"
	"sync"
	"weak"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
)

// gRPC reads a message as a whole before it calls a method, and sends an answer when the method is over.
// So the bytes of both are counted where they are allocated: by the pool that its transport takes memory
// from. The pool cannot refuse. What bounds the memory is that no call is taken while the budget is used
// up (permit), and that calls whose message is still on its way are cut off, the youngest first, when
// what comes goes beyond it.

// countedPool counts the bytes that are out. Buffers that gRPC forgets (of calls that broke off) count until
// the garbage collector finds them.
type countedPool struct {
	mem.BufferPool
	memory *budget
	calls  *arrivals
	out    sync.Map // of weak pointers to the buffers, to their *loan
}

// loan is a buffer that is out.
type loan struct {
	size    int64
	cleanup runtime.Cleanup
}

// minCounted is the size from which buffers are counted; gRPC gives smaller ones never back.
const minCounted = 1 << 10

// Get implements mem.BufferPool.
func (p *countedPool) Get(length int) *[]byte {
	from := p.BufferPool.Get(length)
	size := int64(cap(*from))
	if size <= minCounted {
		return from
	}
	b := new([]byte) // which nobody else has had, as a cleanup wants it
	*b = *from
	key := weak.Make(b)
	l := &loan{size: size}
	l.cleanup = runtime.AddCleanup(b, func(k weak.Pointer[[]byte]) { p.back(k) }, key)
	p.out.Store(key, l)
	if p.memory.used.Add(size) > p.memory.limit {
		p.calls.cut()
	}
	return b
}

// Put implements mem.BufferPool.
func (p *countedPool) Put(b *[]byte) {
	if l := p.back(weak.Make(b)); l != nil {
		l.cleanup.Stop()
	}
	p.BufferPool.Put(b)
}

// back ends a loan.
func (p *countedPool) back(key weak.Pointer[[]byte]) *loan {
	l, ok := p.out.LoadAndDelete(key)
	if !ok {
		return nil
	}
	p.memory.release(l.(*loan).size)
	return l.(*loan)
}

// arrivals are the calls whose message may still be on its way, in their order.
type arrivals struct {
	mu    sync.Mutex
	calls list.List // of *arrival
}

type arrival struct {
	gone   chan struct{} // closed when the call is cut off
	cancel context.CancelFunc
	done   func()
}

type arrivalKey struct{}

// errNoMemory refuses a call for which there is no memory.
var errNoMemory = status.Error(codes.Unavailable, noMemory)

// begin notes a call. Where nobody receives its message by receive, its context ends when it is cut off, and
// the client reads CANCELLED.
func (a *arrivals) begin(ctx context.Context, received bool) context.Context {
	c := &arrival{gone: make(chan struct{}), cancel: func() {}}
	if !received {
		ctx, c.cancel = context.WithCancel(ctx)
	}
	a.mu.Lock()
	at := a.calls.PushBack(c)
	a.mu.Unlock()
	remove := func() {
		a.mu.Lock()
		a.calls.Remove(at)
		a.mu.Unlock()
	}
	stop := context.AfterFunc(ctx, remove)
	c.done = func() {
		if stop() {
			remove()
		}
	}
	return context.WithValue(ctx, arrivalKey{}, c)
}

// arrived says that a call has no message on its way any more.
func arrived(ctx context.Context) {
	if c, ok := ctx.Value(arrivalKey{}).(*arrival); ok {
		c.done()
	}
}

// cut ends the youngest call whose message is on its way.
func (a *arrivals) cut() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if at := a.calls.Back(); at != nil {
		a.calls.Remove(at)
		c := at.Value.(*arrival)
		close(c.gone)
		c.cancel()
	}
}

// receive reads the next message of a call, unless the call is cut off. Then gRPC's own reading ends when the
// method returns: it would answer itself for a message that does not come.
func receive(ss grpc.ServerStream) (*incoming, error) {
	r, came := &incoming{}, make(chan error, 1)
	var gone chan struct{}
	if c, ok := ss.Context().Value(arrivalKey{}).(*arrival); ok {
		gone = c.gone
	}
	go func() {
		defer func() {
			if p := recover(); p != nil {
				came <- status.Errorf(codes.Internal, "a fault of the server: %v", p)
			}
		}()
		came <- ss.RecvMsg(r)
	}()
	select {
	case err := <-came:
		return r, err
	case <-gone:
		return nil, errNoMemory
	}
}
