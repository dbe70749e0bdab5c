package main

import (
	"bytes"
	"os"
	"testing"
)

// The committed table is that of the registry.
func TestTable(t *testing.T) {
	b, err := os.ReadFile("../OPERATORS.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")), table()) {
		t.Error("OPERATORS.md is not that of the registry: run go generate ./internal/ops")
	}
}
