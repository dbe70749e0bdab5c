package main

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/urfave/cli/v2"
)

func TestFlowed(t *testing.T) {
	text := "One two three\nfour five.\n\n  an example that is longer than the width\nsix\nseven"
	want := "One two\nthree\nfour\nfive.\n\n  an example that is longer than the width\nsix seven"
	if got := flowed(text, 9); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := hanging("a b [--long C]\nd", 8), "a b\n    [--long\n    C]\nd"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// No line of any help is wider than helpWidth, but for words that are and for examples.
func TestHelpIsNarrow(t *testing.T) {
	var visit func(path string, cmds []*cli.Command)
	visit = func(path string, cmds []*cli.Command) {
		for _, c := range cmds {
			name := path + " " + c.Name
			out := done(t, append(strings.Fields(name)[1:], "--help")...)
			for line := range strings.Lines(out) {
				line = strings.TrimRight(line, "\n")
				if utf8.RuneCountInString(line) > helpWidth && !strings.HasPrefix(line, "     cnnkit ") {
					t.Errorf("%s --help: %q", name, line)
				}
			}
			visit(name, c.Subcommands)
		}
	}
	visit("cnnkit", newApp(nil, nil).Commands)
}
