package convert

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/cnnkit/cnnkit/onnxio"
)

const formatMap = "key map"

// KeyMap renames keys: from those of a file to those of a model.
type KeyMap struct {
	exact map[string]string
	rules []mapRule
	order []string // the left sides, as written
}

// mapRule is a line with a pattern.
type mapRule struct {
	left    string
	pattern *regexp.Regexp
	right   string // as Regexp.ExpandString takes it
}

const (
	maxMap      = 1 << 20 // bytes of a key map
	maxPatterns = 1000    // each of which every key may be compared with
)

// ParseKeyMap reads a JSON object {"key in the file": "key in the model"}, or lines with the two keys
// separated by "->", "=", a comma or blanks; empty lines and lines that start with # are skipped. In the left
// key each * stands for any text, the shortest that fits, and the * of the right key are these texts in their
// order; $1, $2, ... (or \1, \2, ...) name them. A left key with a parenthesis is a regular expression (Go's
// syntax) for the whole key.
func ParseKeyMap(text []byte) (*KeyMap, error) {
	if len(text) > maxMap {
		return nil, &onnxio.LimitError{What: "bytes of a key map", Got: int64(len(text)), Limit: maxMap}
	}
	if !utf8.Valid(text) {
		return nil, malformed(formatMap, "", "is not UTF-8")
	}
	m := &KeyMap{exact: map[string]string{}}
	if strings.HasPrefix(strings.TrimSpace(string(text)), "{") && json.Valid(text) {
		p := newJSON(text, formatMap, "")
		return m, p.object(func(left string) error {
			right, err := p.str()
			if err != nil {
				return err
			}
			return m.add(left, right)
		})
	}
	for i, line := range strings.Split(strings.TrimPrefix(string(text), "\uFEFF"), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		left, right, ok := twoKeys(line)
		if !ok {
			return nil, malformed(formatMap, fmt.Sprintf("line %d", i+1),
				"%.80q is not two keys, as in: features.0.weight -> conv1.weight", line)
		}
		if err := m.add(left, right); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// twoKeys cuts a line at the first separator of the kinds that it has.
func twoKeys(line string) (left, right string, ok bool) {
	for _, sep := range []string{"->", "=", ",", "\t", " "} {
		left, right, ok = strings.Cut(line, sep)
		if !ok {
			continue
		}
		left, right = strings.TrimSpace(left), strings.TrimSpace(right)
		return left, right, left != "" && right != "" && !strings.ContainsAny(left+right, " \t")
	}
	return "", "", false
}

// add takes a rule; a left key must come once.
func (m *KeyMap) add(left, right string) error {
	bad := func(msg string, args ...any) error {
		return malformed(formatMap, strconv.Quote(left), msg, args...)
	}
	if left == "" || right == "" {
		return bad("a key is empty")
	}
	if !strings.ContainsAny(left, "*(") {
		if _, twice := m.exact[left]; twice {
			return bad("comes twice")
		}
		if strings.Contains(right, "*") {
			return bad("%q has a *, to which nothing of the left key belongs", right)
		}
		m.exact[left] = right
		m.order = append(m.order, left)
		return nil
	}
	if len(m.rules) >= maxPatterns {
		return &onnxio.LimitError{What: "patterns of a key map", Got: maxPatterns + 1, Limit: maxPatterns}
	}
	r, err := newRule(left, right)
	if err != nil {
		return bad("%v", err)
	}
	m.rules = append(m.rules, r)
	m.order = append(m.order, left)
	return nil
}

// newRule compiles a left key with * or groups, and rewrites its right key for Regexp.ExpandString.
func newRule(left, right string) (mapRule, error) {
	source := left
	if !strings.Contains(left, "(") {
		source = strings.ReplaceAll(regexp.QuoteMeta(left), `\*`, `(.*?)`)
	}
	pattern, err := regexp.Compile(`^(?:` + source + `)$`)
	if err != nil {
		return mapRule{}, err
	}
	to, stars, err := expansion(right, pattern.NumSubexp())
	if err != nil {
		return mapRule{}, err
	}
	if stars > 0 && stars != pattern.NumSubexp() {
		return mapRule{}, fmt.Errorf("gives %d texts, and %q asks for %d", pattern.NumSubexp(), right, stars)
	}
	return mapRule{left, pattern, to}, nil
}

// expansion turns *, $1 and \1 into ${1}; groups is how many there are.
func expansion(right string, groups int) (string, int, error) {
	var b strings.Builder
	stars := 0
	for i := 0; i < len(right); i++ {
		ch := right[i]
		digits := i + 1
		for digits < len(right) && digits < i+4 && right[digits] >= '0' && right[digits] <= '9' {
			digits++
		}
		switch {
		case ch == '*':
			stars++
			fmt.Fprintf(&b, "${%d}", stars)
		case (ch == '$' || ch == '\\') && digits > i+1:
			n, _ := strconv.Atoi(right[i+1 : digits])
			if n < 1 || n > groups {
				return "", 0, fmt.Errorf("%q asks for text %d of %d", right, n, groups)
			}
			fmt.Fprintf(&b, "${%d}", n)
			i = digits - 1
		case ch == '$':
			b.WriteString("$$")
		default:
			b.WriteByte(ch)
		}
	}
	return b.String(), stars, nil
}

// Rename gives the model's key, and the left side of the rule that says so; without one, the key stays. Exact
// keys go before patterns, and these in their order.
func (m *KeyMap) Rename(key string) (name, rule string) {
	if m == nil {
		return key, ""
	}
	if to, ok := m.exact[key]; ok {
		return to, key
	}
	for _, r := range m.rules {
		if at := r.pattern.FindStringSubmatchIndex(key); at != nil {
			return string(r.pattern.ExpandString(nil, r.right, key, at)), r.left
		}
	}
	return key, ""
}

// unused lists the rules that none of used is.
func (m *KeyMap) unused(used map[string]bool) []string {
	if m == nil {
		return nil
	}
	var out []string
	for _, left := range m.order {
		if !used[left] {
			out = append(out, left)
		}
	}
	return out
}
