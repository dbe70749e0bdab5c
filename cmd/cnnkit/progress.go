package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/cnnkit/cnnkit/train"
)

// progress shows a training: a bar on a terminal, a line for each epoch everywhere, JSON lines with --json.
type progress struct {
	out, err io.Writer
	json     bool
	epochs   int
	steps    int
	batch    int
	sampler  string
	bar      *progressbar.ProgressBar
	terminal bool
	shown    time.Time
	epoch    int
}

func newProgress(c *cli.Context, cfg train.Config, comm train.Comm) *progress {
	return &progress{out: c.App.Writer, err: c.App.ErrWriter, json: c.Bool("json"), epochs: cfg.Epochs,
		batch: cfg.Batch * comm.Size(), sampler: cfg.Sampler,
		terminal: isTerminal(c.App.ErrWriter)}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func (p *progress) observer() train.Observer {
	o := train.Observer{Start: p.start, Epoch: p.finished}
	if p.terminal && !p.json {
		o.Step = p.step
	}
	return o
}

func (p *progress) start(steps, parameters int) {
	p.steps = steps
	if !p.json {
		fmt.Fprintf(p.out, "%d parameters, %d epochs of %d steps of %d images\n", parameters, p.epochs,
			steps, p.batch)
		if p.sampler != "" {
			fmt.Fprintf(p.out, "sampler %s: each epoch draws its images with replacement\n", p.sampler)
		}
	}
}

// step moves the bar; it is redrawn ten times a second at most, since a step may take a millisecond.
func (p *progress) step(epoch, step, images int, loss float64) {
	if p.epoch != epoch {
		p.epoch = epoch
		p.bar = progressbar.NewOptions(p.steps*p.batch,
			progressbar.OptionSetWriter(p.err), progressbar.OptionSetWidth(24), progressbar.OptionShowIts(),
			progressbar.OptionSetItsString("images"), progressbar.OptionSetPredictTime(true),
			progressbar.OptionClearOnFinish(),
			progressbar.OptionThrottle(0), progressbar.OptionSetElapsedTime(false))
	}
	if time.Since(p.shown) < 100*time.Millisecond && step != p.steps {
		return
	}
	p.shown = time.Now()
	p.bar.Describe(fmt.Sprintf("epoch %d/%d loss %.4f", epoch, p.epochs, loss))
	_ = p.bar.Set(images)
}

func (p *progress) finished(e train.Epoch) {
	p.close()
	if p.json {
		_ = json.NewEncoder(p.out).Encode(e)
		return
	}
	fmt.Fprintf(p.out, "epoch %d/%d: train %s; validation %s; %.1f s, %.0f images/s\n", e.Epoch, p.epochs,
		figures(e.TrainLoss, e.TrainAccuracy), figures(e.ValidationLoss, e.ValidationAccuracy), e.Seconds,
		e.ImagesPerSecond)
}

// figures are a loss and an accuracy, where there is one.
func figures(loss, accuracy float64) string {
	if math.IsNaN(loss) {
		return "left out"
	}
	if math.IsNaN(accuracy) {
		return fmt.Sprintf("loss %.4f", loss)
	}
	return fmt.Sprintf("loss %.4f, accuracy %.2f%%", loss, 100*accuracy)
}

// close takes the bar away.
func (p *progress) close() {
	if p.bar != nil {
		_ = p.bar.Clear()
		p.bar = nil
	}
}
