// Command cnnkit builds convolutional networks as ONNX graphs, trains them, runs them, and exchanges their
// weights with PyTorch. One file a verb: flags in, a call of the library, a table or a picture out.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"
)

func main() {
	ctx, stop := interruptible()
	code := run(ctx, os.Args, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// interruptible is a context that the first Ctrl-C ends; the second one ends the program at once.
func interruptible() (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// run is the whole program, for tests: it gives the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	app := newApp(stdout, stderr)
	if n := len(args) - 1; n > 0 && args[n] == completionFlag {
		for _, word := range complete(app, args[1:n]) {
			fmt.Fprintln(stdout, word)
		}
		return exitDone
	}
	args = interspersed(app, args)
	err := app.RunContext(ctx, args)
	if err == nil {
		return exitDone
	}
	code := exitCode(ctx, err)
	if text := strings.TrimSpace(err.Error()); text != "" && !errors.Is(err, errNo) {
		fmt.Fprintf(stderr, "cnnkit: %s\n", text)
		if hint := hint(err); hint != "" {
			fmt.Fprintf(stderr, "        %s\n", hint)
		}
	}
	return code
}

func newApp(stdout, stderr io.Writer) *cli.App {
	app := &cli.App{
		Name:      "cnnkit",
		Usage:     "convolutional networks as ONNX graphs: build, train, run, convert",
		UsageText: "cnnkit VERB [ARGUMENTS] [--flags]",
		Description: `A network is an ONNX file from the first moment: builders emit it, the trainer differentiates it,
every engine runs it, and its initializers carry the names of the PyTorch state dict.

  cnnkit train lenet5 --data mnist --epochs 5 --out lenet5-mnist
  cnnkit eval lenet5-mnist/model.onnx --data mnist
  cnnkit build resnet --blocks 2,2,2 --weights resnet.pth --out resnet.onnx

Exit codes: 0 done; 1 the answer is no (a check failed, engines part) or the work failed; 2 wrong usage; 3 bad input
file; 4 a component is missing (ONNX Runtime, CUDA); 130 interrupted.`,
		Writer:                    stdout,
		ErrWriter:                 stderr,
		HideVersion:               true,
		UseShortOptionHandling:    false,
		Suggest:                   true,
		DisableSliceFlagSeparator: true,                         // file names may hold commas
		ExitErrHandler:            func(*cli.Context, error) {}, // run decides
		CommandNotFound:           nil,
		OnUsageError:              onUsageError,
		Commands: []*cli.Command{
			buildCommand(), trainCommand(), sweepCommand(), evalCommand(), predictCommand(), segmentCommand(),
			runCommand(),
			inspectCommand(), specCommand(), checkCommand(), verifyCommand(), convertCommand(),
			simplifyCommand(), extractCommand(), diffCommand(), editCommand(), quantizeCommand(),
			benchCommand(),
			serveCommand(), exportCommand(),
			dataCommand(), listCommand(),
			fetchCommand(), runtimeCommand(), doctorCommand(), completionCommand(), versionCommand(),
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return usageError("unknown verb %q%s", c.Args().First(),
					didYouMean(c.Args().First(), verbs(c.App)))
			}
			return cli.ShowAppHelp(c)
		},
	}
	app.Description = flowed(app.Description, helpWidth-3)
	for _, cmd := range app.Commands {
		prepare(cmd)
	}
	return app
}

// prepare gives a command and its subcommands what all have.
func prepare(cmd *cli.Command) {
	cmd.OnUsageError = onUsageError
	// the help indents both by 3
	cmd.Description, cmd.UsageText = flowed(cmd.Description, helpWidth-3), hanging(cmd.UsageText, helpWidth-3)
	for _, sub := range cmd.Subcommands {
		prepare(sub)
	}
}

func onUsageError(c *cli.Context, err error, _ bool) error {
	name := "cnnkit"
	if c.Command != nil && c.Command.Name != "" && c.Command.Name != "cnnkit" {
		name += " " + c.Command.Name
	}
	return usageError("%v (see '%s --help')", err, name)
}

func verbs(app *cli.App) []string {
	var out []string
	for _, c := range app.Commands {
		out = append(out, c.Name)
	}
	return out
}
