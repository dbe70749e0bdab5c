package ort

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"
)

// options stands for what Terminate and Destroy both touch: the race detector sees a
// Terminate after a Destroy.
type options struct{ freed bool }

// Terminate never touches options that have been freed, whenever the deadline meets the end of the call.
func TestTerminateMeetsTheEnd(t *testing.T) {
	var group sync.WaitGroup
	for i := range 200 {
		group.Go(func() {
			o := &options{}
			ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
			defer cancel()
			_ = watched(ctx, func() {
				time.Sleep(time.Duration(i%3) * time.Millisecond) // the call ends meanwhile
				if o.freed {
					t.Error("terminated after it was freed")
				}
			}, func() error {
				time.Sleep(time.Duration(i) * 10 * time.Microsecond)
				return nil
			})
			o.freed = true
		})
	}
	group.Wait()
}

// The error is the context's where the context ended the call, else the call's.
func TestWatchedErrors(t *testing.T) {
	broken := errors.New("broken")
	if err := watched(t.Context(), func() { t.Error("terminated") }, func() error {
		return broken
	}); err != broken {
		t.Errorf("the call's error is %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	err := watched(ctx, func() { close(ended) }, func() error {
		cancel()
		<-ended
		return broken
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the context's error is %v", err)
	}
}
