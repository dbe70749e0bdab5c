package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/runtime"
	"github.com/cnnkit/cnnkit/train"
	"github.com/cnnkit/cnnkit/train/data"
)

// completionFlag, as the last argument, asks for the words that may stand next; the scripts ask so.
const completionFlag = "--generate-completion"

// complete lists the words that may follow or finish a command line.
func complete(app *cli.App, args []string) []string {
	if len(args) == 0 || app.Command(args[0]) == nil {
		return verbs(app)
	}
	cmd, rest := app.Command(args[0]), args[1:]
	if len(cmd.Subcommands) > 0 {
		var names []string
		for _, sub := range cmd.Subcommands {
			names = append(names, sub.Name)
		}
		i := -1
		if len(rest) > 0 {
			i = slices.Index(names, rest[0])
		}
		if i < 0 {
			return names
		}
		cmd, rest = cmd.Subcommands[i], rest[1:]
	}
	values := map[string][]string{"data": data.Names(), "engine": runtime.Engines(),
		"provider":  {"cpu", "cuda"},
		"optimizer": train.Optimizers(), "loss": train.Losses(), "metrics": train.Metrics(),
		"arch": builders.Names(), "cases": caseNames()}
	for i := len(rest) - 1; i >= 0 && i >= len(rest)-2; i-- { // the flag may have half a value behind it
		if name := strings.TrimLeft(rest[i], "-"); name != rest[i] && takesValue(cmd, name) {
			return values[name] // none: a file, which the shell knows
		}
	}
	if len(rest) > 0 && strings.HasPrefix(rest[len(rest)-1], "-") {
		var out []string
		for _, f := range cmd.Flags {
			out = append(out, "--"+f.Names()[0])
		}
		return out
	}
	var out []string
	switch args[0] {
	case "build", "train":
		out = builders.Names()
	case "completion":
		out = []string{"bash", "zsh", "fish"}
	}
	return out
}

var completions = map[string]string{
	"bash": `_cnnkit() {
  local cur="${COMP_WORDS[COMP_CWORD]}" words
  words=$("${COMP_WORDS[@]:0:$COMP_CWORD}" ${cur:+"$cur"} --generate-completion 2>/dev/null)
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
  [ ${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- "$cur"))
}
complete -o filenames -F _cnnkit cnnkit
`,
	"zsh": `#compdef cnnkit
_cnnkit() {
  local -a words_
  words_=("${(@f)$(${words[@]:0:$((CURRENT-1))} --generate-completion 2>/dev/null)}")
  _describe 'cnnkit' words_ || _files
}
compdef _cnnkit cnnkit
`,
	"fish": `complete -c cnnkit -a '(set -l w (commandline -opc); $w --generate-completion 2>/dev/null)'
`,
}

func completionCommand() *cli.Command {
	return &cli.Command{
		Name: "completion", Usage: "print a completion script for a shell",
		UsageText:   "cnnkit completion bash|zsh|fish",
		Description: "bash:  source <(cnnkit completion bash)\nzsh:   source <(cnnkit completion zsh)\nfish:  cnnkit completion fish | source",
		Action: func(c *cli.Context) error {
			shell, err := one(c, "shell")
			if err != nil {
				return err
			}
			script, ok := completions[shell]
			if !ok {
				return usageError("no completion for %q%s", shell,
					didYouMean(shell, []string{"bash", "zsh", "fish"}))
			}
			_, err = fmt.Fprint(c.App.Writer, script)
			return err
		},
	}
}
