// Command cnnkit-beam runs a model on images in an Apache Beam pipeline:
//
//	cnnkit-beam predict --model m.onnx --input 'images/*.jpg' --output out.jsonl
//
// Each image with an answer has a line of JSON in the output, as 'cnnkit predict --out' writes it,
// and each other one a line with the reason in the file of --dead-letter. Package runtime/beam says
// how it runs on Flink, Spark and Dataflow; 'cnnkit-beam predict --help' lists the flags, those of
// Beam and its runners among them.
//
// The exit code is 0 when images have answers, 1 when none has or the pipeline fails, and 2
// when it is called wrongly.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/metrics"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/options/jobopts"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners"
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/x/beamx" // the runners, and files of Google Cloud Storage

	cbeam "github.com/cnnkit/cnnkit/runtime/beam"
	_ "github.com/cnnkit/cnnkit/runtime/ort" // --engine ort
)

// The runners of --runner; beamx registers them.
var known = []string{"prism", "flink", "spark", "dataflow"}

// The flags are global, as Beam's are: workers find those of the pipeline there.
var (
	model  = flag.String("model", "", "the model's `FILE`, which every worker can read")
	input  = flag.String("input", "", "the `PATTERN` of the images' files, such as 'images/*.jpg'")
	output = flag.String("output", "", "the `FILE` of the answers, a line of JSON for each image")
	dead   = flag.String("dead-letter", "",
		"the `FILE` of images without an answer (default: OUT.dead.jsonl of OUT.jsonl)")
	engine  = flag.String("engine", "auto", "what runs the model: auto, native or ort")
	threads = flag.Int("threads", 0, "threads of one run of the model (default: as many as there are)")
	batch   = flag.Int("batch", 32, "images at a time")
	top     = flag.Int("top", 5, "classes of an answer")
	noEXIF  = flag.Bool("no-exif", false, "leave photographs as the sensor saw them")
)

// errUsage is an error of how the program was called.
type errUsage struct{ error }

func usage(format string, args ...any) error { return errUsage{fmt.Errorf(format, args...)} }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stderr)
	stop()
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return
	}
	fmt.Fprintln(os.Stderr, "cnnkit-beam:", err)
	if errors.As(err, new(errUsage)) {
		os.Exit(2)
	}
	os.Exit(1)
}

func run(ctx context.Context, args []string, log io.Writer) error {
	flag.CommandLine.Init("cnnkit-beam predict", flag.ContinueOnError)
	verb := ""
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		verb, args = args[0], args[1:]
	}
	if err := flag.CommandLine.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return errUsage{err}
	}
	beam.Init() // does not return in a worker, which a runner starts with flags of its own
	if verb != "predict" {
		return usage("the verb is predict, not %q: "+
			"cnnkit-beam predict --model m.onnx --input 'images/*.jpg' --output out.jsonl", verb)
	}
	c, err := config()
	if err != nil {
		return err
	}
	// Only this machine's files are sure to be here: the workers see to the others.
	if !strings.Contains(*model, "://") {
		if err := check(ctx, c, log); err != nil {
			return err
		}
	}
	return predict(ctx, c, log)
}

// config reads the flags.
func config() (cbeam.Config, error) {
	c := cbeam.Config{Model: *model, Engine: *engine, Threads: *threads, Batch: *batch, Top: *top,
		NoEXIF: *noEXIF}
	if *runners.Runner == "" {
		*runners.Runner = "prism"
	}
	switch {
	case flag.NArg() > 0:
		return c, usage("%q: the images are named by --input, in quotes so that the shell leaves the pattern alone",
			flag.Arg(0))
	case *model == "" || *input == "" || *output == "":
		return c, usage("--model, --input and --output are needed")
	case !slices.Contains(known, *runners.Runner):
		return c, usage("no runner %q: known are %s", *runners.Runner, strings.Join(known, ", "))
	case !slices.Contains([]string{"auto", "native", "ort"}, *engine):
		return c, usage("no engine %q: known are auto, native, ort", *engine)
	case *threads < 0 || *batch < 1 || *top < 1:
		return c, usage("--threads must be 0 or more, --batch and --top 1 or more")
	case (*runners.Runner == "flink" || *runners.Runner == "spark") && *jobopts.Endpoint == "":
		return c, usage("--runner %s wants the --endpoint of Beam's job server, such as localhost:8099",
			*runners.Runner)
	}
	if *dead == "" {
		*dead = deadLetters(*output)
	}
	if *dead == *output {
		return c, usage("--dead-letter and --output are the same file")
	}
	return c, nil
}

// deadLetters is the file beside that of the answers: out.jsonl has out.dead.jsonl.
func deadLetters(output string) string {
	slash, dot := strings.LastIndexAny(output, `/\`), strings.LastIndexByte(output, '.')
	if dot <= slash+1 {
		return output + ".dead"
	}
	return output[:dot] + ".dead" + output[dot:]
}

// check opens the model here, and says what it does not say of itself.
func check(ctx context.Context, c cbeam.Config, log io.Writer) error {
	s, err := c.Check(ctx)
	if err != nil {
		return err
	}
	for _, what := range s.Inferred {
		fmt.Fprintf(log, "cnnkit-beam: %s does not say, and it is inferred: %s\n", c.Model, what)
	}
	return nil
}

func predict(ctx context.Context, c cbeam.Config, log io.Writer) error {
	p, s := beam.NewPipelineWithRoot()
	files := cbeam.Read(s, *input)
	answers, failed := cbeam.Predict(s, c, files.Images)
	cbeam.Write(s.Scope("answers"), *output, answers)
	cbeam.Write(s.Scope("dead letters"), *dead, beam.Flatten(s, files.Dead, failed))
	result, err := beam.Run(ctx, *runners.Runner, p)
	if err != nil {
		return err
	}
	if result == nil || *jobopts.Async {
		return nil
	}
	answered, without := counted(result.Metrics())
	fmt.Fprintf(log, "cnnkit-beam: %d images in %s, %d without an answer in %s\n", answered, *output,
		without, *dead)
	if answered == 0 && without > 0 {
		return fmt.Errorf("no image has an answer: %s says why", *dead)
	}
	return nil
}

// counted reads the pipeline's counters.
func counted(m metrics.Results) (answered, dead int64) {
	for _, c := range m.AllMetrics().Counters() {
		switch {
		case c.Key.Namespace != cbeam.Namespace:
		case c.Key.Name == cbeam.Answered:
			answered += c.Result()
		case c.Key.Name == cbeam.Dead:
			dead += c.Result()
		}
	}
	return answered, dead
}
