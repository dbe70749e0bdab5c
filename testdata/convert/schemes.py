"""The networks of timm and transformers that are torchvision's under other names, with weights from a formula.

CASES are (name, builder, side of the image, config.json or None): the name is timm's, or that of a transformers model type.
"""
import os

os.environ['HF_HUB_OFFLINE'] = '1'
import numpy as np
import timm
import torch
import transformers as hub

CLASSES = 10
VIT = {'hub-vit': (768, 12, 12, 16), 'hub-vit-b32': (768, 12, 12, 32)}
CASES = [
    ('mobilenetv2_100', 'mobilenet_v2', 64, {'architecture': 'mobilenetv2_100'}),
    ('mobilenetv3_large_100', 'mobilenet_v3_large', 64, {'architecture': 'mobilenetv3_large_100'}),
    ('mobilenetv3_small_100', 'mobilenet_v3_small', 64, {'architecture': 'mobilenetv3_small_100'}),
    ('tf_mobilenetv3_large_100', 'mobilenet_v3_large', 75, {'architecture': 'tf_mobilenetv3_large_100'}),
    ('tf_mobilenetv3_small_100', 'mobilenet_v3_small', 64, {'architecture': 'tf_mobilenetv3_small_100'}),
    ('efficientnet_b0', 'efficientnet_b0', 64, {'architecture': 'efficientnet_b0'}),
    ('tf_efficientnet_b0', 'efficientnet_b0', 75, {'architecture': 'tf_efficientnet_b0'}),
    ('tf_efficientnet_lite0', 'efficientnet_lite0', 64, {'architecture': 'tf_efficientnet_lite0'}),
    ('efficientnet_lite0', 'efficientnet_lite0', 64, {'architecture': 'efficientnet_lite0'}),
    ('hub-mobilenet_v2', 'mobilenet_v2', 75, {}),
    ('hub-mobilenet_v2-symmetric', 'mobilenet_v2', 64, {'tf_padding': False, 'layer_norm_eps': 1e-5}),
    ('hub-resnet18', 'resnet18', 64, {}),
    ('hub-convnext', 'convnext_tiny', 64, {}),
    ('hub-vit-b32', 'vit_b_32', 64, {}),
]
# Of these the tests know the keys alone, or nothing; check_schemes.py runs them.
LARGE = [
    ('efficientnet_b5', 'efficientnet_b5', 64, {'architecture': 'efficientnet_b5'}),
    ('convnext_tiny', 'convnext_tiny', 64, {'architecture': 'convnext_tiny'}),
    ('swin_tiny_patch4_window7_224', 'swin_t', 224, {'architecture': 'swin_tiny_patch4_window7_224'}),
    ('vit_base_patch16_224', 'vit_b_16', 224, {'architecture': 'vit_base_patch16_224'}),
    ('vgg11', 'vgg11', 224, {'architecture': 'vgg11'}),
    ('resnet50', 'resnet50', 64, {'architecture': 'resnet50'}),
    ('tf_efficientnet_lite2', 'efficientnet_lite2', 75, {'architecture': 'tf_efficientnet_lite2'}),
    ('tf_efficientnet_lite4', 'efficientnet_lite4', 64, {'architecture': 'tf_efficientnet_lite4'}),
    ('hub-resnet50', 'resnet50', 64, {}),
    ('hub-vit', 'vit_b_16', 224, {}),
]


def network(name, side, config):
    """In evaluation mode, with CLASSES outputs."""
    if not name.startswith('hub-'):
        return timm.create_model(name, num_classes=CLASSES).eval()
    made = dict(config, num_labels=CLASSES)
    if name in VIT:
        hidden, layers, heads, patch = VIT[name]
        kind, made = hub.ViTForImageClassification, hub.ViTConfig(
            hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, patch_size=patch, image_size=side, **made)
    elif name.startswith('hub-mobilenet_v2'):
        kind, made = hub.MobileNetV2ForImageClassification, hub.MobileNetV2Config(**made)
    elif name == 'hub-convnext':
        kind, made = hub.ConvNextForImageClassification, hub.ConvNextConfig(**made)
    else:
        sizes = {'layer_type': 'basic', 'hidden_sizes': [64, 128, 256, 512], 'depths': [2, 2, 2, 2]} if name == 'hub-resnet18' else {}
        kind, made = hub.ResNetForImageClassification, hub.ResNetConfig(**sizes, **made)
    return kind(made).eval()


def uniform(n, key):
    """n numbers in [-1, 1), exact in float32: a hash of (index, key)."""
    x = np.arange(n, dtype=np.uint64) * 2654435761 + key * 40503 + 12345
    for _ in range(2):
        x = x & 0xffffffff
        x = ((x ^ (x >> 16)) * 0x45d9f3b) & 0xffffffff
    x = x ^ (x >> 16)
    return ((x >> 8).astype(np.float64) / (1 << 23) - 1).astype(np.float32)


def fill(state):
    """Tensor number i of the state dict in the order of its keys: weights u*sqrt(gain/fan_in), norms' weights 1+u/4 and variances
    0.05*(1+u/2), which makes an epsilon of 1e-3 count; all else u/10. The gain keeps the size of what passes: 3, or 0.15 before
    such variances."""
    gain = 0.15 if any(name.endswith('running_var') for name in state) else 3
    for i, name in enumerate(sorted(k for k in state if state[k].is_floating_point())):
        t = state[name]
        u = uniform(t.numel(), i).astype(np.float64)
        if t.dim() > 1:
            u *= np.sqrt(gain / np.prod(t.shape[1:]))
        elif name.endswith('running_var'):
            u = 0.05 * (1 + u / 2)
        elif name.endswith('weight'):
            u = 1 + u / 4
        else:
            u /= 10
        t.copy_(torch.from_numpy(u.astype(np.float32)).view(t.shape))


def picture(side):
    return torch.from_numpy(uniform(3 * side * side, 1000)).view(1, 3, side, side)


def answer(net, x):
    with torch.no_grad():
        y = net(x)
    return (y if torch.is_tensor(y) else y.logits).numpy()
