// Package ort runs models with ONNX Runtime, through github.com/yalue/onnxruntime_go. Use
// it through package runtime.
//
// The library is looked for in CNNKIT_ORT_LIB, then where package runtime/install puts it. Its telemetry is
// turned off, unless the environment variable ORT_DISABLE_TELEMETRY says 0.
package ort

import (
	"debug/elf"
	"debug/macho"
	"debug/pe"
	"fmt"
	"os"
	goruntime "runtime"

	"github.com/cnnkit/cnnkit/runtime/install"
)

const howToInstall = "run 'cnnkit runtime install', or set CNNKIT_ORT_LIB to the library's path"

// Library is the path of the library that Open would load.
func Library() (string, error) {
	path := os.Getenv("CNNKIT_ORT_LIB")
	if path == "" {
		var err error
		if path, err = install.Where(); err != nil {
			return "", &MissingError{Component: "ONNX Runtime", Reason: err.Error(), Do: howToInstall}
		}
	} else if _, err := os.Stat(path); err != nil {
		return "", &MissingError{Component: "ONNX Runtime", Reason: fmt.Sprintf("CNNKIT_ORT_LIB: %v", err),
			Do: howToInstall}
	}
	if err := rightMachine(path); err != nil {
		return "", &MissingError{Component: "ONNX Runtime", Reason: fmt.Sprintf("%s: %v", path, err),
			Do: howToInstall}
	}
	return path, nil
}

// rightMachine reads what machine a library is for, since loading another's says little.
func rightMachine(path string) error {
	got := ""
	if f, err := elf.Open(path); err == nil {
		defer f.Close()
		got = map[elf.Machine]string{elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64"}[f.Machine]
	} else if f, err := macho.Open(path); err == nil {
		defer f.Close()
		got = map[macho.Cpu]string{macho.CpuAmd64: "amd64", macho.CpuArm64: "arm64"}[f.Cpu]
	} else if f, err := pe.Open(path); err == nil {
		defer f.Close()
		got = map[uint16]string{pe.IMAGE_FILE_MACHINE_AMD64: "amd64",
			pe.IMAGE_FILE_MACHINE_ARM64: "arm64"}[f.Machine]
	} else {
		return fmt.Errorf("not a shared library")
	}
	if got != goruntime.GOARCH {
		return fmt.Errorf("the library is for another architecture (%s) than this program (%s)", got,
			goruntime.GOARCH)
	}
	return nil
}

// Providers are the names of the execution providers besides cpu and cuda.
func Providers() []string {
	return []string{"coreml", "directml", "openvino", "qnn", "tensorrt", "webgpu", "xnnpack"}
}
