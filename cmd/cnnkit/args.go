package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// interspersed moves a verb's flags before its arguments, since package cli stops at the first argument and
// people write `cnnkit build lenet5 --out f.onnx`. What follows "--" stays where it is.
func interspersed(app *cli.App, args []string) []string {
	if len(args) < 2 {
		return args
	}
	cmd := app.Command(args[1])
	if cmd == nil {
		return args
	}
	head, rest := args[:2], args[2:]
	if len(rest) > 0 && len(cmd.Subcommands) > 0 {
		for _, sub := range cmd.Subcommands {
			if sub.HasName(rest[0]) {
				cmd, head, rest = sub, args[:3], args[3:]
				break
			}
		}
	}
	var flags, plain []string
	for i := 0; i < len(rest); i++ {
		arg := rest[i]
		if arg == "--" {
			plain = append(plain, rest[i+1:]...)
			break
		}
		if len(arg) < 2 || arg[0] != '-' {
			plain = append(plain, arg)
			continue
		}
		flags = append(flags, arg)
		name, _, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if takesValue(cmd, name) && !hasValue && i+1 < len(rest) {
			i++
			flags = append(flags, rest[i])
		}
	}
	out := append(slices.Clone(head), flags...)
	if len(plain) > 0 {
		out = append(append(out, "--"), plain...)
	}
	return out
}

func takesValue(cmd *cli.Command, name string) bool {
	for _, f := range cmd.Flags {
		if slices.Contains(f.Names(), name) {
			_, isBool := f.(*cli.BoolFlag)
			if g, ok := f.(*cli.GenericFlag); ok {
				_, isBool = g.Value.(*optionalText)
			}
			return !isBool
		}
	}
	return false
}

// didYouMean suggests the nearest of the known words.
func didYouMean(word string, known []string) string {
	best, at := 3, ""
	for _, k := range known {
		if d := distance(word, k); d < best {
			best, at = d, k
		}
	}
	if at == "" {
		return " (known: " + strings.Join(known, ", ") + ")"
	}
	return ": did you mean " + at + "?"
}

// distance is the Levenshtein distance.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diag
			if a[i] != b[j] {
				cost = 1 + min(diag, row[j], row[j+1])
			}
			diag, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
