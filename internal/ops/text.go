package ops

import (
	"regexp"
	"strings"
	"unicode"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Operators on strings: StringConcat, StringSplit, StringNormalizer and RegexFullMatch.

func init() {
	text := Set(onnxio.String)
	one := func(name, typ string) []Param { return []Param{formal(name, typ)} }
	register(
		&Def{Name: "StringConcat", Versions: []int64{20}, Inputs: []Param{formal("X", "T"), formal("Y", "T")},
			Outputs: one("Z", "T"), Types: map[string]TypeSet{"T": text}, Infer: inferStringConcat,
			Eval: evalStringConcat},
		&Def{Name: "StringSplit", Versions: []int64{20}, Attrs: []AttrDef{stringA("delimiter"),
			intA("maxsplit")},
			Inputs: one("X", "T1"), Outputs: []Param{{Name: "Y", Type: "T1"}, {Name: "Z", Type: "T3"}},
			Types: map[string]TypeSet{"T1": text, "T3": Set(onnxio.Int64)}, Infer: inferStringSplit,
			Eval: evalStringSplit},
		&Def{Name: "StringNormalizer", Versions: []int64{10}, Inputs: one("X", "T"), Outputs: one("Y", "T"),
			Attrs: []AttrDef{stringA("case_change_action"), intA("is_case_sensitive"), stringA("locale"),
				stringsA("stopwords")},
			Types: map[string]TypeSet{"T": text}, Check: checkStringNormalizer, Infer: inferStringNormalizer,
			Eval: evalStringNormalizer},
		&Def{Name: "RegexFullMatch", Versions: []int64{20}, Attrs: []AttrDef{stringA("pattern")},
			Inputs: one("X", "T1"), Outputs: one("Y", "T2"),
			Types: map[string]TypeSet{"T1": text, "T2": Bools}, Check: func(n *Node) error {
				_, err := fullMatch(n)
				return err
			}, Infer: inferRegex, Eval: evalRegex},
	)
}

// stringsReady is evalReady for operators whose first input is strings.
func stringsReady(c *Eval) error {
	if err := evalReady(c); err != nil {
		return err
	}
	for i := range c.In {
		if c.Has(i) && (c.In[i].Type != onnxio.String || !hasData(c.In[i])) {
			return c.Node.Errorf("input %d is %v, not strings", i, c.In[i].Type)
		}
	}
	return nil
}

func inferStringConcat(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	c.SetType(0, onnxio.String)
	if !shaped(c, 0, 1) {
		return nil
	}
	shape, ok := broadcastDims(c.In[0].Shape, c.In[1].Shape)
	if !ok {
		return c.Node.Errorf("cannot broadcast %s with %s", shapeText(c.In[0].Shape),
			shapeText(c.In[1].Shape))
	}
	c.Set(0, onnxio.String, shape)
	return nil
}

func evalStringConcat(c *Eval) error {
	if err := stringsReady(c); err != nil {
		return err
	}
	a, b := c.In[0], c.In[1]
	dims, ok := broadcast(a.Dims, b.Dims)
	if !ok {
		return c.Node.Errorf("cannot broadcast %s with %s", dimsText(a.Dims), dimsText(b.Dims))
	}
	y, err := c.Alloc(0, onnxio.String, dims...)
	if err != nil {
		return err
	}
	i, left := 0, c.limit()
	sa, sb := spread(a.Dims, dims), spread(b.Dims, dims)
	stepA, stepB := int64(0), int64(0)
	if n := len(dims); n > 0 {
		stepA, stepB = sa[n-1], sb[n-1]
	}
	walk(dims, [][]int64{sa, sb}, func(n int64, at []int64) {
		for k := range n {
			x, z := a.Strings[at[0]+k*stepA], b.Strings[at[1]+k*stepB]
			if left -= int64(len(x) + len(z)); left < 0 {
				return
			}
			y.Strings[i] = append(append(make([]byte, 0, len(x)+len(z)), x...), z...)
			i++
		}
	})
	if left < 0 {
		return c.Node.Errorf("%w", &onnxio.LimitError{What: "bytes of all strings", Got: c.limit() - left,
			Limit: c.limit()})
	}
	return nil
}

func inferStringSplit(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	c.SetType(0, onnxio.String)
	c.SetType(1, onnxio.Int64)
	if shaped(c, 0) {
		c.Set(0, onnxio.String, append(append([]onnxio.Dim{}, c.In[0].Shape...), unknownDim))
		c.Set(1, onnxio.Int64, c.In[0].Shape)
	}
	return nil
}

// evalStringSplit pads every list of parts to the length of the longest.
func evalStringSplit(c *Eval) error {
	if err := stringsReady(c); err != nil {
		return err
	}
	x := c.In[0]
	delimiter, most := c.Node.Str("delimiter", ""), -1
	if a := c.Node.Attr("maxsplit"); a != nil && a.I >= 0 {
		most = int(min(a.I, 1<<40))
	}
	parts, longest := make([][]string, len(x.Strings)), 0
	for i, s := range x.Strings {
		parts[i] = splitText(string(s), delimiter, most)
		longest = max(longest, len(parts[i]))
	}
	y, err := c.Alloc(0, onnxio.String, append(append([]int64{}, x.Dims...), int64(longest))...)
	if err != nil {
		return err
	}
	z, err := c.Alloc(1, onnxio.Int64, x.Dims...)
	if err != nil {
		return err
	}
	for i, list := range parts {
		onnxio.Data[int64](z)[i] = int64(len(list))
		for k, s := range list {
			y.Strings[i*longest+k] = []byte(s)
		}
	}
	return nil
}

// splitText splits s at the delimiter, or without one at runs of white space, of which none stays at either
// end, at most most times (-1: always).
func splitText(s, delimiter string, most int) []string {
	if delimiter != "" {
		if most < 0 {
			return strings.Split(s, delimiter)
		}
		return strings.SplitN(s, delimiter, most+1)
	}
	if most < 0 {
		return strings.Fields(s)
	}
	var out []string
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimLeftFunc(s, unicode.IsSpace) {
		end := strings.IndexFunc(s, unicode.IsSpace)
		if end < 0 || len(out) == most {
			return append(out, s)
		}
		out, s = append(out, s[:end]), s[end:]
	}
	return out
}

func checkStringNormalizer(n *Node) error {
	switch action := n.Str("case_change_action", "NONE"); action {
	case "LOWER", "UPPER", "NONE":
		return nil
	default:
		return n.Errorf("case_change_action %q is not LOWER, UPPER or NONE", action)
	}
}

func inferStringNormalizer(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	c.SetType(0, onnxio.String)
	if !shaped(c, 0) {
		return nil
	}
	shape := append([]onnxio.Dim{}, c.In[0].Shape...)
	if len(shape) != 1 && (len(shape) != 2 || !agree(shape[0], knownDim(1))) {
		return c.Node.Errorf("input %s is not [C] or [1,C]", shapeText(shape))
	}
	shape[0] = knownDim(1)
	shape[len(shape)-1] = unknownDim
	c.Set(0, onnxio.String, shape)
	return nil
}

// evalStringNormalizer drops the stop words and changes the case of the others. Of nothing left it makes one
// empty string.
func evalStringNormalizer(c *Eval) error {
	if err := stringsReady(c); err != nil {
		return err
	}
	n, x := c.Node, c.In[0]
	if err := checkStringNormalizer(n); err != nil {
		return err
	}
	if len(x.Dims) != 1 && (len(x.Dims) != 2 || x.Dims[0] != 1) {
		return n.Errorf("input %s is not [C] or [1,C]", dimsText(x.Dims))
	}
	lower, upper := casesOf(n.Str("locale", ""))
	same := lower
	if n.Int("is_case_sensitive", 0) != 0 {
		same = func(s string) string { return s }
	}
	stops := map[string]bool{}
	if a := n.Attr("stopwords"); a != nil {
		for _, w := range a.Strings {
			stops[same(string(w))] = true
		}
	}
	change := map[string]func(string) string{"LOWER": lower, "UPPER": upper}[n.Str("case_change_action",
		"NONE")]
	var kept [][]byte
	for _, s := range x.Strings {
		switch {
		case stops[same(string(s))]:
		case change != nil:
			kept = append(kept, []byte(change(string(s))))
		default:
			kept = append(kept, s)
		}
	}
	if len(kept) == 0 {
		kept = [][]byte{{}}
	}
	dims := []int64{1, int64(len(kept))}
	y, err := c.Alloc(0, onnxio.String, dims[2-len(x.Dims):]...)
	if err == nil {
		copy(y.Strings, kept)
	}
	return err
}

// casesOf are the functions to lower and upper case in a locale; those of Turkish and Azeri keep the dotless
// i apart.
func casesOf(locale string) (lower, upper func(string) string) {
	if language := strings.ToLower(locale); strings.HasPrefix(language, "tr") ||
		strings.HasPrefix(language, "az") {
		return func(s string) string { return strings.ToLowerSpecial(unicode.TurkishCase, s) },
			func(s string) string { return strings.ToUpperSpecial(unicode.TurkishCase, s) }
	}
	return strings.ToLower, strings.ToUpper
}

// fullMatch compiles the attribute pattern, in RE2's syntax as Go's is, to match whole strings.
func fullMatch(n *Node) (*regexp.Regexp, error) {
	re, err := regexp.Compile(`\A(?:` + n.Str("pattern", "") + `)\z`)
	if err != nil {
		return nil, n.Errorf("pattern: %w", err)
	}
	return re, nil
}

func inferRegex(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	c.SetType(0, onnxio.Bool)
	if shaped(c, 0) {
		c.Set(0, onnxio.Bool, c.In[0].Shape)
	}
	return nil
}

func evalRegex(c *Eval) error {
	if err := stringsReady(c); err != nil {
		return err
	}
	re, err := fullMatch(c.Node)
	if err != nil {
		return err
	}
	y, err := c.Alloc(0, onnxio.Bool, c.In[0].Dims...)
	if err != nil {
		return err
	}
	for i, s := range c.In[0].Strings {
		onnxio.Data[bool](y)[i] = re.Match(s)
	}
	return nil
}
