// Command gen writes the assembly of package kernels and its Go declarations, for AVX2 and AVX-512, from one
// description of each kernel.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"go/format"
	"log"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/pass"
	"github.com/mmcloughlin/avo/printer"
	"github.com/mmcloughlin/avo/reg"
)

const block = 16 // lanes of a channel block and of a row of weights, as kernels.Block

// isa is an instruction set: how many floats a vector has, and how wide the register tiles are.
type isa struct {
	name   string
	lanes  int
	block  int  // lanes of a pixel
	evex   bool // 32 registers and embedded broadcast
	pixels int  // widest tile of the convolution
	depth  int  // deepest tile of the weight gradient
	taps   int  // most of the depthwise weight gradient
	quads  quads
	paired bool // two panels of weights side by side
}

// quads are the limits of the kernels for groups of four channels.
type quads struct{ pixels, taps int }

var isas = []isa{
	{name: "AVX2", lanes: 8, block: block, pixels: 6, depth: 6, taps: 6, quads: quads{6, 1}},
	{name: "AVX512", lanes: 16, block: block, evex: true, pixels: 28, depth: 28, taps: 9,
		quads: quads{14, 6}},
}

// narrow are the same for maps of 8 lanes.
var narrow = []isa{
	{name: "NarrowAVX2", lanes: 8, block: 8, pixels: 12, depth: 12},
	{name: "NarrowAVX512", lanes: 8, block: 8, evex: true, pixels: 28, depth: 28},
}

// pair is for two panels of weights at a time: a float of a row is broadcast once for two products, so that
// the loads keep up with two multiply-adds a cycle.
var pair = isa{name: "PairAVX512", lanes: 16, block: 2 * block, evex: true, pixels: 14, paired: true}

// few is for maps of up to 4 lanes.
var few = isa{name: "FewAVX2", lanes: 4, block: 4}

// gen emits kernels for one instruction set.
type gen struct {
	*build.Context
	isa
	// function -> Go type of its only argument, where avo's parser does not know it
	types   map[string]string
	numbers map[string]operand.Mem // constants so far
	passes  int                    // labels so far of routines of several loops
}

func newGen(c *build.Context, i isa, types map[string]string) *gen {
	return &gen{Context: c, isa: i, types: types, numbers: map[string]operand.Mem{}}
}

// vectors is the number of vectors of a pixel.
func (g *gen) vectors() int { return g.block / g.lanes }

// vec is a fresh vector register.
func (g *gen) vec() reg.VecVirtual {
	switch g.lanes {
	case 16:
		return g.ZMM()
	case 4:
		return g.XMM()
	}
	return g.YMM()
}

func (g *gen) vecs(n int) []reg.VecVirtual {
	v := make([]reg.VecVirtual, n)
	for i := range v {
		v[i] = g.vec()
	}
	return v
}

// zero clears a vector.
func (g *gen) zero(v reg.VecVirtual) {
	if g.evex {
		g.VPXORD(v, v, v)
	} else {
		g.VXORPS(v, v, v)
	}
}

// text begins a function; doc is its scalar loop.
func (g *gen) text(name, signature string, doc ...string) {
	name += g.name
	doc[0] = name + " " + doc[0]
	g.Function(name)
	g.Attributes(attr.NOSPLIT)
	g.Doc(doc...)
	g.Pragma("noescape")
	if strings.HasPrefix(signature, "func(a *") {
		g.types[name] = strings.TrimSuffix(strings.TrimPrefix(signature, "func(a *"), ")")
		signature = "func(a *byte)"
	}
	g.SignatureExpr(signature)
}

func (g *gen) ret() {
	g.VZEROUPPER()
	g.RET()
}

// arg loads a pointer or an int.
func (g *gen) arg(name string) reg.Register { return g.Load(g.Param(name), g.GP64()) }

func at(base reg.Register, disp int) operand.Mem { return operand.Mem{Base: base, Disp: disp} }

func main() {
	log.SetFlags(0)
	out := flag.String("asm", "", "assembly file")
	stubs := flag.String("go", "", "Go file")
	other := flag.String("other", "",
		"Go file of builds without assembly; the elementwise routines are written then")
	flag.Parse()
	c := build.NewContext()
	c.ConstraintExpr("amd64,!purego")
	types := map[string]string{}
	if *other != "" {
		for _, i := range isas {
			g := newGen(c, i, types)
			g.elementwise()
		}
		write(*other, formatted(elementwiseStubs()))
	} else {
		products(c, types)
	}
	f, err := c.Result()
	if err != nil {
		log.Fatalf("%+v", err)
	}
	if err := pass.Compile.Execute(f); err != nil {
		log.Fatalf("%+v", err)
	}
	asm, err := printer.NewGoAsm(printer.Config{Name: "_gen", Pkg: "kernels"}).Print(f)
	if err != nil {
		log.Fatalf("%+v", err)
	}
	write(*out, asm)
	choices := tileChoices
	if *other != "" {
		choices = elementwiseChoices
	}
	write(*stubs, formatted(declarations(f, types, choices)))
}

func formatted(source []byte) []byte {
	src, err := format.Source(source)
	if err != nil {
		log.Fatalf("%+v", err)
	}
	return src
}

// products emits the routines of convolutions, matrix products and what goes with them.
func products(c *build.Context, types map[string]string) {
	for _, i := range isas {
		g := newGen(c, i, types)
		g.convolution()
		g.gradient()
		g.depthwise()
		g.gemv()
		g.maps()
		g.pickLanes()
		g.flat()
		g.winograd()
		g.winogradRows()
		g.windows()
	}
	for _, i := range narrow {
		g := newGen(c, i, types)
		g.convolution()
		g.gradient()
		g.maxPairs()
		g.maxPairsBackward()
		g.winogradRows()
	}
	newGen(c, pair, types).convolution()
	newGen(c, few, types).fewLanes()
}

func write(path string, data []byte) {
	if err := os.WriteFile(path, data, 0o644); err != nil {
		log.Fatalf("%+v", err)
	}
}

// declarations is the Go file that declares the assembly; choices adds the functions that choose among it.
func declarations(f *ir.File, types map[string]string, choices func(*bytes.Buffer)) []byte {
	var b bytes.Buffer
	fmt.Fprint(&b, "// Code generated by _gen. DO NOT EDIT.\n\n//go:build amd64 && !purego\n\npackage kernels\n\n")
	for _, fn := range f.Functions() {
		for _, line := range fn.Doc {
			fmt.Fprintln(&b, strings.TrimRight("// "+line, " "))
		}
		signature := fn.Signature.String()
		if t := types[fn.Name]; t != "" {
			signature = "(a *" + t + ")"
		}
		fmt.Fprintf(&b, "//\n//go:noescape\nfunc %s%s\n\n", fn.Name, signature)
	}
	choices(&b)
	return b.Bytes()
}

// tileChoices picks a tile by its width.
func tileChoices(b *bytes.Buffer) {
	for _, i := range isas {
		choice(b, "depthTiles"+i.name, "p", "tile", i.pixels)
		choice(b, "depthGradTiles"+i.name, "k", "depthGradTile", i.taps)
		choice(b, "quadTiles"+i.name, "p", "tile", i.quads.pixels)
		choice(b, "quadGradTiles"+i.name, "k", "depthGradTile", i.quads.taps)
		fmt.Fprintf(b, "const (\ndepthGradTaps%s = %d\nquadWidth%s = %d\nquadGradTaps%s = %d\n)\n\n",
			i.name, i.taps, i.name, i.quads.pixels, i.name, i.quads.taps)
	}
	choice(b, "convTiles"+pair.name, "p", "tile", pair.pixels)
	fmt.Fprintf(b, "const tileWidth%s = %d\n\n", pair.name, pair.pixels)
	for _, i := range append(isas, narrow...) {
		choice(b, "convTiles"+i.name, "p", "tile", i.pixels)
		choice(b, "gradTiles"+i.name, "k", "gradTile", i.depth)
		together(b, i)
		fmt.Fprintf(b, "const (\ntileWidth%s = %d\ngradDepth%s = %d\n)\n\n", i.name, i.pixels,
			i.name, i.depth)
	}
}

// together is the choice of a tile of several runs.
func together(b *bytes.Buffer, i isa) {
	fmt.Fprintf(b, "// gradRuns%s calls the routine for m runs of k floats.\nfunc gradRuns%s(m, k int, a *gradTile) {\nswitch (struct{ m, k int }{m, k}) {\n", i.name, i.name)
	most := ""
	for _, k := range slices.Sorted(maps.Keys(shortRuns)) {
		for m := 2; m <= i.mostRuns(k); m++ {
			fmt.Fprintf(b, "case struct{ m, k int }{%d, %d}:\ngradTile%dx%d%s(a)\n", m, k, m, k, i.name)
		}
		most += fmt.Sprintf("case %d:\nreturn %d\n", k, i.mostRuns(k))
	}
	fmt.Fprintf(b, "default:\npanic(\"kernels: no tile of so many runs\")\n}\n}\n\n")
	fmt.Fprintf(b, "// mostRuns%s is the number of runs of k floats that one tile takes at most.\nfunc mostRuns%s(k int) int {\nswitch k {\n%s}\nreturn 1\n}\n\n", i.name, i.name, most)
}

// choice is a switch and not a table of functions: a call through a variable would make its argument escape.
func choice(b *bytes.Buffer, name, arg, typ string, most int) {
	fmt.Fprintf(b, "// %s calls the routine for %s.\nfunc %s(%s int, a *%s) {\nswitch %s {\n", name, arg,
		name, arg, typ, arg)
	base, suffix, _ := strings.Cut(name, "Tiles")
	for i := 1; i <= most; i++ {
		fmt.Fprintf(b, "case %d:\n%sTile%d%s(a)\n", i, base, i, suffix)
	}
	fmt.Fprintf(b, "default:\npanic(\"kernels: no tile of this width\")\n}\n}\n\n")
}
