package onnxio

import (
	"fmt"
	"strings"
)

// FormatError says that a file or message is not what its format requires.
type FormatError struct {
	Format string // "onnx", "pt", "safetensors", "npy", ...
	Path   string // file, when known
	Where  string // node, tensor or entry, when known
	Msg    string
	Err    error // cause, when there is one
}

// Error joins path, format, place and message.
func (e *FormatError) Error() string {
	var b strings.Builder
	if e.Path != "" {
		fmt.Fprintf(&b, "%s: ", e.Path)
	}
	fmt.Fprintf(&b, "%s: ", e.Format)
	if e.Where != "" {
		fmt.Fprintf(&b, "%s: ", e.Where)
	}
	b.WriteString(e.Msg)
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	return b.String()
}

// Unwrap gives the cause.
func (e *FormatError) Unwrap() error { return e.Err }

// UnsupportedError says that an operator, an opset or an attribute is not implemented.
type UnsupportedError struct {
	Op     string // operator, with its domain when it is not ai.onnx
	Opset  int64
	Node   string
	Attr   string
	Reason string
}

// Error names operator, opset, node and attribute.
func (e *UnsupportedError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "unsupported %s", e.Op)
	if e.Opset != 0 {
		fmt.Fprintf(&b, " (opset %d)", e.Opset)
	}
	if e.Node != "" {
		fmt.Fprintf(&b, " %q", e.Node)
	}
	if e.Attr != "" {
		fmt.Fprintf(&b, ", attribute %s", e.Attr)
	}
	if e.Reason != "" {
		fmt.Fprintf(&b, ": %s", e.Reason)
	}
	return b.String()
}

// LimitError says that an input asks for more than the caller's Limits allow.
type LimitError struct {
	What  string
	Got   int64
	Limit int64
}

// Error gives both numbers.
func (e *LimitError) Error() string {
	return fmt.Sprintf("%s: %d exceeds the limit of %d", e.What, e.Got, e.Limit)
}
