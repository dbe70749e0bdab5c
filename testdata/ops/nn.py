"""Forward results and gradients of the neural-network operators by PyTorch, in float64.

    python nn.py            writes nn.json beside this script

Recorded with torch 2.15.
"""
import torch
import torch.nn.functional as F

from torchcases import case, rounded, write

torch.manual_seed(0)


def conv(x, w, stride, pad, dil, group, f=None, opset=21):
    n = len(x) - 2
    f = f or [None, F.conv1d, F.conv2d, F.conv3d][n]
    b = rounded(w[0])
    case("Conv", lambda x, w, b: f(x, w, b, stride, pad, dil, group), [rounded(*x), rounded(*w), b], (0, 1, 2), opset,
         strides=stride, pads=pad + pad, dilations=dil, group=group)


conv([2, 3, 8, 7], [4, 3, 3, 3], [1, 1], [1, 1], [1, 1], 1)
conv([1, 4, 9, 9], [6, 2, 3, 3], [2, 2], [1, 1], [1, 1], 2)
conv([2, 3, 7, 11], [3, 1, 3, 5], [1, 2], [2, 0], [2, 1], 3)
conv([3, 2, 5, 5], [5, 2, 1, 1], [3, 2], [0, 0], [1, 1], 1)
conv([2, 2, 13], [3, 2, 5], [2], [2], [2], 1)
conv([1, 2, 4, 5, 3], [2, 2, 2, 3, 2], [1, 2, 1], [1, 0, 1], [1, 1, 2], 1)


def transpose(x, w, stride, pad, outpad, dil, group):
    n = len(x) - 2
    f = [None, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d][n]
    case("ConvTranspose", lambda x, w, b: f(x, w, b, stride, pad, outpad, group, dil),
         [rounded(*x), rounded(*w), rounded(w[1] * group)], (0, 1, 2),
         strides=stride, pads=pad + pad, output_padding=outpad, dilations=dil, group=group)


transpose([2, 3, 4, 5], [3, 2, 2, 2], [2, 2], [0, 0], [0, 0], [1, 1], 1)
transpose([1, 4, 3, 4], [4, 2, 3, 3], [2, 3], [1, 0], [1, 2], [1, 1], 2)
transpose([1, 2, 4, 3], [2, 2, 3, 2], [1, 2], [1, 1], [0, 0], [2, 3], 1)
transpose([2, 2, 6], [2, 3, 4], [3], [1], [2], [1], 1)
transpose([1, 2, 2, 3, 2], [2, 1, 2, 3, 2], [2, 1, 2], [0, 1, 0], [1, 0, 0], [1, 1, 1], 1)


def pools(x, k, s, p, ceil=0, dil=None):
    n = len(x) - 2
    fmax = [None, F.max_pool1d, F.max_pool2d, F.max_pool3d][n]
    favg = [None, F.avg_pool1d, F.avg_pool2d, F.avg_pool3d][n]
    attrs = dict(kernel_shape=k, strides=s, pads=p + p, ceil_mode=ceil)
    xs = rounded(*x)
    ties = (torch.randn(*x)).round()  # many equal elements
    for v in (xs, ties):
        case("MaxPool", lambda v: fmax(v, k, s, p, dil or 1, bool(ceil)), [v], (0,), dilations=dil or [1] * n, **attrs)
    if not dil:
        for include in (0, 1):
            case("AveragePool", lambda v: favg(v, k, s, p, bool(ceil), bool(include)), [xs], (0,),
                 count_include_pad=include, **attrs)


pools([2, 3, 8, 6], [2, 2], [2, 2], [0, 0])
pools([1, 2, 7, 9], [3, 3], [2, 2], [1, 1])
pools([1, 2, 7, 8], [3, 2], [2, 3], [1, 1], ceil=1)
pools([1, 2, 5, 5], [2, 2], [3, 3], [0, 0], ceil=1)
pools([1, 2, 9, 9], [3, 3], [2, 1], [1, 0], dil=[2, 3])
pools([2, 2, 11], [3], [2], [1], ceil=1)
pools([1, 2, 4, 5, 5], [2, 3, 2], [2, 2, 1], [1, 1, 0])
case("GlobalAveragePool", lambda v: F.adaptive_avg_pool2d(v, 1), [rounded(2, 3, 5, 7)], (0,))
case("GlobalMaxPool", lambda v: F.adaptive_max_pool2d(v, 1), [rounded(2, 3, 5, 7)], (0,))


def batchnorm(x, training):
    c = x[1]
    mean, var = rounded(c), rounded(c).abs() + 0.5

    def f(v, scale, bias, mean, var):
        m, s = mean.clone(), var.clone()
        y = F.batch_norm(v, m, s, scale, bias, bool(training), 0.25, 1e-4)
        return (y, m, s) if training else y

    attrs = dict(epsilon=1e-4, momentum=0.75, training_mode=training)
    if training:
        attrs["cnnkit_unbiased"] = 1
    case("BatchNormalization", f, [rounded(*x), rounded(c), rounded(c), mean, var], (0, 1, 2), 17, **attrs)


for training in (0, 1):
    for x in ([4, 3, 5, 2], [2, 2, 1, 1], [1, 3, 4, 4], [7, 3], [3, 2, 5], [2, 2, 2, 3, 2]):
        batchnorm(x, training)


def losses(x, ignore, weighted):
    c = x[1]
    target = torch.randint(0, c, [x[0]] + x[2:])
    if ignore is not None and target.numel() > 1:
        target.reshape(-1)[1] = ignore
    w = (rounded(c).abs() + 0.25) if weighted else None
    for reduction in ("mean", "sum", "none"):
        attrs = {"reduction": reduction}
        kw = {"reduction": reduction}
        if ignore is not None:
            attrs["ignore_index"] = kw["ignore_index"] = ignore
        inputs = [rounded(*x), target] + ([w] if weighted else [])
        case("NegativeLogLikelihoodLoss", lambda v, t, w=None: F.nll_loss(v, t, w, **kw), inputs, (0,), **attrs)
        case("SoftmaxCrossEntropyLoss", lambda v, t, w=None: F.cross_entropy(v, t, w, **kw), inputs, (0,), **attrs)


losses([4, 10], None, False)
losses([1, 3], None, True)
losses([2, 5, 3, 2], 2, True)
losses([3, 4, 5], -100, False)

kinks = torch.tensor([-30.0, -4, -3, -2.5, -1, -0.5, 0, 0.5, 1, 2, 2.5, 3, 4, 30])


def activation(op, f, opset=24, **attrs):
    case(op, f, [kinks], (0,), opset, **attrs)


activation("Relu", torch.relu)
activation("LeakyRelu", lambda x: F.leaky_relu(x, 0.125), alpha=0.125)
activation("Sigmoid", torch.sigmoid)
activation("Tanh", torch.tanh)
activation("Elu", lambda x: F.elu(x, 0.75), alpha=0.75)
activation("Selu", torch.selu)
activation("Celu", lambda x: F.celu(x, 0.75), alpha=0.75)
activation("HardSigmoid", F.hardsigmoid, alpha=1 / 6, beta=0.5)
activation("HardSwish", F.hardswish)
activation("Softplus", F.softplus)
activation("Softsign", F.softsign)
activation("Gelu", F.gelu)
activation("Gelu", lambda x: F.gelu(x, approximate="tanh"), approximate="tanh")
activation("Mish", F.mish)
activation("Swish", F.silu)
activation("ThresholdedRelu", lambda x: F.threshold(x, 1, 0), alpha=1.0)
case("PRelu", F.prelu, [rounded(2, 3, 4), torch.tensor([0.25])], (0, 1))
case("PRelu", lambda x, w: F.prelu(x, w.reshape(3)), [rounded(2, 3, 4), rounded(3, 1)], (0, 1))
for axis in (0, 1, 2):
    case("Softmax", lambda x: F.softmax(x, axis), [rounded(2, 3, 5)], (0,), axis=axis)
    case("LogSoftmax", lambda x: F.log_softmax(x, axis), [rounded(2, 3, 5)], (0,), axis=axis)
case("LayerNormalization", lambda x, s, b: F.layer_norm(x, [3, 5], s, b, 1e-4), [rounded(2, 3, 5), rounded(3, 5), rounded(3, 5)],
     (0, 1, 2), axis=-2, epsilon=1e-4)
case("InstanceNormalization", lambda x, s, b: F.instance_norm(x, None, None, s, b, eps=1e-4),
     [rounded(2, 3, 4, 5), rounded(3), rounded(3)], (0, 1, 2), epsilon=1e-4)
case("GroupNormalization", lambda x, s, b: F.group_norm(x, 2, s, b, 1e-4), [rounded(2, 6, 4, 5), rounded(6), rounded(6)],
     (0, 1, 2), num_groups=2, epsilon=1e-4)
case("RMSNormalization", lambda x, s: F.rms_norm(x, [5], s, 1e-4), [rounded(2, 3, 5), rounded(5)], (0, 1), 23, epsilon=1e-4)
case("LRN", lambda x: F.local_response_norm(x, 3, 0.5, 0.75, 2.0), [rounded(2, 5, 3, 2)], (0,), size=3, alpha=0.5, beta=0.75,
     bias=2.0)
case("MatMul", torch.matmul, [rounded(2, 1, 3, 5), rounded(4, 5, 2)], (0, 1))
case("Gemm", lambda a, b, c: 0.5 * a.T @ b.T + 2 * c, [rounded(5, 3), rounded(2, 5), rounded(2)], (0, 1, 2),
     transA=1, transB=1, alpha=0.5, beta=2.0)

case("Erf", torch.erf, [kinks / 8], (0,))


def resize(x, size, how, **torch_args):
    """F.interpolate as torch.onnx exports it: sizes of all dimensions, and the coordinates of its mode."""
    mode = {"nearest": "nearest", "bilinear": "linear", "bicubic": "cubic"}[torch_args["mode"]]
    attrs = {"mode": mode, "coordinate_transformation_mode": how}
    if mode == "nearest":
        attrs["nearest_mode"] = "floor"
    if mode == "cubic":
        attrs["cubic_coeff_a"] = -0.75
    case("Resize", lambda x, roi, scales, sizes: F.interpolate(x, size, **torch_args),
         [rounded(*x), None, None, torch.tensor(x[:2] + size)], (0,), 17, **attrs)


for size in ([6, 10], [2, 7]):
    resize([1, 2, 3, 5], size, "asymmetric", mode="nearest")
    resize([1, 2, 3, 5], size, "pytorch_half_pixel", mode="bilinear", align_corners=False)
    resize([1, 2, 3, 5], size, "align_corners", mode="bilinear", align_corners=True)
    resize([1, 2, 3, 5], size, "pytorch_half_pixel", mode="bicubic", align_corners=False)


def pad(x, sides, mode, torch_mode):
    left, right, top, bottom = sides
    case("Pad", lambda x, pads: F.pad(x, sides, torch_mode), [rounded(*x), torch.tensor([0, 0, top, left, 0, 0, bottom, right])], (0,),
         mode=mode)


pad([1, 2, 4, 5], [1, 2, 3, 0], "reflect", "reflect")
pad([1, 2, 4, 5], [3, 2, 0, 1], "edge", "replicate")
pad([1, 2, 4, 5], [3, 2, 0, 4], "wrap", "circular")
pad([1, 2, 4, 5], [-1, 2, 1, -2], "constant", "constant")
case("Gather", lambda w, i: F.embedding(i, w), [rounded(5, 3), torch.tensor([[0, 4, 4], [2, 0, 4]])], (0,), axis=0)
case("GatherElements", lambda x, i: torch.gather(x, 1, i), [rounded(2, 4), torch.tensor([[0, 3, 3], [2, 0, 2]])], (0,), axis=1)
case("DepthToSpace", lambda x: F.pixel_shuffle(x, 2), [rounded(1, 12, 2, 3)], (0,), blocksize=2, mode="CRD")
case("Max", torch.maximum, [rounded(3, 4), torch.tensor([0.5, 0.0, -1.0, 0.25])], (0, 1))
case("Max", torch.maximum, [torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 3.0, 2.0])], (0, 1))
case("ReduceMax", lambda x, axes: torch.amax(x, 1, True), [torch.tensor([[1.0, 3.0, 3.0], [2.0, -1.0, 0.0]]), torch.tensor([1])], (0,), 18)
case("ReduceMin", lambda x, axes: torch.amin(x, (0, 2), True), [rounded(2, 3, 4), torch.tensor([0, 2])], (0,), 18)
case("ReduceL2", lambda x, axes: torch.linalg.vector_norm(x, 2, -1, True), [torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.tensor([-1])], (0,), 18)
case("ReduceLogSumExp", lambda x, axes: torch.logsumexp(x, -1, True), [rounded(2, 5), torch.tensor([-1])], (0,), 18)

write(__file__)
