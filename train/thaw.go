package train

import "fmt"

// thaw unfreezes what the epoch in progress trains and the one before did not. The weights and the optimiser's states stay;
// those of parameters that were frozen begin at zero, and their rules count steps from here.
func (r *run) thaw() error {
	next := r.recipe.at(r.at)
	if len(next.Unfreeze) == len(r.cfg.Unfreeze) {
		return nil
	}
	s, err := r.State()
	if err != nil {
		return err
	}
	r.cfg.Unfreeze = next.Unfreeze
	if err := r.makeGraph(); err != nil {
		return fmt.Errorf("unfreezing in epoch %d: %w", r.at, err)
	}
	if err := r.cutTrunk(); err != nil {
		return fmt.Errorf("unfreezing in epoch %d: %w", r.at, err)
	}
	if err := r.makeTrainer(); err != nil {
		return fmt.Errorf("unfreezing in epoch %d: %w", r.at, err)
	}
	r.kept = nil
	if err := r.makeCaches(); err != nil {
		return err
	}
	s.fresh = true
	return r.Restore(s)
}
