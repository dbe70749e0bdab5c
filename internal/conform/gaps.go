package conform

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// Gaps are the cases that an engine fails, with the reason of each.
type Gaps map[string]string

// ReadGaps reads a list: a case and its reason on each line, apart by a tab, comments behind #. A file that
// is not there is an empty list.
func ReadGaps(path string) (Gaps, error) {
	g := Gaps{}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return g, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		text := lines.Text()
		if text == "" || text[0] == '#' {
			continue
		}
		name, reason, ok := strings.Cut(text, "\t")
		if !ok || strings.TrimSpace(reason) == "" || g[name] != "" {
			return nil, fmt.Errorf("%s: %q has no reason or is there twice", path, name)
		}
		g[name] = reason
	}
	return g, lines.Err()
}

// Write writes a list that ReadGaps reads, sorted.
func (g Gaps) Write(path, comment string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n", comment)
	for _, name := range slices.Sorted(maps.Keys(g)) {
		fmt.Fprintf(&b, "%s\t%s\n", name, g[name])
	}
	return os.WriteFile(path, []byte(b.String()), 0o644)
}
