package main

import (
	"strings"

	"github.com/urfave/cli/v2"
)

// helpWidth is that of help texts, in characters.
const helpWidth = 110

// flowed fills the lines of each paragraph of a help text up to width. Lines that start with a space are
// examples and stay, as does a paragraph with a tab.
func flowed(text string, width int) string {
	var out []string
	var words []string
	flush := func() {
		line := ""
		for _, w := range words {
			if line != "" && len([]rune(line))+1+len([]rune(w)) > width {
				out = append(out, line)
				line = ""
			}
			line = strings.TrimPrefix(line+" "+w, " ")
		}
		if line != "" {
			out = append(out, line)
		}
		words = nil
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if line != "" && line[0] != ' ' && !strings.Contains(line, "\t") {
			words = append(words, strings.Fields(line)...)
			continue
		}
		flush()
		out = append(out, line)
	}
	flush()
	return strings.Join(out, "\n")
}

// hanging breaks the lines of a text at width; what is left of one is indented.
func hanging(text string, width int) string {
	const indent = "    "
	var out []string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if len([]rune(line)) > width {
			first, rest, _ := strings.Cut(flowed(line, width), "\n")
			rest = flowed(strings.ReplaceAll(rest, "\n", " "), width-len(indent))
			line = first + "\n" + indent + strings.ReplaceAll(rest, "\n", "\n"+indent)
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}

func init() {
	// A default of 0 or false is none: the flag's text says what is taken then. Behind a tab, a line of the
	// text stands in the column of the texts.
	whole := cli.FlagStringer
	cli.FlagStringer = func(f cli.Flag) string {
		text := strings.TrimSuffix(strings.TrimSuffix(whole(f), " (default: 0)"), " (default: false)")
		names, usage, _ := strings.Cut(text, "\t")
		names, _, _ = strings.Cut(names, " [ ") // the same once more, of flags that may be repeated
		return names + "\t" + strings.ReplaceAll(flowed(usage, helpWidth-36), "\n", "\n\t")
	}
}
