package engine

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/internal/ops"
)

// tables are the files that may name operators: of fast paths and of patterns.
var tables = []string{"paths.go", "paths_bytes.go", "paths_elementwise.go", "paths_lines.go", "patterns.go"}

// makers are the functions that make a node of an operator.
var makers = []string{"newNode", "Emit", "linear", "evaluated"}

// Operators have their names in the tables alone. Elsewhere a name may stand where a node is made or an error
// worded: passes ask the table, or the operator's definition, for a property.
func TestOperatorsAreNamedInTables(t *testing.T) {
	names := map[string]bool{"ToBlocked": true, "ToPlain": true, "ToBF16": true, "ToBytes": true}
	for _, d := range ops.Defs() {
		names[d.Name] = true
	}
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(err, files)
	}
	for _, file := range files {
		if slices.Contains(tables, file) || strings.HasSuffix(file, "_test.go") {
			continue
		}
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range namesOperators(t, file, src, names) {
			t.Errorf("%s: make it a property of a row of %v, or of its definition in package ops",
				found, tables)
		}
	}
}

// The test sees each way of asking for a name.
func TestNamesOperatorsFindsThem(t *testing.T) {
	const src = `package engine

const name = "Conv"

var kinds = map[string]int{"Relu": 1}

func f(o *op) bool {
	switch o.node.OpType {
	case "Add":
		return true
	}
	if o.node.OpType != "Mul" || o.is("", "Gemm") {
		return false
	}
	newNode("Identity", "", "y")
	panic(UnsupportedError{Op: "Scan"})
}`
	names := map[string]bool{}
	for _, d := range ops.Defs() {
		names[d.Name] = true
	}
	found := strings.Join(namesOperators(t, "f.go", []byte(src), names), " ")
	for _, name := range []string{"Conv", "Relu", "Add", "Mul", "Gemm"} {
		if !strings.Contains(found, strconv.Quote(name)) {
			t.Errorf("%s is not found: %s", name, found)
		}
	}
	for _, name := range []string{"Identity", "Scan"} {
		if strings.Contains(found, strconv.Quote(name)) {
			t.Errorf("%s only makes a node or words an error", name)
		}
	}
}

// namesOperators lists where a file has an operator's name as a string, but for the makers of nodes and what
// they and errors are made of.
func namesOperators(t *testing.T, file string, src []byte, names map[string]bool) (found []string) {
	set := token.NewFileSet()
	tree, err := parser.ParseFile(set, file, src, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(tree, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			return !slices.Contains(makers, called(n))
		case *ast.KeyValueExpr:
			if key, ok := n.Key.(*ast.Ident); ok && (key.Name == "Op" || key.Name == "OpType") {
				return false
			}
		case *ast.BasicLit:
			if s, err := strconv.Unquote(n.Value); err == nil && n.Kind == token.STRING && names[s] {
				found = append(found, set.Position(n.Pos()).String()+": "+n.Value)
			}
		}
		return true
	})
	return found
}

// called is the name of the function that a call is of.
func called(n *ast.CallExpr) string {
	switch f := n.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return f.Sel.Name
	}
	return ""
}
