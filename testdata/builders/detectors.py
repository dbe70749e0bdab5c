"""torchvision's detectors as the tests ask them: which ones, and how they are made to find a few boxes in noise."""
import numpy as np
import torch
import torchvision

DETECTORS = ['ssd300_vgg16', 'ssdlite320_mobilenet_v3_large', 'retinanet_resnet50_fpn', 'fcos_resnet50_fpn',
             'fasterrcnn_resnet50_fpn', 'fasterrcnn_mobilenet_v3_large_fpn', 'fasterrcnn_mobilenet_v3_large_320_fpn']

# Height and width of the images. Long ones are not resized to many pixels.
SIZES = {'ssd300_vgg16': (200, 310), 'ssdlite320_mobilenet_v3_large': (200, 310), 'fasterrcnn_mobilenet_v3_large_320_fpn': (150, 240)}


def size(name):
    return SIZES.get(name, (70, 640))


def detector(name):
    return getattr(torchvision.models.detection, name)(weights=None, weights_backbone=None).eval()


def drawn(net):
    """Random weights with which outputs differ from place to place, and random statistics."""
    with torch.no_grad():
        for name, t in net.state_dict().items():
            if t.dim() > 1:
                t.normal_(0, (2 / t[0].numel()) ** 0.5)
            elif name.endswith('running_var'):
                t.uniform_(0.5, 1.5)
            elif name.endswith('weight'):
                t.uniform_(0.75, 1.25)
            elif t.is_floating_point():
                t.normal_(0, 0.1)
    return net


def calmed(name, net, image):
    """Makes weights of these keys smaller, so that features of a pyramid are about 1; else boxes would be thrown about."""
    small = {'.module_list.': 0.02} if name == 'ssd300_vgg16' else {}
    if not name.startswith('ssd'):
        seen = []
        hook = net.backbone.register_forward_hook(lambda module, given, maps: seen.extend(m.std().item() for m in maps.values()))
        found(net, image)
        hook.remove()
        small = {'.inner_blocks.': float(f'{1 / max(seen):.0e}'), '.bbox_': 0.1}
    with torch.no_grad():
        for key, t in net.state_dict().items():
            for part, factor in small.items():
                if part in key and t.dim() > 1:
                    t *= factor
    return small


def biases(net):
    """The biases of what says how likely the labels are, and which of each so many numbers is asked: the background's, or all."""
    keys = [k for k in net.state_dict() if k.endswith('bias')]
    ssd = [k for k in keys if k.startswith('head.classification_head.module_list')]
    if ssd:
        return [k for k in ssd if k.count('.') == 4 or k.endswith('.1.bias') and k.count('.') == 5], 91
    if 'roi_heads.box_predictor.cls_score.bias' in keys:
        return ['roi_heads.box_predictor.cls_score.bias'], 91
    return ['head.classification_head.cls_logits.bias'], 1


def raised(net, by):
    """Adds to the logits of the labels, or takes from the background's."""
    keys, step = biases(net)
    for key in keys:
        net.state_dict()[key][::step] += by if step == 1 else -by


def found(net, image):
    with torch.no_grad():
        out = net([torch.from_numpy(image)])[0]
    return out['boxes'].numpy(), out['scores'].numpy(), out['labels'].numpy()


def apart(found, wanted, side):
    """How far what was found is from what was wanted, in any order: of boxes in parts of the image's side. Infinite where there is
    more or less of it, or where labels differ."""
    if len(found[0]) != len(wanted[0]):
        return float('inf')
    worst, left = 0, list(range(len(found[0])))
    for box, score, label in zip(*wanted):
        near = [(max(np.abs(found[0][i] - box).max() / side, abs(found[1][i] - score)), i) for i in left if found[2][i] == label]
        if not near:
            return float('inf')
        distance, i = min(near)
        worst = max(worst, distance)
        left.remove(i)
    return worst


def tuned(net, image, least=8, most=60):
    """Raises the logits until some boxes are found; gives by how much."""
    low, high, at = -64, 64, 0
    for _ in range(14):
        by = (low + high) / 2
        raised(net, by - at)
        at = by
        n = len(found(net, image)[0])
        if least <= n <= most:
            break
        low, high = (by, high) if n < least else (low, by)
    return at
