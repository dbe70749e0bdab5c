package engine

import (
	"testing"

	"github.com/cnnkit/cnnkit/builders"
)

// What folding and fusing leave of users and producers is what index finds anew.
func TestLinksWhileFusing(t *testing.T) {
	m, err := builders.Build("resnet18", builders.Config{Input: [3]int{3, 32, 32}, Classes: 10})
	if err != nil {
		t.Fatal(err)
	}
	m.Graph.Inputs[0].Type.Shape[0].Param, m.Graph.Inputs[0].Type.Shape[0].Value = "", 2
	g, err := importModel(m, Options{}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	ops := len(g.ops)
	foldAffine(g)
	compareLinks(t, g)
	for i := 0; i < len(g.ops); i++ {
		for fuseInto(g, g.ops[i]) {
		}
	}
	compareLinks(t, g)
	if len(g.ops) > ops/2 {
		t.Errorf("%d of %d ops are left: nothing was fused", len(g.ops), ops)
	}
}

func compareLinks(t *testing.T, g *graph) {
	t.Helper()
	type links struct {
		producer *op
		users    map[*op]int
	}
	of := func() map[string]links {
		all := map[string]links{}
		for name, v := range g.values {
			l := links{v.producer, map[*op]int{}}
			for _, u := range v.users {
				l.users[u]++
			}
			all[name] = l
		}
		return all
	}
	got := of()
	g.index()
	for name, want := range of() {
		if len(got[name].users) != len(want.users) || got[name].producer != want.producer {
			t.Errorf("%q is made by %v and read by %v, want %v and %v", name, got[name].producer,
				got[name].users, want.producer, want.users)
			continue
		}
		for u, n := range want.users {
			if got[name].users[u] != n {
				t.Errorf("%v reads %q %d times, want %d", u, name, got[name].users[u], n)
			}
		}
	}
}
