package main

import (
	"fmt"
	goruntime "runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/internal/kernels"
)

func versionCommand() *cli.Command {
	return &cli.Command{
		Name: "version", Usage: "print the versions of cnnkit, Go and the kernels",
		UsageText: "cnnkit version [--json]",
		Flags:     []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			v := struct {
				Version string `json:"version"`
				Go      string `json:"go"`
				OS      string `json:"os"`
				Arch    string `json:"arch"`
				Kernels string `json:"kernels"`
			}{moduleVersion(), goruntime.Version(), goruntime.GOOS, goruntime.GOARCH, kernels.Level()}
			if c.Bool("json") {
				return printJSON(c, v)
			}
			fmt.Fprintf(c.App.Writer, "cnnkit %s (%s, %s/%s, kernels %s)\n", v.Version, v.Go, v.OS,
				v.Arch, v.Kernels)
			return nil
		},
	}
}

// moduleVersion is the version the binary was installed as, or the commit it was built from.
func moduleVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "devel " + s.Value[:12]
		}
	}
	return "devel"
}
