package check

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// TestSuite checks every model of the ONNX conformance suite. They are all valid, so nothing but what is not
// supported here may be found.
func TestSuite(t *testing.T) {
	root := os.Getenv("CNNKIT_ONNX_SUITE")
	if root == "" {
		t.Skip("CNNKIT_ONNX_SUITE is not set: the folder of ONNX's conformance cases")
	}
	models, clean := 0, 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".onnx" {
			return err
		}
		m, err := onnxio.Load(path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			return nil
		}
		models++
		err = Model(m)
		if err == nil {
			clean++
		}
		for _, e := range problems(err) {
			var unsupported *onnxio.UnsupportedError
			var limit *onnxio.LimitError
			if !errors.As(e, &unsupported) && !(errors.As(e, &limit) && limit.Limit == maxProblems) {
				t.Errorf("%s: %v", path, e)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d models, %d of them without a remark", models, clean)
}

// problems takes the joined error of Model apart.
func problems(err error) []error {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		return j.Unwrap()
	}
	if err == nil {
		return nil
	}
	return []error{err}
}
