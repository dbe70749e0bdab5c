package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
)

// The steps' shares sum to one, and a trace lays the same steps end to end.
func TestBenchPerOp(t *testing.T) {
	trace := filepath.Join(t.TempDir(), "trace.json")
	for _, args := range [][]string{{"train"}, {"infer", "--batch", "8"}} {
		args = append(append([]string{"bench"}, args...), "--cases", "lenet5-28", "--windows", "1",
			"--seconds", "0.05", "--per-op", "--threads", "1")
		var p stepProfile
		if err := json.Unmarshal([]byte(done(t, append(args, "--json", "--trace", trace)...)),
			&p); err != nil {
			t.Fatal(err)
		}
		var ms, share float64
		for _, s := range p.Steps {
			ms, share = ms+s.MS, share+s.Share
		}
		conv := slices.IndexFunc(p.Steps, func(s stepTime) bool {
			return s.Name == "conv1" && s.Op == "Conv"
		})
		if p.Runs < 1 || math.Abs(share-1) > 1e-3 || ms > p.MS || conv < 0 || p.Steps[conv].GFLOPs <= 0 ||
			p.Level == "" || p.Winograd == nil {
			t.Errorf("%v: %+v", args, p)
		}
		var v struct {
			TraceEvents []traceEvent
		}
		text, err := os.ReadFile(trace)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &v); err != nil {
			t.Fatal(err)
		}
		var at float64
		complete := slices.DeleteFunc(v.TraceEvents, func(e traceEvent) bool { return e.Phase != "X" })
		for i, e := range complete {
			if s := p.Steps[i]; e.Name != s.Name || e.Category != s.Kernel || e.PID != 1 || e.TID != 1 ||
				math.Abs(e.Start-at) > 1e-6 {
				t.Errorf("event %d is %+v, step %+v", i, e, s)
			}
			at = e.Start + e.Duration
		}
		if len(complete) != len(p.Steps) || math.Abs(at-1e3*ms) > 1e-3 {
			t.Errorf("%d events over %g us for %d steps over %g ms", len(complete), at, len(p.Steps), ms)
		}
		if out := done(t, args...); !strings.Contains(out, "GFLOP/s") || !strings.Contains(out, "conv1") {
			t.Errorf("%s", out)
		}
	}
}

// --no-winograd holds for one call, in training and in inference, and is written down.
func TestBenchWithoutWinograd(t *testing.T) {
	t.Setenv("CNNKIT_WINOGRAD", "")
	for _, what := range []string{"train", "infer"} {
		for _, allowed := range []bool{false, true} {
			args := []string{"bench", what, "--cases", "resnet-cifar", "--batch", "4", "--windows", "1",
				"--seconds", "0.01", "--per-op", "--json", "--no-winograd"}
			if allowed {
				args = args[:len(args)-1]
			}
			var p stepProfile
			if err := json.Unmarshal([]byte(done(t, args...)), &p); err != nil {
				t.Fatal(err)
			}
			used := slices.ContainsFunc(p.Steps, func(s stepTime) bool {
				return strings.Contains(s.Kernel, "winograd")
			})
			if p.Winograd == nil || *p.Winograd != allowed || used != allowed {
				t.Errorf("%v: winograd %v, used %v", args, p.Winograd, used)
			}
		}
	}
}

// Opening is a part of the start, and several starts have a fastest and a slowest.
func TestBenchStart(t *testing.T) {
	var m measurement
	if err := json.Unmarshal([]byte(done(t, "bench", "start", "--model", lenet(t), "--starts", "3",
		"--threads", "1", "--json")), &m); err != nil {
		t.Fatal(err)
	}
	if m.What != "start" || m.Batch != 1 || !(0 < m.Open && m.Open < m.MS && m.Min <= m.MS && m.MS <= m.Max) {
		t.Errorf("%+v", m)
	}
}

func TestBenchMistakes(t *testing.T) {
	for args, says := range map[string]string{
		"bench train --engine ort":                          "only the native engine trains",
		"bench train --batch x":                             "--batch wants",
		"bench infer --per-op --engine ort":                 "not those of ort",
		"bench start --starts 0 --model " + lenet(t):        "--starts must be positive",
		"bench infer --time 0":                              "must be positive",
		"bench infer --model " + lenet(t) + " --threads -1": "--threads",
	} {
		if r := cnnkit(t, strings.Fields(args)...); r.code != exitUsage || !strings.Contains(r.err, says) {
			t.Errorf("%s: %+v", args, r)
		}
	}
	unknown := benchCase{name: "new-9", network: "new"}
	if _, err := unknown.build(); err == nil ||
		!strings.Contains(err.Error(), "case new-9 needs the network new") {
		t.Errorf("%v", err)
	}
}

// The small cases build.
func TestBenchCases(t *testing.T) {
	for _, k := range benchCases {
		if !slices.Contains(builders.Names(), k.network) || k.input[1] > 100 {
			continue
		}
		if _, err := k.build(); err != nil {
			t.Errorf("%s: %v", k.name, err)
		}
	}
}
