package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/cnnkit/cnnkit/internal/engine"
)

// stepProfile is where the time of a plan goes.
type stepProfile struct {
	measurement
	Runs  int        `json:"runs"`
	Steps []stepTime `json:"steps"`
}

// stepTime is the mean time of one step of a plan. GFLOPs and GBs are rates, 0 where the plan counts no work.
type stepTime struct {
	Step   int     `json:"step"`
	Name   string  `json:"name"`
	Op     string  `json:"op"`
	Kernel string  `json:"kernel"`
	Shape  []int64 `json:"shape"`
	Layout string  `json:"layout,omitempty"`
	Chunks int     `json:"chunks"`
	// Portions are those of the batch; 0: the step is one of all images.
	Portions int     `json:"portions,omitempty"`
	MS       float64 `json:"ms"`
	Share    float64 `json:"share"`
	GFLOPs   float64 `json:"gflop_per_s,omitempty"`
	GBs      float64 `json:"gb_per_s,omitempty"`
}

// profile times the plan's steps. MS is the mean time of a call as a whole, Min and Max bound it.
func (b *bench) profile(m measurement, warm time.Duration, plan func() *engine.Plan,
	call func() error) (stepProfile, error) {
	p := stepProfile{measurement: m}
	if _, err := b.warm(warm, call); err != nil {
		return p, err
	}
	plan().Profile(true)
	defer plan().Profile(false)
	var times []float64
	long := time.Duration(float64(b.Int("windows")) * b.Float64("seconds") * float64(time.Second))
	for start := time.Now(); len(times) == 0 || time.Since(start) < long; {
		began := time.Now()
		if err := step(b.Context.Context, call); err != nil {
			return p, err
		}
		times = append(times, 1e3*time.Since(began).Seconds())
	}
	p.Runs = len(times)
	for _, t := range times {
		p.MS += t / float64(len(times))
	}
	p.Min, p.Max, p.PeakRSS = slices.Min(times), slices.Max(times), peakRSS()
	for _, v := range []*float64{&p.MS, &p.Min, &p.Max} {
		*v = short(*v)
	}
	p.Steps = stepTimes(plan().Steps())
	return p, nil
}

func stepTimes(steps []engine.StepInfo) []stepTime {
	var total time.Duration
	for _, s := range steps {
		total += s.Time
	}
	out := make([]stepTime, len(steps))
	for i, s := range steps {
		ns := float64(max(s.Time.Nanoseconds(), 1))
		out[i] = stepTime{Step: i, Name: s.Name, Op: s.Op, Kernel: s.Kernel, Shape: s.Shape, Layout: s.Layout,
			Chunks: s.Chunks, Portions: s.Portions,
			MS: short(ns / 1e6), Share: short(ns / float64(max(total.Nanoseconds(), 1))),
			GFLOPs: short(float64(s.FLOPs) / ns), GBs: short(float64(s.Bytes) / ns)}
	}
	return out
}

// reportProfile prints the steps, the slowest first, and what the kernels take together.
func (b *bench) reportProfile(p stepProfile) error {
	w := b.App.Writer
	if b.Bool("json") {
		return json.NewEncoder(w).Encode(p)
	}
	var sum float64
	for _, s := range p.Steps {
		sum += s.MS
	}
	fmt.Fprintf(w, "%s %s, batch %d, threads %d, kernels %s: %.4g ms a call over %d calls, %.4g ms of it in %d steps\n",
		p.What, p.Case, p.Batch, p.Threads, p.Level, p.MS, p.Runs, sum, len(p.Steps))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if b.Bool("per-op") {
		fmt.Fprintln(t, "step\tname\tkernel\tshape\tchunks\tms\tshare\tGFLOP/s\tGB/s")
		slowest := slices.SortedStableFunc(slices.Values(p.Steps), func(x, y stepTime) int {
			return cmp.Compare(y.MS, x.MS)
		})
		for _, s := range slowest {
			fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%d\t%.4f\t%.1f%%\t%s\t%s\n", s.Step, s.Name, s.Kernel,
				portioned(s.Portions, s.Shape),
				s.Chunks, s.MS, 100*s.Share,
				rate(s.GFLOPs), rate(s.GBs))
		}
		fmt.Fprintln(t)
	}
	fmt.Fprintln(t, "kernel\tsteps\tms\tshare")
	for _, k := range kernelTimes(p.Steps) {
		fmt.Fprintf(t, "%s\t%d\t%.4f\t%.1f%%\n", k.name, k.steps, k.ms, 100*k.share)
	}
	return t.Flush()
}

func rate(v float64) string {
	if v == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f", v)
}

// kernelTime sums the steps of one kernel.
type kernelTime struct {
	name      string
	steps     int
	ms, share float64
}

// kernelTimes groups the steps by kernel, the slowest first.
func kernelTimes(steps []stepTime) []kernelTime {
	var out []kernelTime
	for _, s := range steps {
		i := slices.IndexFunc(out, func(k kernelTime) bool { return k.name == s.Kernel })
		if i < 0 {
			i, out = len(out), append(out, kernelTime{name: s.Kernel})
		}
		out[i].steps++
		out[i].ms += s.MS
		out[i].share += s.Share
	}
	slices.SortStableFunc(out, func(x, y kernelTime) int { return cmp.Compare(y.ms, x.ms) })
	return out
}
