package runtime

import (
	"fmt"
	"strings"

	"github.com/cnnkit/cnnkit/internal/engine"
)

// Precision is the type of numbers in which the native engine runs convolutions.
type Precision string

// The precisions. BF16 rounds maps and weights of convolutions to 8 bits where that is faster, and sums in
// float32; it needs a processor with AMX (BF16Runs), and is float32 on others.
const (
	Float32 Precision = "float32"
	BF16    Precision = "bf16"
)

// Precisions lists what ParsePrecision knows.
func Precisions() []string { return []string{string(Float32), string(BF16)} }

// ParsePrecision is the precision of that name.
func ParsePrecision(name string) (Precision, error) {
	for _, p := range Precisions() {
		if p == name {
			return Precision(p), nil
		}
	}
	return "", fmt.Errorf("no precision %q: known are %s", name, strings.Join(Precisions(), ", "))
}

// BF16Runs reports whether BF16 makes a difference on this processor.
func BF16Runs() bool { return engine.BF16Runs() }

// WithPrecision chooses the precision of the native engine; the default is Float32.
func WithPrecision(p Precision) Option { return func(c *config) { c.precision = p } }

// settlePrecision checks the precision against the engine.
func (c *config) settlePrecision() error {
	if c.precision == "" || c.precision == Float32 {
		return nil
	}
	if _, err := ParsePrecision(string(c.precision)); err != nil {
		return err
	}
	if c.engine == Auto {
		c.engine = Native
	}
	if c.engine != Native {
		return fmt.Errorf("precision %s goes with the native engine, not with %s", c.precision, c.engine)
	}
	return nil
}
