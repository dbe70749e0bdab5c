package ort

import "context"

// watched makes a call, and terminates it when the context ends first. Terminate touches memory that the
// caller frees after the call, and the function that context.AfterFunc gives does not wait for it: so
// watched returns after it has.
func watched(ctx context.Context, terminate func(), call func() error) error {
	terminated := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(terminated)
		terminate()
	})
	err := call()
	if stop() {
		return err
	}
	<-terminated
	return ctx.Err()
}
