package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime"
	"github.com/cnnkit/cnnkit/train"
	"github.com/cnnkit/cnnkit/train/data"
	"github.com/cnnkit/cnnkit/train/report"
)

func trainCommand() *cli.Command {
	return &cli.Command{
		Name: "train", Usage: "train a network, by name or from a file",
		UsageText: "cnnkit train NAME|MODEL --data NAME --out DIR [--flags], cnnkit train --recipe FILE --out DIR, or cnnkit train --resume DIR",
		Description: `NAME is one of the networks of 'cnnkit build', with its flags; MODEL an .onnx file, whose weights are the start.
Flags that are left out have the network's defaults. DIR gets model.onnx (last epoch), best.onnx (highest validation
accuracy), history.csv, history.png, recipe.json and checkpoint.safetensors, and the reports history.jsonl, report.html and
TensorBoard's events; --dashboard shows them in a browser while the run goes on. Ctrl-C finishes the step, saves a checkpoint
and interrupted.onnx, and says how to go on.

A recipe is all of this as JSON: recipe.json has every field that was used, and each flag has its field. --set changes a
field, flags do too; --resume goes on from a checkpoint to the same weights as without the interruption.

  cnnkit train lenet5 --data mnist --epochs 5 --out lenet5-mnist
  cnnkit train minivgg --data mnist --optimizer adam --lr 0.001 --out minivgg-mnist
  cnnkit train minivgg --data mnist --optimizer adam --find-lr --out minivgg-lr
  cnnkit train minivgg --data mnist --epochs 20 --swa 15 --swa-lr 0.005 --keep 3 --out minivgg-swa
  cnnkit train lenet5 --data mnist --subset 160 --stratified --epochs 100 --batch 16 --out few
  cnnkit train unet --width 16 --data pets --loss bce-dice --metrics iou,dice --augment RandomHorizontalFlip --out pets
  cnnkit train lenet5-mnist/model.onnx --data mnist --epochs 2 --out more
  cnnkit train exported.onnx --classes 37 --data pets-breeds --out tuned       (any exporter's: the last layer is replaced)
  cnnkit train resnet18 --weights resnet18.pth --classes 37 --data pets-breeds --freeze 'conv1,bn1,layer[1-3]' --out tuned
  cnnkit train --recipe lenet5-mnist/recipe.json --set lr=0.1 --set schedule.kind=cosine --out cosine
  cnnkit train --resume cosine --epochs 10
  mpirun -n 4 cnnkit train resnet18 --data images:photos --sync-bn --distributed mpi --out photos`,
		Flags: slices.Concat(partFlags(train.OfNetwork, train.OfData, train.OfTraining), recipeFlags(),
			reportFlags(), findLRFlags(),
			[]cli.Flag{presetFlag(), outFlag("the `DIR` to write"), jsonFlag()}),
		Action: trainAction,
	}
}

func trainAction(c *cli.Context) error {
	var err error
	j := job{}
	switch {
	case c.Bool("find-lr") && c.IsSet("resume"):
		return usageError("--find-lr starts from a network NAME or a MODEL file, and --resume goes on with the rate of its checkpoint: leave out one")
	case c.IsSet("resume"):
		j, err = resumedJob(c)
	case c.IsSet("recipe"):
		j, err = recipeJob(c)
	default:
		j, err = namedJob(c)
	}
	if err != nil {
		return err
	}
	comm, err := connect(c, &j)
	if err != nil {
		return err
	}
	if err := trainJob(c, j, comm); err != nil {
		return ofRank(comm, err)
	}
	return comm.Close()
}

// trainJob trains; ranks that are not the first do not report.
func trainJob(c *cli.Context, j job, comm train.Comm) error {
	splits, err := j.open(c)
	if err != nil {
		return err
	}
	if j.recipe.Precision == "bf16" && !runtime.BF16Runs() {
		fmt.Fprintln(c.App.ErrWriter, "cnnkit: this processor has no AMX: precision bf16 trains in float32")
	}
	if c.Bool("find-lr") {
		return findLR(c, j, splits)
	}
	if comm.Rank() > 0 {
		_, err := runJob(c, j, splits, train.Observer{})
		return err
	}
	logs, err := loggers(c, j)
	if err != nil {
		return err
	}
	dashboard, err := serveDashboard(c, j)
	if err != nil {
		return err
	}
	defer dashboard.stop()
	p := newProgress(c, j.recipe.Config, comm)
	observer := p.observer()
	var reports *train.Reports
	if dir := j.dir; !c.Bool("no-report") || dashboard.board != nil || len(logs) > 0 {
		if c.Bool("no-report") {
			dir = ""
		}
		reports = train.NewReports(j.recipe, splits, dir, j.from, dashboard.board)
		for _, open := range logs {
			reports.Log(open)
		}
		observer = reports.Observer(observer)
	}
	result, err := runJob(c, j, splits, observer)
	p.close()
	var reportErr error
	if reports != nil {
		reportErr = reports.Close(c.Context, result, err)
	}
	if err != nil {
		return trainError(c, err, j, comm)
	}
	if err := reportTrained(c, result, j); err != nil {
		return err
	}
	if reportErr != nil {
		return hinted{saved(fmt.Errorf("report: %w", reportErr)),
			"the run itself is whole; --no-report goes without"}
	}
	return nil
}

// runJob runs a job, or goes on with it.
func runJob(c *cli.Context, j job, splits data.Splits, observer train.Observer) (*train.Result, error) {
	if j.from != nil {
		return j.recipe.Resume(c.Context, j.from, splits, j.dir, observer)
	}
	return j.recipe.Run(c.Context, j.model, splits, j.dir, observer)
}

// served is a dashboard that is being served, or none.
type served struct {
	board *report.Dashboard
	stop  func()
}

// serveDashboard serves the run at --dashboard-addr and says where.
func serveDashboard(c *cli.Context, j job) (served, error) {
	if !c.Bool("dashboard") && !c.IsSet("dashboard-addr") {
		return served{stop: func() {}}, nil
	}
	l, err := report.Listen(c.String("dashboard-addr"))
	if err != nil {
		return served{}, hinted{fmt.Errorf("dashboard: %w", err),
			"--dashboard-addr takes HOST:PORT, such as 127.0.0.1:6006; without it a free port is taken"}
	}
	board := report.NewDashboard(report.Run{Title: j.recipe.Model + " on " + j.recipe.Data,
		State: report.Running, Planned: j.recipe.Epochs})
	ctx, cancel := context.WithCancel(context.WithoutCancel(c.Context))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := board.Serve(ctx, l); err != nil {
			fmt.Fprintf(c.App.ErrWriter, "cnnkit: dashboard: %v\n", err)
		}
	}()
	fmt.Fprintf(c.App.ErrWriter, "dashboard: http://%s/\n", l.Addr())
	return served{board, func() { cancel(); <-done }}, nil
}

func reportFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "no-report", Usage: "write no history.jsonl, report.html and TensorBoard events"},
		&cli.StringFlag{Name: "log", Usage: "`LIST` of where each step's figures go too: jsonl (DIR/" +
			report.StepLinesFile + ", as Weights & Biases has it), mlflow (./mlruns), mlflow=STORE"},
		&cli.BoolFlag{Name: "dashboard",
			Usage: "serve the report while the run goes on, on localhost at a free port"},
		&cli.StringFlag{Name: "dashboard-addr", Usage: "--dashboard at `HOST:PORT`, or at PORT on localhost"},
	}
}

// trainError says how to go on after an interruption.
func trainError(c *cli.Context, err error, j job, comm train.Comm) error {
	again := launcher(comm) + "cnnkit train --resume " + j.dir
	if isLost(err) {
		return hinted{err, "once all machines are there again, go on with: " + again}
	}
	if errors.Is(err, syscall.ENOSPC) {
		if _, gone := os.Stat(filepath.Join(j.dir, train.CheckpointFile)); gone == nil {
			return hinted{err, "nothing that was saved is lost: make room and go on with: " + again}
		}
	}
	var stopped *train.InterruptedError
	if !errors.As(err, &stopped) {
		return err
	}
	if stopped.Saved == "" {
		return hinted{err, "nothing was trained yet: run the same command again"}
	}
	fresh := fmt.Sprintf("%scnnkit train %s --data %s --out %s", launcher(comm), stopped.Saved,
		j.recipe.Data, j.dir)
	for _, f := range train.RecipeFields() {
		if f.Part != train.OfNetwork && f.Name != "data" && f.Flag != "" && c.IsSet(f.Flag) {
			fresh += fmt.Sprintf(" --%s=%s", f.Flag, quoted(fmt.Sprint(c.Value(f.Flag))))
		}
	}
	return hinted{err, "from where it stopped, to the same weights as without a stop: " + again +
		"; or from these weights, go on with: " + fresh}
}

// quoted is a word as a shell takes it.
func quoted(s string) string {
	if strings.ContainsAny(s, " \"'[]{}*?$`\\|&;<>()") {
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	return s
}

// monitored is the figure by which an epoch is the best one.
func monitored(e train.Epoch, monitor string) string {
	if v, ok := e.Metrics[monitor]; ok {
		return fmt.Sprintf("%s %.4f", monitor, v)
	}
	if monitor == "loss" {
		return fmt.Sprintf("loss %.4f", e.ValidationLoss)
	}
	if math.IsNaN(e.ValidationAccuracy) {
		return fmt.Sprintf("loss %.4f", e.ValidationLoss)
	}
	return fmt.Sprintf("accuracy %.2f%%", 100*e.ValidationAccuracy)
}

func reportTrained(c *cli.Context, r *train.Result, j job) error {
	best, dir := r.History[r.Best], j.dir
	last, bestFile := filepath.Join(dir, train.LastFile), filepath.Join(dir, train.BestFile)
	csv, png := filepath.Join(dir, train.HistoryFile), filepath.Join(dir, train.PlotFile)
	page := filepath.Join(dir, report.PageFile)
	if c.Bool("no-report") {
		page = ""
	}
	if c.Bool("json") {
		out := map[string]any{"done": true, "loss": r.Loss, "best_epoch": best.Epoch,
			"best_loss": best.ValidationLoss, "model": last, "best": bestFile, "history": csv, "plot": png,
			"stopped_early": r.Stopped, "report": page}
		if !math.IsNaN(best.ValidationAccuracy) {
			out["best_accuracy"] = best.ValidationAccuracy
		}
		return json.NewEncoder(c.App.Writer).Encode(out)
	}
	w := c.App.Writer
	if r.Stopped {
		fmt.Fprintf(w, "stopped: nothing got better after epoch %d\n", best.Epoch)
	}
	fmt.Fprintf(w, "best: epoch %d with validation %s, in %s\n", best.Epoch,
		monitored(best, j.recipe.Monitor), bestFile)
	fmt.Fprintf(w, "last: epoch %d, in %s; history in %s and %s\n", len(r.History), last, csv, png)
	if page != "" {
		fmt.Fprintf(w, "report: %s\n", page)
	}
	return nil
}

// archOf is the network that a model was built as, "" when it is none.
func archOf(m *onnxio.Model) string {
	arch, _, _ := builders.Arch(m)
	return arch
}
