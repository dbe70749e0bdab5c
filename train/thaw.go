package train

import (
	"fmt"
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
)

// checkStages refuses a run in one of whose epochs everything is frozen. graph is the
// training graph of model.
func (c Config) checkStages(model, graph *onnxio.Model) error {
	stages := []int{1}
	for _, g := range c.Groups {
		stages = append(stages, g.Epochs+1)
	}
	for _, u := range c.Unfreeze {
		stages = append(stages, u.Epoch)
	}
	slices.Sort(stages)
	for _, epoch := range slices.Compact(stages) {
		if epoch > c.Epochs {
			break
		}
		_, err := c.at(epoch).trained(model, graph)
		switch {
		case err == nil:
			continue
		case epoch == 1:
			return err
		}
		return fmt.Errorf("in epoch %d, of %d, every parameter is frozen, since the epochs of all groups are over: "+
			"end the run before it (epochs=%d), give a group more epochs, or leave the last layer out of groups that have epochs",
			epoch, c.Epochs, epoch-1)
	}
	return nil
}

// thaw unfreezes what the epoch in progress trains and the one before did not, and freezes groups whose
// epochs are over. The weights and the optimiser's states stay; those of parameters that were frozen begin at
// zero, and their rules count steps from here.
func (r *run) thaw() error {
	next := r.recipe.at(r.at)
	sameGroups := slices.EqualFunc(next.Groups, r.cfg.Groups, func(a, b Group) bool {
		return a.Freeze == b.Freeze
	})
	if len(next.Unfreeze) == len(r.cfg.Unfreeze) && sameGroups {
		return nil
	}
	s, err := r.State()
	if err != nil {
		return err
	}
	trained := r.trainer.Params()
	if err := r.trainer.Export(r.model); err != nil {
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
	r.stop(trained, s)
	s.fresh = true
	return r.Restore(s)
}

// stop lets the averages of the parameters that are not trained any more go on: they approach the values that
// the others train with, as if the rate were 0.
func (r *run) stop(trained []string, s *State) {
	still := r.trainer.Params()
	for _, name := range trained {
		if slices.Contains(still, name) {
			continue
		}
		if r.cfg.EMA > 0 {
			slots := s.slots[name]
			r.means[name] = slots[len(slots)-1]
		}
		if r.means[name] != nil {
			r.stopped = append(r.stopped, name)
		}
	}
}
