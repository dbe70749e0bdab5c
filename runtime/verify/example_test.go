package verify_test

import (
	"context"
	"fmt"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/runtime"
	"github.com/cnnkit/cnnkit/runtime/verify"
)

// The native engine and onnx-go, which share no code, give the same answers.
func Example() {
	m, err := builders.Build("lenet5", builders.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	var sessions []runtime.Session
	for _, engine := range []runtime.Engine{runtime.Native, runtime.OnnxGo} {
		s, err := runtime.OpenModel(m, runtime.WithEngine(engine))
		if err != nil {
			fmt.Println(err)
			return
		}
		defer s.Close()
		sessions = append(sessions, s)
	}
	in, err := verify.Random(sessions[0].Inputs(), 2, 1)
	if err != nil {
		fmt.Println(err)
		return
	}
	e := verify.New(1e-5, sessions...)
	if err := e.Run(context.Background(), in); err != nil {
		fmt.Println(err)
		return
	}
	p := e.Pairs[0]
	fmt.Println(p.A, p.B, p.OK, p.Agree, "of", p.Labels)
	// Output: native onnxgo true 2 of 2
}
