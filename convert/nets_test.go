package convert

import (
	"bytes"
	"errors"
	"path/filepath"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
)

// TestApplyNetworks takes each network's weights through a file into a network with other weights.
func TestApplyNetworks(t *testing.T) {
	for _, name := range []string{"lenet5", "minivgg", "resnet", "unet"} {
		t.Run(name, func(t *testing.T) {
			from, err := builders.Build(name, builders.Config{Seed: 1})
			if err != nil {
				t.Fatal(err)
			}
			to, err := builders.Build(name, builders.Config{Seed: 2})
			if err != nil {
				t.Fatal(err)
			}
			sd, err := FromModel(from)
			if err != nil {
				t.Fatal(err)
			}
			wrapped := &StateDict{}
			for _, e := range sd.Entries() {
				wrapped.Set("module._orig_mod."+e.Name, e.Tensor)
			}
			path := filepath.Join(t.TempDir(), "x.pth")
			if err := Save(path, wrapped); err != nil {
				t.Fatal(err)
			}
			got, err := Load(path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Apply(to, got, ApplyOptions{Strict: true}); err != nil {
				t.Fatal(err)
			}
			for _, e := range sd.Entries() {
				if x := to.Graph.Initializer(e.Name); x != nil && !bytes.Equal(x.Raw, e.Tensor.Raw) {
					t.Errorf("%s differs", e.Name)
				}
			}
			got.Set("conv1.weigth", got.Entries()[0].Tensor.Clone())
			var me *MatchError
			rep, err := Apply(to, got, ApplyOptions{Strict: true})
			if !errors.As(err, &me) || len(rep.Unexpected) != 1 {
				t.Errorf("a misspelt key: %v", err)
			}
		})
	}
}
