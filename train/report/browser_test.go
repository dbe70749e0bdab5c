package report_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image/png"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/train"
	"github.com/cnnkit/cnnkit/train/data"
	_ "github.com/cnnkit/cnnkit/train/data/mnist"
	"github.com/cnnkit/cnnkit/train/report"
)

// browser is a headless Chromium with one page, asked by the DevTools protocol over its pipe: JSON messages
// that end in a zero byte, to its file 3 and from its file 4.
type browser struct {
	t       *testing.T
	to      io.Writer
	answers chan message
	events  chan message
	session string
	id      int
}

type message struct {
	ID        int             `json:"id,omitempty"`
	Method    string          `json:"method,omitempty"`
	Params    map[string]any  `json:"params,omitempty"`
	SessionID string          `json:"sessionId,omitempty"`
	Result    map[string]any  `json:"result,omitempty"`
	Error     json.RawMessage `json:"error,omitempty"`
}

// start finds a browser of Chromium's kind, CNNKIT_BROWSER or one on the path, or skips the test.
func start(t *testing.T) *browser {
	t.Helper()
	if testing.Short() {
		t.Skip("a browser takes seconds to start: run without -short")
	}
	program := os.Getenv("CNNKIT_BROWSER")
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if path, err := exec.LookPath(name); program == "" && err == nil {
			program = path
		}
	}
	if program == "" {
		t.Skip("no chromium or google-chrome on the path: CNNKIT_BROWSER names one")
	}
	args := []string{"--headless=new", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
		"--remote-debugging-pipe", "--user-data-dir=" + t.TempDir()}
	if os.Geteuid() == 0 { // its sandbox does not work for root
		args = append(args, "--no-sandbox")
	}
	read, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	from, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.ExtraFiles = []*os.File{read, write}
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatalf("%s: %v", program, err)
	}
	read.Close()
	write.Close()
	b := &browser{t: t, to: to, answers: make(chan message, 16), events: make(chan message, 1024)}
	go b.listen(from)
	t.Cleanup(func() {
		b.ask("Browser.close", nil)
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
		}
		cancel()
		to.Close()
		from.Close()
	})
	target := b.ask("Target.createTarget", map[string]any{"url": "about:blank"})
	attached := b.ask("Target.attachToTarget", map[string]any{"targetId": target["targetId"],
		"flatten": true})
	b.session, _ = attached["sessionId"].(string)
	for _, domain := range []string{"Page", "Runtime", "Log"} {
		b.ask(domain+".enable", nil)
	}
	return b
}

func (b *browser) listen(from io.Reader) {
	defer close(b.answers)
	r := bufio.NewReader(from)
	for {
		line, err := r.ReadBytes(0)
		if err != nil {
			return
		}
		var m message
		if json.Unmarshal(bytes.TrimSuffix(line, []byte{0}), &m) != nil {
			continue
		}
		if m.ID != 0 {
			b.answers <- m
			continue
		}
		select { // what pages have written, exceptions and violations of their policy are among the events
		case b.events <- m:
		default: // a page that writes without end
		}
	}
}

// ask calls a method of the protocol.
func (b *browser) ask(method string, params map[string]any) map[string]any {
	b.t.Helper()
	b.id++
	raw, err := json.Marshal(message{ID: b.id, Method: method, Params: params, SessionID: b.session})
	if err != nil {
		b.t.Fatal(err)
	}
	if method == "Browser.close" {
		_, _ = b.to.Write(append(raw, 0))
		return nil
	}
	if _, err := b.to.Write(append(raw, 0)); err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
	for {
		select {
		case m, ok := <-b.answers:
			if !ok || m.Error != nil {
				b.t.Fatalf("%s: %s", method, m.Error)
			}
			if m.ID == b.id {
				return m.Result
			}
		case <-time.After(time.Minute):
			b.t.Fatalf("%s: no answer", method)
		}
	}
}

// window sets the size of the page's window.
func (b *browser) window(width, height int) {
	b.ask("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height,
		"deviceScaleFactor": 1, "mobile": false})
}

// open loads an address.
func (b *browser) open(address string) {
	b.t.Helper()
	b.ask("Page.navigate", map[string]any{"url": address})
	b.until(`document.readyState === "complete" && location.href !== "about:blank"`)
}

// eval is what a script gives in the page.
func (b *browser) eval(script string) any {
	b.t.Helper()
	r := b.ask("Runtime.evaluate", map[string]any{"expression": script, "returnByValue": true})
	if e := r["exceptionDetails"]; e != nil {
		b.t.Fatalf("%s: %v", script, e)
	}
	value, _ := r["result"].(map[string]any)
	return value["value"]
}

// until waits for a condition to hold in the page.
func (b *browser) until(condition string) {
	b.t.Helper()
	for end := time.Now().Add(time.Minute); b.eval(condition) != true; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatalf("the page has not come to %s", condition)
		}
	}
}

// quiet sees to it that no page has logged anything.
func (b *browser) quiet() {
	b.t.Helper()
	for {
		select {
		case m := <-b.events:
			switch m.Method {
			case "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded":
				b.t.Errorf("%s: %v", m.Method, m.Params)
			}
		default:
			return
		}
	}
}

// picture takes a picture of the whole page and writes it where CNNKIT_SCREENSHOTS names a folder.
func (b *browser) picture(name string) {
	b.t.Helper()
	dir := os.Getenv("CNNKIT_SCREENSHOTS")
	if dir == "" {
		return
	}
	text, _ := b.ask("Page.captureScreenshot", map[string]any{"format": "png",
		"captureBeyondViewport": true})["data"].(string)
	var raw []byte
	if err := json.Unmarshal([]byte(`"`+text+`"`), &raw); err != nil {
		b.t.Fatal(err)
	}
	if _, err := png.DecodeConfig(bytes.NewReader(raw)); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), raw, 0o666); err != nil {
		b.t.Fatal(err)
	}
}

// drawn counts the curves of the page that the browser has given a length, and fails the
// test where it is not all.
func (b *browser) drawn(curves int) {
	b.t.Helper()
	got := b.eval(`[document.querySelectorAll("svg path.line").length,
		[...document.querySelectorAll("svg path.line")].filter(c => c.getTotalLength() > 50 && c.getBoundingClientRect().width > 50).length].join()`)
	if want := fmt.Sprintf("%d,%d", curves, curves); got != want {
		b.t.Errorf("curves on the page, and drawn: %v, want %s", got, want)
	}
}

// digits is a training of LeNet-5 on a part of MNIST, too short to learn much.
func digits(t *testing.T, epochs int) (train.Recipe, data.Splits) {
	t.Helper()
	splits, err := data.Open("mnist")
	if err != nil {
		t.Fatal(err)
	}
	splits.Train = data.Subset{Dataset: splits.Train, Indices: data.Sequence(200)}
	splits.Validation = data.Subset{Dataset: splits.Validation, Indices: data.Sequence(100)}
	return train.Recipe{Model: "lenet5", Data: "mnist", Config: train.Config{Epochs: epochs, Batch: 20,
		Optimizer: "sgd", LR: 0.05, Momentum: 0.9, Metrics: []string{"f1", "confusion"}}}, splits
}

// runDigits trains, with the reports in dir and on the dashboard; each epoch is told to after.
func runDigits(t *testing.T, recipe train.Recipe, splits data.Splits, dir string, board *report.Dashboard,
	after func(train.Epoch)) {
	t.Helper()
	m, err := builders.Build("lenet5", builders.Config{})
	if err != nil {
		t.Fatal(err)
	}
	reports := train.NewReports(recipe, splits, dir, nil, board)
	result, err := recipe.Run(t.Context(), m, splits, dir, reports.Observer(train.Observer{Epoch: after}))
	if err := reports.Close(t.Context(), result, err); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A real training's report as a browser draws it, at the width of a desk and of a phone: every curve has its
// length and every image its pixels, the pointer's figures appear, and nothing is wider than the window.
func TestReportInBrowser(t *testing.T) {
	b := start(t)
	dir := t.TempDir()
	recipe, splits := digits(t, 3)
	runDigits(t, recipe, splits, dir, nil, func(train.Epoch) {})
	for name, width := range map[string]int{"desk": 1200, "phone": 375} {
		b.window(width, 900)
		b.open("file://" + filepath.ToSlash(filepath.Join(dir, report.PageFile)))
		b.drawn(7) // loss and accuracy of both parts, learning rate, F1, images a second
		for what, want := range map[string]any{
			`document.querySelectorAll("#epochs tbody tr").length`:                                               3.,
			`document.querySelectorAll(".matrix tbody tr").length`:                                               10.,
			`document.images.length > 10 && [...document.images].every(i => i.naturalWidth > 0)`:                 true,
			`document.documentElement.scrollWidth <= innerWidth`:                                                 true,
			`document.querySelector(".badge").textContent`:                                                       "finished",
			`[...document.querySelectorAll("svg text")].every(x => x.getBBox().x >= 0)`:                          true,
			`document.querySelector("details").open = true; document.querySelector("#epochs").offsetHeight > 80`: true,
		} {
			if got := b.eval(what); got != want {
				t.Errorf("%s: %s is %v, want %v", name, what, got, want)
			}
		}
		b.eval(`(() => { const svg = document.querySelector("svg[data-chart]"), box = svg.getBoundingClientRect();
			svg.dispatchEvent(new PointerEvent("pointermove", {bubbles: true, clientX: box.right - 15, clientY: box.top + 20})); })()`)
		if tip, _ := b.eval(`document.getElementById("tip").textContent`).(string); !strings.HasPrefix(tip,
			"epoch 3\n") || strings.Count(tip, "\n") != 2 {
			t.Errorf("%s: the pointer shows %q", name, tip)
		}
		b.picture("report-" + name)
	}
	b.quiet()
}

// A page that is open while a training goes on shows each epoch as it comes, without being loaded again,
// and how the training ended.
func TestDashboardInBrowser(t *testing.T) {
	b := start(t)
	recipe, splits := digits(t, 4)
	board := report.NewDashboard(report.Run{Title: "lenet5 on mnist", State: report.Running,
		Planned: recipe.Epochs})
	l, err := report.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- board.Serve(ctx, l) }()
	b.window(1200, 900)
	b.open("http://" + l.Addr().String() + "/")
	if b.eval(`document.querySelector(".none").textContent`) != "No epoch is finished yet." {
		t.Error("the page does not say that there is nothing yet")
	}
	b.eval(`window.same = true`)
	runDigits(t, recipe, splits, t.TempDir(), board, func(e train.Epoch) {
		b.until(fmt.Sprintf(`document.querySelectorAll("#epochs tbody tr").length === %d`, e.Epoch))
		if got := b.eval(`document.querySelectorAll("svg circle").length`); got != float64(7*e.Epoch) {
			t.Errorf("epoch %d: %v dots", e.Epoch, got)
		}
		if e.Epoch > 1 { // one dot has no length
			b.drawn(7)
		}
		if got := b.eval(`document.querySelector(".badge").textContent`); got != "running" {
			t.Errorf("epoch %d: the run is %v", e.Epoch, got)
		}
		if got := b.eval(`document.getElementById("progress").hidden`); got != false {
			t.Errorf("epoch %d: no progress is shown", e.Epoch)
		}
	})
	b.until(`document.querySelector(".badge").textContent === "finished" && document.querySelectorAll(".matrix tbody tr").length === 10`)
	if b.eval(`window.same && document.getElementById("lost").hidden && document.getElementById("progress").hidden`) != true {
		t.Error("the page was loaded again, is lost, or still shows progress")
	}
	b.picture("dashboard")
	b.quiet()
	cancel()
	if err := <-served; err != nil && err != http.ErrServerClosed {
		t.Error(err)
	}
	b.until(`!document.getElementById("lost").hidden`) // and it tells when nobody answers any more
}
