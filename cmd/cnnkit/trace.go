package main

import (
	"encoding/json"
	"fmt"
	"os"
)

// chromeTrace collects profiles in the Trace Event Format, which chrome://tracing and ui.perfetto.dev open. A
// profile is a process there, with one thread on which its steps follow each other.
type chromeTrace struct {
	Events []traceEvent `json:"traceEvents"`
	Unit   string       `json:"displayTimeUnit"`
	last   int          // pid
}

// traceEvent is a complete event ("X"), or metadata ("M"). Times are in microseconds.
type traceEvent struct {
	Name     string         `json:"name"`
	Category string         `json:"cat,omitempty"`
	Phase    string         `json:"ph"`
	Start    float64        `json:"ts"`
	Duration float64        `json:"dur"`
	PID      int            `json:"pid"`
	TID      int            `json:"tid"`
	Args     map[string]any `json:"args,omitempty"`
}

// add lays the steps out one after the other, each as long as its mean.
func (t *chromeTrace) add(p stepProfile) {
	t.last++
	name := fmt.Sprintf("%s %s, batch %d", p.What, p.Case, p.Batch)
	thread := fmt.Sprintf("mean of %d runs on %d threads", p.Runs, p.Threads)
	t.Events = append(t.Events,
		traceEvent{Name: "process_name", Phase: "M", PID: t.last, TID: 1, Args: map[string]any{"name": name}},
		traceEvent{Name: "thread_name", Phase: "M", PID: t.last, TID: 1,
			Args: map[string]any{"name": thread}})
	var at float64
	for _, s := range p.Steps {
		t.Events = append(t.Events, traceEvent{Name: s.Name, Category: s.Kernel, Phase: "X", Start: at,
			Duration: 1e3 * s.MS, PID: t.last, TID: 1,
			Args: map[string]any{"step": s.Step, "op": s.Op, "shape": s.Shape, "layout": s.Layout,
				"chunks": s.Chunks,
				"share":  s.Share, "gflop_per_s": s.GFLOPs, "gb_per_s": s.GBs}})
		at += 1e3 * s.MS
	}
}

func (t *chromeTrace) save(path string) error {
	t.Unit = "ms"
	text, err := json.Marshal(t)
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}
