package engine

import (
	"fmt"
	"runtime/debug"
	"strings"
)

// FaultError is a panic of the engine: a fault of this module, which ends one call instead of the process.
type FaultError struct {
	Value any
	Stack []byte
}

func (e *FaultError) Error() string {
	text, _, _ := strings.Cut(fmt.Sprint(e.Value), "\n") // what a worker passes on has its stack behind it
	return fmt.Sprintf("a fault of the native engine: %s; please report it with the model", text)
}

// Unwrap gives the error that the engine panicked with, if it was one.
func (e *FaultError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// Recover, deferred, makes an error of a panic.
func Recover(err *error) {
	if e := recover(); e != nil {
		*err = &FaultError{e, debug.Stack()}
	}
}
