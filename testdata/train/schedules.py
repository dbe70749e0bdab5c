"""Records learning rates of torch.optim.lr_scheduler, for train/schedule_test.go: python schedules.py

Each case is a schedule as a recipe has it, the rate it starts from, the run's length in what it counts, and what PyTorch
gives, up to that length. Recorded with PyTorch 2.15.0.
"""
import json, pathlib, warnings
import torch
from torch.optim import lr_scheduler as S

warnings.simplefilter('ignore')
HERE = pathlib.Path(__file__).parent
MAIN = {
    'constant': lambda o, s: S.LambdaLR(o, lambda t: 1.0),
    'step': lambda o, s: S.StepLR(o, s['step_size'], s.get('gamma', 0.1)),
    'multistep': lambda o, s: S.MultiStepLR(o, s['milestones'], s.get('gamma', 0.1)),
    'exponential': lambda o, s: S.ExponentialLR(o, s['gamma']),
    'polynomial': lambda o, s: S.PolynomialLR(o, s['total'], s.get('power', 1)),
    'cosine': lambda o, s: S.CosineAnnealingLR(o, s['total'], s.get('min', 0)),
}


def run(schedule, lr, length, figures=None):
    """Rates (and momenta) of one run."""
    opt = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr, momentum=0.9)
    kind = schedule.get('kind', 'constant')
    if kind == 'one-cycle':
        m = schedule.get('momentum')
        sched = S.OneCycleLR(opt, lr, total_steps=schedule.get('total', length), pct_start=schedule.get('pct_start', 0.3),
                             div_factor=schedule.get('div_factor', 25), final_div_factor=schedule.get('final_div_factor', 1e4),
                             anneal_strategy=schedule.get('anneal', 'cos'), three_phase=schedule.get('three_phase', False),
                             cycle_momentum=bool(m), **({'base_momentum': m[0], 'max_momentum': m[1]} if m else {}))
    elif kind == 'plateau':
        sched = S.ReduceLROnPlateau(opt, mode=schedule.get('mode', 'min'), factor=schedule.get('factor', 0.1),
                                    patience=max(0, schedule.get('patience', 10)), threshold=schedule.get('threshold', 1e-4),
                                    threshold_mode=schedule.get('threshold_mode', 'rel'), cooldown=schedule.get('cooldown', 0),
                                    min_lr=schedule.get('min', 0))
    else:
        sched = None
        if w := schedule.get('warmup', 0):
            first = S.LinearLR(opt, schedule.get('warmup_start', 1 / 3), total_iters=w)
            sched = S.SequentialLR(opt, [first, MAIN[kind](opt, schedule)], milestones=[w])
        else:
            sched = MAIN[kind](opt, schedule)
    rates, momenta = [], []
    for t in range(length):
        rates.append(opt.param_groups[0]['lr'])
        momenta.append(opt.param_groups[0]['momentum'])
        opt.step()
        if kind == 'plateau':
            sched.step(figures[t])
        elif t + 1 < length:
            sched.step()
    out = {'schedule': {k: v for k, v in schedule.items() if k != 'mode'}, 'lr': lr, 'length': length, 'rates': rates}
    if 'momentum' in schedule:
        out['momenta'] = momenta
    if figures:
        out |= {'figures': figures, 'rises': schedule.get('mode') == 'max'}
    return out


def figures(n, rises):
    """Steps down by halves, with stretches where nothing is gained."""
    out = [1 / (1 + t // 5) + 1e-5 * ((t * 7) % 5) for t in range(n)]
    return [1 - x for x in out] if rises else out


CASES = [run(s, lr, n) for s, lr, n in [
    ({}, 0.1, 5),
    ({'kind': 'constant', 'warmup': 4}, 0.1, 9),
    ({'kind': 'step', 'step_size': 3}, 0.1, 12),
    ({'kind': 'step', 'step_size': 2, 'gamma': 0.7, 'warmup': 3, 'warmup_start': 0.01}, 0.3, 12),
    ({'kind': 'multistep', 'milestones': [3, 5, 5, 9], 'gamma': 0.5}, 0.1, 12),
    ({'kind': 'multistep', 'milestones': [2, 6], 'warmup': 2}, 0.1, 12),
    ({'kind': 'exponential', 'gamma': 0.9}, 0.01, 20),
    ({'kind': 'exponential', 'gamma': 0.95, 'warmup': 5}, 0.01, 20),
    ({'kind': 'polynomial', 'total': 10}, 0.1, 14),
    ({'kind': 'polynomial', 'total': 10, 'power': 0.9, 'warmup': 2}, 0.1, 14),
    ({'kind': 'cosine', 'total': 20}, 0.1, 21),
    ({'kind': 'cosine', 'total': 10, 'min': 1e-3}, 0.1, 25),
    ({'kind': 'cosine', 'total': 15, 'warmup': 5, 'warmup_start': 0.1}, 0.1, 20),
    ({'kind': 'one-cycle'}, 0.4, 50),
    ({'kind': 'one-cycle', 'pct_start': 0.25, 'anneal': 'linear', 'momentum': [0.85, 0.95]}, 0.4, 40),
    ({'kind': 'one-cycle', 'three_phase': True, 'div_factor': 10, 'final_div_factor': 100, 'momentum': [0.8, 0.9]}, 0.2, 33),
]] + [run(s, 0.1, 40, figures(40, s.get('mode') == 'max')) for s in [
    {'kind': 'plateau', 'patience': 2},
    {'kind': 'plateau', 'patience': -1, 'factor': 0.5, 'cooldown': 2, 'min': 1e-3},
    {'kind': 'plateau', 'patience': 3, 'mode': 'max', 'threshold': 0.05, 'threshold_mode': 'abs'},
    {'kind': 'plateau', 'patience': 1, 'mode': 'max', 'threshold': 0.01, 'factor': 0.3},
]]
(HERE / 'schedules.json').write_text(json.dumps(CASES) + '\n')
