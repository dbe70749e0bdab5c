"""Results of ONNX Runtime for operators on sequences, signals and strings, of PyTorch for optimizers, and of onnx's
reference for the operators of version 27, which ONNX Runtime has not.

    python sequence.py       writes sequence.json beside this script

A list of cases: the node (operator, domain, opset, attributes with their types), its inputs (null: omitted) and its
outputs (null: not asked for). What ONNX Runtime refuses is not in the list. Recorded with onnxruntime 1.32, torch 2.15
and onnx 1.23.
"""
import json
import pathlib

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto as T
from onnx import helper
from onnx.reference import ReferenceEvaluator

ort.set_default_logger_severity(4)
r = np.random.default_rng(1)
cases = []
TYPES = {"float32": T.FLOAT, "float64": T.DOUBLE, "int64": T.INT64, "int32": T.INT32, "bool": T.BOOL, "object": T.STRING}
NAMES = {"float32": "float", "float64": "double", "int64": "int64", "int32": "int32", "bool": "bool", "object": "string"}


def f(*dims):
    return np.round(r.standard_normal(dims), 2).astype(np.float32)


def tensor(x):
    if x is None:
        return None
    data = x.ravel().tolist()
    if x.dtype == np.float32:
        data = [float(f"{v:.7g}") for v in data]
    return {"type": NAMES[str(x.dtype)], "dims": list(x.shape), "data": data}


def attribute(v):
    if isinstance(v, list):
        return ["floats" if isinstance(v[0], float) else "strings" if isinstance(v[0], str) else "ints", v]
    return ["float" if isinstance(v, float) else "string" if isinstance(v, str) else "int", v]


def record(op, domain, opset, inputs, outputs, attrs):
    cases.append({"op": op, "domain": domain, "opset": opset, "attrs": {k: attribute(v) for k, v in attrs.items()},
                  "inputs": [tensor(x) for x in inputs], "outputs": [tensor(x) for x in outputs]})


def case(op, opset, inputs, outputs=1, reference=False, **attrs):
    """outputs: how many, or a list of flags; reference: by onnx's instead of ONNX Runtime."""
    want = [True] * outputs if isinstance(outputs, int) else outputs
    names = [f"i{i}" if x is not None else "" for i, x in enumerate(inputs)]
    outs = [f"o{i}" if w else "" for i, w in enumerate(want)]
    n = helper.make_node(op, names, outs, **attrs)
    graph = helper.make_graph(
        [n], "g",
        [helper.make_tensor_value_info(a, TYPES[str(x.dtype)], x.shape) for a, x in zip(names, inputs) if x is not None],
        [helper.make_value_info(o, onnx.TypeProto()) for o in outs if o])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    session = ReferenceEvaluator(model) if reference else ort.InferenceSession(model.SerializeToString())
    got = session.run([o for o in outs if o], {a: x for a, x in zip(names, inputs) if x is not None})
    it = iter(got)
    record(op, "", opset, inputs, [next(it) if w else None for w in want], attrs)


def recurrent():
    lens = np.array([4, 2, 3], np.int32)
    for op, gates in (("RNN", 1), ("GRU", 3), ("LSTM", 4)):
        outs = 3 if op == "LSTM" else 2
        for direction in ("forward", "reverse", "bidirectional"):
            d = 2 if direction == "bidirectional" else 1
            w = [f(4, 3, 2), f(d, gates * 3, 2), f(d, gates * 3, 3), f(d, gates * 6)]
            case(op, 14, w, outs, hidden_size=3, direction=direction)
            full = w + [lens, f(d, 3, 3)] + ([f(d, 3, 3), f(d, 9)] if op == "LSTM" else [])
            case(op, 14, full, outs, hidden_size=3, direction=direction)
            case(op, 7, full, outs, hidden_size=3, direction=direction, clip=0.7)
        w = [f(4, 3, 2), f(1, gates * 3, 2), f(1, gates * 3, 3)]
        case(op, 22, w, outs, hidden_size=3)
        case(op, 14, w, [False, True] + [False] * (outs - 2), hidden_size=3)
    w = [f(4, 3, 2), f(2, 9, 2), f(2, 9, 3), f(2, 18), lens, f(2, 3, 3)]
    case("GRU", 14, w, 2, hidden_size=3, direction="bidirectional", linear_before_reset=1)
    case("GRU", 14, w, 2, hidden_size=3, direction="bidirectional", activations=["HardSigmoid", "Softsign", "Sigmoid", "ScaledTanh"],
         activation_alpha=[0.3, 1.5], activation_beta=[0.4, 0.7])
    w = [f(4, 3, 2), f(1, 12, 2), f(1, 12, 3), f(1, 24)]
    case("LSTM", 14, w, 3, hidden_size=3, input_forget=1)
    case("LSTM", 14, w, 3, hidden_size=3, activations=["HardSigmoid", "Elu", "Affine"], activation_alpha=[0.1, 0.8, 1.5], activation_beta=[0.6, 0.2])
    for name in ("Relu", "Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu", "Softsign", "Softplus"):
        w = [f(4, 3, 2), f(1, 3, 2), f(1, 3, 3), f(1, 6)]
        if name not in ("Affine", "ThresholdedRelu", "ScaledTanh"):  # ONNX Runtime takes 0 for the default alpha
            case("RNN", 14, w, 2, hidden_size=3, activations=[name])
        case("RNN", 14, w, 2, hidden_size=3, activations=[name], activation_alpha=[0.3], activation_beta=[0.6])


def attention():
    q, k, v = f(2, 4, 3, 4), f(2, 2, 5, 4), f(2, 2, 5, 6)
    case("Attention", 23, [q, k, v])
    for mode in range(4):
        case("Attention", 23, [q, k, v, f(3, 5)], [True, False, False, True], softcap=0.8, qk_matmul_output_mode=mode,
             is_causal=int(mode != 2))  # where ONNX Runtime has the lowest float for minus infinity
    case("Attention", 23, [q, k, v, r.random((2, 4, 3, 8)) < 0.7, f(2, 2, 3, 4), f(2, 2, 3, 6)], 3, is_causal=1, scale=0.4)
    case("Attention", 24, [q, k, v, None, None, None, np.array([5, 3])], 1, is_causal=1)
    case("Attention", 23, [f(2, 3, 16), f(2, 5, 8), f(2, 5, 12)], 1, q_num_heads=4, kv_num_heads=2)
    ids = np.array([[0, 2, 1], [4, 4, 0]])
    case("RotaryEmbedding", 23, [f(2, 2, 3, 6), f(5, 2), f(5, 2), ids], rotary_embedding_dim=4, num_heads=2)
    case("RotaryEmbedding", 23, [f(2, 3, 8), f(2, 3, 2), f(2, 3, 2)], num_heads=2, interleaved=1)
    case("ReverseSequence", 10, [f(4, 3, 2), np.array([4, 1, 3])])
    case("ReverseSequence", 10, [f(3, 4), np.array([4, 1, 3])], batch_axis=0, time_axis=1)
    case("TensorScatter", 24, [f(2, 4, 3), f(2, 2, 3), np.array([1, 2])])
    case("TensorScatter", 24, [f(2, 2, 4, 3), f(2, 2, 3, 3), np.array([3, 2])], mode="circular")


def signals():
    n = np.array
    for length in (1, 4, 7, 8, 12):
        case("DFT", 20, [f(2, length, 1)])
        case("DFT", 20, [f(2, length, 2)])
        case("DFT", 20, [f(2, length, 2)], inverse=1)
    case("DFT", 20, [f(2, 9, 1)], onesided=1)
    case("DFT", 20, [f(2, 10, 1)], onesided=1)
    case("DFT", 20, [f(5, 3, 2), n(8), n(0)])
    case("DFT", 20, [f(5, 6, 2), n(3), n(-2)])
    case("DFT", 17, [f(2, 5, 3, 1), n(6)], axis=1)
    case("DFT", 17, [f(2, 5, 3, 1)])
    case("STFT", 17, [f(2, 16, 1), n(3), None, n(8)])
    case("STFT", 17, [f(2, 16, 1), n(4), f(7)])
    case("STFT", 17, [f(1, 16, 1), n(5), f(6), n(6)], onesided=0)
    for op in ("HannWindow", "HammingWindow", "BlackmanWindow"):
        case(op, 17, [n(8)])
        case(op, 17, [n(7, np.int32)], periodic=0, output_datatype=int(T.DOUBLE))
    case("MelWeightMatrix", 17, [n(8), n(64), n(8000), n(100, np.float32), n(3500, np.float32)])
    case("MelWeightMatrix", 17, [n(13), n(16), n(8192), n(0, np.float32), n(4096, np.float32)], output_datatype=int(T.DOUBLE))


def texts():
    s = lambda *words, shape=None: np.array(words, dtype=object).reshape(shape or (len(words),))
    case("StringConcat", 20, [s("a", "bc", "", "ä", shape=(2, 2)), s("x", "yz")])
    case("StringConcat", 20, [s("a", shape=()), s("b", shape=())])
    case("StringSplit", 20, [s("", " ", " a  b ")], 2)
    words = s("a,b,,c", ",", "one two  three ", "  x ")  # of "" and a delimiter ONNX Runtime makes no part, numpy one
    for kw in ({}, {"delimiter": ","}, {"delimiter": ",", "maxsplit": 1}, {"maxsplit": 1}, {"delimiter": ""}, {"delimiter": ", "}):
        case("StringSplit", 20, [words], 2, **kw)
    case("RegexFullMatch", 20, [s("abc", "ab", "xabc", "")], pattern="a[bc]+|")
    case("RegexFullMatch", 20, [s("www.a.org", "a.com", shape=(1, 2))], pattern=r"www\.[\w.-]+\.\w+")
    week = s("Monday", "tuesday", "WEDNESDAY", "monday")
    for kw in ({}, {"is_case_sensitive": 1, "stopwords": ["monday"]}, {"stopwords": ["monday"], "case_change_action": "UPPER"},
               {"is_case_sensitive": 1, "stopwords": ["Monday"], "case_change_action": "LOWER"},
               {"is_case_sensitive": 1, "stopwords": ["Monday", "tuesday", "WEDNESDAY", "monday"]}):
        case("StringNormalizer", 10, [week], locale="C", **kw)
        case("StringNormalizer", 10, [week.reshape(1, 4)], locale="C", **kw)
    pool = {"ngram_counts": [0, 4], "ngram_indexes": [0, 1, 2, 3, 4, 5, 6], "pool_int64s": [2, 3, 5, 4, 5, 6, 7, 8, 6, 7]}
    rows = np.array([[1, 1, 3, 3, 3, 7], [8, 6, 7, 5, 6, 8]], np.int32)
    for mode in ("TF", "IDF", "TFIDF"):
        for skips in (0, 2, 5):
            for low in (1, 2):
                case("TfIdfVectorizer", 9, [rows], mode=mode, max_skip_count=skips, min_gram_length=low, max_gram_length=2,
                     weights=[0.5, 1.5, 2.0, 3.0, 0.25, 4.0, 0.75], **pool)
    case("TfIdfVectorizer", 9, [s("a", "b", "a", "c", "b")], mode="TF", max_skip_count=1, min_gram_length=1, max_gram_length=2,
         ngram_counts=[0, 2], ngram_indexes=[3, 1, 0, 5], pool_strings=["a", "c", "a", "b", "b", "a"])


def optimizers():
    """Five updates of two tensors by torch.optim; every update is a case."""
    def updates(op, make, states, attrs, count_from):
        x = [torch.tensor(f(2, 3)).requires_grad_(), torch.tensor(f(4)).requires_grad_()]
        o = make(x)
        for step in range(5):
            gradients = [f(2, 3), f(4)]
            before = [p.detach().numpy().copy() for p in x]
            old = [o.state[p][s].numpy().copy() if s in o.state[p] and o.state[p][s] is not None else np.zeros(p.shape, np.float32)
                   for s in states for p in x]
            for p, g in zip(x, gradients):
                p.grad = torch.tensor(g)
            o.step()
            record(op, "ai.onnx.preview.training", 1,
                   [np.array(0.1, np.float32), np.array(step + count_from), *before, *gradients, *old],
                   [p.detach().numpy().copy() for p in x] + [o.state[p][s].numpy().copy() for s in states for p in x], attrs)

    for nesterov in (False, True):
        updates("Momentum", lambda x: torch.optim.SGD(x, 0.1, momentum=0.9, weight_decay=0.01, nesterov=nesterov), ["momentum_buffer"],
                {"alpha": 0.9, "beta": 1.0, "norm_coefficient": 0.01, "mode": "nesterov" if nesterov else "standard"}, 0)
    updates("Adagrad", lambda x: torch.optim.Adagrad(x, 0.1, lr_decay=0.05, weight_decay=0.01, eps=1e-3), ["sum"],
            {"decay_factor": 0.05, "norm_coefficient": 0.01, "epsilon": 1e-3}, 0)
    # PyTorch divides the root of the second moment by that of its correction before it adds epsilon.
    updates("Adam", lambda x: torch.optim.Adam(x, 0.1, betas=(0.8, 0.95), eps=0.0, weight_decay=0.01), ["exp_avg", "exp_avg_sq"],
            {"alpha": 0.8, "beta": 0.95, "epsilon": 0.0, "norm_coefficient": 0.01}, 1)


def newest():
    x, w = f(2, 3, 5), f(3, 1, 4)
    for inputs in ([x, w], [x, w, f(3)], [x, w, None, f(2, 3, 3)], [f(2, 3, 2), w, f(3), f(2, 3, 3)]):
        for activation in ("none", "silu"):
            case("CausalConvWithState", 27, inputs, 2, True, activation=activation)
    for heads in (2, 4):
        q, k, v, past = f(2, 3, heads * 3), f(2, 3, 6), f(2, 3, 8), f(2, 2, 3, 4)
        kw = {"q_num_heads": heads, "kv_num_heads": 2}
        case("LinearAttention", 27, [q, k, v], 2, True, update_rule="linear", **kw)
        case("LinearAttention", 27, [q, k, v, past, f(2, 3, 2)], 2, True, update_rule="gated", scale=0.7, **kw)
        case("LinearAttention", 27, [q, k, v, None, f(2, 3, 6)], 2, True, update_rule="gated", **kw)
        case("LinearAttention", 27, [q, k, v, past, None, f(2, 3, 1)], 2, True, update_rule="delta", **kw)
        case("LinearAttention", 27, [q, k, v, past, f(2, 3, 6), f(2, 3, 2)], 2, True, **kw)


for part in (recurrent, attention, signals, texts, optimizers, newest):
    part()
path = pathlib.Path(__file__).with_name("sequence.json")
path.write_text("[\n" + ",\n".join(json.dumps(c, separators=(",", ":"), ensure_ascii=False) for c in cases) + "\n]\n")
print(len(cases), "cases,", path.stat().st_size, "bytes")
