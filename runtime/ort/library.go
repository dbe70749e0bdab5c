// Package ort runs models with ONNX Runtime, through github.com/yalue/onnxruntime_go. Use it through package runtime.
//
// The library is looked for in CNNKIT_ORT_LIB, then where package runtime/install puts it. Its telemetry is turned off,
// unless the environment variable ORT_DISABLE_TELEMETRY says 0.
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

// MissingError says that a component is not there, why, and what to do about it.
type MissingError struct {
	Component string // "ONNX Runtime", "the CUDA execution provider"
	Reason    string
	Do        string
}

// Error is one sentence.
func (e *MissingError) Error() string { return e.Component + " is missing: " + e.Reason }

// Options of a Backend.
type Options struct {
	Threads int
	CUDA    int    // device, negative: CPU
	Profile string // prefix of the profile's file name
}

const howToInstall = "run 'cnnkit runtime install', or set CNNKIT_ORT_LIB to the library's path"

// Library is the path of the library that Open would load.
func Library() (string, error) {
	path := os.Getenv("CNNKIT_ORT_LIB")
	if path == "" {
		var err error
		if path, err = install.Where(); err != nil {
			return "", &MissingError{"ONNX Runtime", err.Error(), howToInstall}
		}
	} else if _, err := os.Stat(path); err != nil {
		return "", &MissingError{"ONNX Runtime", fmt.Sprintf("CNNKIT_ORT_LIB: %v", err), howToInstall}
	}
	if err := rightMachine(path); err != nil {
		return "", &MissingError{"ONNX Runtime", fmt.Sprintf("%s: %v", path, err), howToInstall}
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
		got = map[uint16]string{pe.IMAGE_FILE_MACHINE_AMD64: "amd64", pe.IMAGE_FILE_MACHINE_ARM64: "arm64"}[f.Machine]
	} else {
		return fmt.Errorf("not a shared library")
	}
	if got != goruntime.GOARCH {
		return fmt.Errorf("the library is for another architecture (%s) than this program (%s)", got, goruntime.GOARCH)
	}
	return nil
}
