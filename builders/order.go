package builders

import (
	"slices"
	"strings"

	"github.com/cnnkit/cnnkit/onnxio"
)

// inOrder arranges the parameters of the scope's modules names as in PyTorch's state dict, where modules
// stand in the order of their making, whereas here they stand in that of their use. The parameters of other
// modules stay where they are.
func (b *Builder) inOrder(names ...string) {
	all := b.root.graph.Initializers
	rank := func(t *onnxio.Tensor) int {
		return slices.IndexFunc(names, func(n string) bool {
			return strings.HasPrefix(t.Name, b.scope+n+".")
		})
	}
	var places []int
	var own []*onnxio.Tensor
	for i, t := range all {
		if rank(t) >= 0 {
			places, own = append(places, i), append(own, t)
		}
	}
	slices.SortStableFunc(own, func(x, y *onnxio.Tensor) int { return rank(x) - rank(y) })
	for i, at := range places {
		all[at] = own[i]
	}
}
