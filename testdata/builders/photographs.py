"""Records what torchvision makes of 20 photographs, for cmd/cnnkit/photographs_test.go.

    python photographs.py CNNKIT PETS

CNNKIT is the program, PETS the folder of the Oxford-IIIT Pet data set (Parkhi, Vedaldi, Zisserman, Jawahar; CC BY-SA 4.0),
whose photographs are read and not kept. Weights are those of `cnnkit build NAME --seed 0`, whose answers are all alike; so the
last layer is scaled until the logits deviate by 1.5, and photographs.json says by how much. photographs.bin has the
probabilities, float32 [3,20,1000]. Photographs are prepared by PIL and by torchvision's own transform of the published weights.
Recorded with torchvision 0.29.2.
"""
import json, pathlib, subprocess, sys, tempfile
import numpy as np
import torch
import torchvision
from PIL import Image

HERE = pathlib.Path(__file__).parent
NETWORKS = {'resnet18': torchvision.models.ResNet18_Weights.IMAGENET1K_V1,
            'mobilenet_v3_large': torchvision.models.MobileNet_V3_Large_Weights.IMAGENET1K_V1,
            'efficientnet_b0': torchvision.models.EfficientNet_B0_Weights.IMAGENET1K_V1}


def main(program, pets):
    torch.set_num_threads(2)
    files = sorted(p for p in pathlib.Path(pets, 'images').iterdir() if p.suffix == '.jpg')
    files = files[::max(1, len(files) // 20)][:20]
    out, last = [], {}
    with tempfile.TemporaryDirectory() as work:
        for name, weights in NETWORKS.items():
            subprocess.run([program, 'build', name, '--seed', '0', '--out', f'{work}/m.onnx'], check=True, stdout=subprocess.DEVNULL)
            subprocess.run([program, 'convert', f'{work}/m.onnx', f'{work}/m.pth'], check=True, stdout=subprocess.DEVNULL)
            model = getattr(torchvision.models, name)(weights=None)
            missing = model.load_state_dict(torch.load(f'{work}/m.pth', weights_only=True), strict=False)
            assert all(k.endswith('num_batches_tracked') for k in missing.missing_keys) and not missing.unexpected_keys
            prepare = weights.transforms()
            x = torch.stack([prepare(Image.open(f).convert('RGB')) for f in files])
            model.eval()
            with torch.no_grad():
                logits = model(x)
                head = model.fc if name == 'resnet18' else model.classifier[-1]
                scale = float(1.5 / logits.std())
                head.weight.mul_(scale)
                head.bias.mul_(scale)
                p = model(x).softmax(1)
            out.append(p.numpy())
            last[name] = scale
            print(name, 'largest probabilities', p.max(1).values.numpy().round(2), 'classes', p.argmax(1).unique().numel())
    np.stack(out).astype('<f4').tofile(HERE / 'photographs.bin')
    (HERE / 'photographs.json').write_text(json.dumps({'files': [f.name for f in files], 'scale': last}, indent=1) + '\n')


if __name__ == '__main__':
    main(*sys.argv[1:])
