"""Records torch.optim.Muon's steps, for train/muon_test.go: python muon.py

PyTorch makes its iteration in bfloat16; here it is made in float64 by the same formulas, and PyTorch's own result is
recorded beside it. Gradients come from uniform(), as in losses.py. Recorded with PyTorch 2.15.0.
"""
import json, pathlib
import torch
import torch.optim._muon as muon
from losses import uniform

HERE = pathlib.Path(__file__).parent
SHAPES = [(6, 10), (10, 6), (7, 7)]


def run(shape, dtype, **options):
    n = shape[0] * shape[1]
    p = torch.nn.Parameter(torch.from_numpy(uniform(n, 21)).reshape(shape).to(dtype))
    opt = torch.optim.Muon([p], **options)
    for step in range(6):
        p.grad = torch.from_numpy(uniform(n, 30 + step)).reshape(shape).to(dtype)
        opt.step()
    return p.detach().double().flatten().tolist()


def in_float64(grad, coefficients, steps, eps):
    a, b, c = coefficients
    x = grad.double()
    if x.size(0) > x.size(1):
        x = x.T
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if grad.size(0) > grad.size(1) else x


out = []
for shape in SHAPES:
    for options in ({'lr': 0.05, 'weight_decay': 0.1}, {'lr': 0.02, 'weight_decay': 0, 'momentum': 0.6, 'ns_steps': 3}):
        theirs = run(shape, torch.float32, **options)
        original, muon._zeropower_via_newtonschulz = muon._zeropower_via_newtonschulz, in_float64
        out.append({'shape': shape, 'options': options, 'pytorch': theirs, 'float64': run(shape, torch.float64, **options)})
        muon._zeropower_via_newtonschulz = original
(HERE / 'muon.json').write_text(json.dumps(out) + '\n')
