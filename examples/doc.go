// Package examples holds programs to read and to begin from, a folder each; README.md says which is for what.
// The test compiles and runs all of them on small data.
package examples
