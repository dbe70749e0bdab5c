package main

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

// The scripts ask the program itself: package cli answers a command line that ends in --generate-bash-completion.
var completions = map[string]string{
	"bash": `_cnnkit() {
  local cur="${COMP_WORDS[COMP_CWORD]}" words
  words=$("${COMP_WORDS[@]:0:$COMP_CWORD}" ${cur:+"$cur"} --generate-bash-completion 2>/dev/null)
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
  [ ${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- "$cur"))
}
complete -o filenames -F _cnnkit cnnkit
`,
	"zsh": `#compdef cnnkit
_cnnkit() {
  local -a words_
  words_=("${(@f)$(${words[@]:0:$((CURRENT-1))} --generate-bash-completion 2>/dev/null)}")
  _describe 'cnnkit' words_ || _files
}
compdef _cnnkit cnnkit
`,
	"fish": `complete -c cnnkit -a '(set -l w (commandline -opc); $w --generate-bash-completion 2>/dev/null)'
`,
}

func completionCommand() *cli.Command {
	return &cli.Command{
		Name: "completion", Usage: "print a completion script for a shell", UsageText: "cnnkit completion bash|zsh|fish",
		Description: "bash:  source <(cnnkit completion bash)\nzsh:   source <(cnnkit completion zsh)\nfish:  cnnkit completion fish | source",
		Action: func(c *cli.Context) error {
			shell, err := one(c, "shell")
			if err != nil {
				return err
			}
			script, ok := completions[shell]
			if !ok {
				return usageError("no completion for %q%s", shell, didYouMean(shell, []string{"bash", "zsh", "fish"}))
			}
			_, err = fmt.Fprint(c.App.Writer, script)
			return err
		},
	}
}
