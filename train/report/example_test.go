package report_test

import (
	"fmt"
	"os"

	"github.com/cnnkit/cnnkit/train/report"
)

// A run of two epochs, as lines.
func ExampleWriteLines() {
	epochs := []report.Epoch{
		{Epoch: 1, Values: map[string]float64{"train_loss": 0.75, "validation_accuracy": 0.9, "lr": 0.01}},
		{Epoch: 2, Values: map[string]float64{"train_loss": 0.5, "validation_accuracy": 0.925, "lr": 0.001}},
	}
	if err := report.WriteLines(os.Stdout, epochs); err != nil {
		fmt.Println(err)
	}
	// Output:
	// {"epoch":1,"lr":0.01,"train_loss":0.75,"validation_accuracy":0.9}
	// {"epoch":2,"lr":0.001,"train_loss":0.5,"validation_accuracy":0.925}
}
