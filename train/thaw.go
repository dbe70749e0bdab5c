package train

import (
	"fmt"
	"slices"
)

// thaw unfreezes what the epoch in progress trains and the one before did not, and freezes groups whose epochs are over. The
// weights and the optimiser's states stay; those of parameters that were frozen begin at zero, and their rules count steps
// from here.
func (r *run) thaw() error {
	next := r.recipe.at(r.at)
	sameGroups := slices.EqualFunc(next.Groups, r.cfg.Groups, func(a, b Group) bool { return a.Freeze == b.Freeze })
	if len(next.Unfreeze) == len(r.cfg.Unfreeze) && sameGroups {
		return nil
	}
	s, err := r.State()
	if err != nil {
		return err
	}
	if err := r.trainer.Export(r.model); err != nil { // what is frozen stays at its value, not at its average
		return err
	}
	r.cfg.Unfreeze, r.cfg.Groups = next.Unfreeze, next.Groups
	if err := r.makeGraph(); err != nil {
		return fmt.Errorf("freezing for epoch %d: %w", r.at, err)
	}
	if err := r.cutTrunk(); err != nil {
		return fmt.Errorf("freezing for epoch %d: %w", r.at, err)
	}
	if err := r.makeTrainer(); err != nil {
		return fmt.Errorf("freezing for epoch %d: %w", r.at, err)
	}
	r.kept = nil
	if err := r.makeCaches(); err != nil {
		return err
	}
	s.fresh = true
	return r.Restore(s)
}
