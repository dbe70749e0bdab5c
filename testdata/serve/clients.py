"""Asks a server as tritonclient does: clients.py HTTP_ADDRESS GRPC_ADDRESS FIELDS, the last a FileDescriptorSet of ours. The models are those of
runtime/serve/models_test.go. Prints a line a check; ends with 1 when one fails."""

import sys
import traceback

import numpy as np
import tritonclient.grpc as tg
import tritonclient.http as th
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

HTTP, GRPC = sys.argv[1], sys.argv[2]
failures = []


def check(name):
    def run(f):
        try:
            f()
            print("ok  ", name)
        except Exception:
            failures.append(name)
            print("FAIL", name)
            traceback.print_exc(limit=4)
    return run


def refuses(status, f):
    try:
        f()
    except InferenceServerException as e:
        assert status in str(e.status()), (status, e.status(), e.message())
        return
    raise AssertionError("not refused")


ARRAYS = {
    "bool": np.array([[True, False, True]] * 2),
    "bytes": np.array([["a", "", "grün"], ["x" * 300, "\t", "z"]], dtype=object),
    "fp16": np.array([[1, -2.5, 65504], [0, 6e-8, 1]], np.float16),
    "fp32": np.array([[1, -2.5, 3e38], [0, 1e-40, 0.1]], np.float32),
    "fp64": np.array([[1, -2.5, 1e300], [0, 1e-310, 0.1]], np.float64),
}
for bits in (8, 16, 32, 64):
    for kind in ("int", "uint"):
        info = np.iinfo(f"{kind}{bits}")
        ARRAYS[f"{kind}{bits}"] = np.array([[info.min, 0, 1], [info.max, 2, 3]], info.dtype)


def infer(mod, client, name, arrays, outputs, binary=None, **more):
    ins = []
    for key, a in arrays.items():
        i = mod.InferInput(key, list(a.shape), np_to_triton_dtype(a.dtype))
        if binary is None:
            i.set_data_from_numpy(a)
        else:
            i.set_data_from_numpy(a, binary_data=binary)
        ins.append(i)
    outs = [mod.InferRequestedOutput(o) if binary is None else mod.InferRequestedOutput(o, binary_data=binary) for o in outputs]
    return client.infer(name, ins, outputs=outs or None, **more)


def text(a):
    return [x.decode() if isinstance(x, bytes) else x for x in a.ravel()]


def same(got, want):
    assert got is not None and got.shape == want.shape, (got, want)
    if want.dtype == object:
        assert text(got) == text(want), (got, want)
        return
    assert got.dtype == want.dtype and got.tobytes() == want.tobytes(), (got, want)


http, grpc = th.InferenceServerClient(HTTP, concurrency=4), tg.InferenceServerClient(GRPC)
SIDES = {"http": (th, http, True), "http JSON": (th, http, False), "grpc": (tg, grpc, None)}

for side, (mod, client, binary) in SIDES.items():
    for name, a in ARRAYS.items():
        if binary is False and name == "fp16":
            continue  # JSON has none

        @check(f"{side}: {name}")
        def _():
            same(infer(mod, client, "copy_" + name, {"x": a}, ["y"], binary).as_numpy("y"), a)

    @check(f"{side}: two inputs, two outputs, chosen and not")
    def _():
        a, b = np.arange(8, dtype=np.float32).reshape(2, 4), np.array([[3, -4], [5, 6]], np.int64)
        r = infer(mod, client, "pair", {"a": a, "b": b}, ["product", "sum"], binary, request_id="r1")
        same(r.as_numpy("sum"), a + a)
        same(r.as_numpy("product"), b * b)
        r = infer(mod, client, "pair", {"a": a, "b": b}, ["product"], binary)
        assert r.as_numpy("sum") is None
        same(infer(mod, client, "pair", {"a": a, "b": b}, [], binary).as_numpy("sum"), a + a)

    @check(f"{side}: NaN and infinity")
    def _():
        a = np.array([[np.nan, np.inf, -np.inf]], np.float32)
        if binary is False:
            refuses("400", lambda: infer(mod, client, "copy_fp32", {"x": a}, ["y"], binary))
        else:
            same(infer(mod, client, "copy_fp32", {"x": a}, ["y"], binary).as_numpy("y"), a)

    @check(f"{side}: refusals")
    def _():
        a = np.zeros((1, 3), np.float32)
        codes = ("StatusCode.INVALID_ARGUMENT", "StatusCode.NOT_FOUND") if mod is tg else ("400", "404")
        refuses(codes[1], lambda: infer(mod, client, "nobody", {"x": a}, ["y"], binary))
        refuses(codes[0], lambda: infer(mod, client, "copy_fp32", {"z": a}, ["y"], binary))
        refuses(codes[0], lambda: infer(mod, client, "copy_fp32", {"x": a}, ["z"], binary))
        refuses(codes[0], lambda: infer(mod, client, "copy_fp32", {"x": a[:, :2]}, ["y"], binary))
        refuses(codes[0], lambda: infer(mod, client, "copy_fp32", {"x": a.astype(np.int32)}, ["y"], binary))
        refuses(codes[1], lambda: infer(mod, client, "copy_fp32", {"x": a}, ["y"], binary, model_version="9"))

    @check(f"{side}: descriptions")
    def _():
        assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("pair")
        meta = client.get_model_metadata("pair", as_json=True) if mod is tg else client.get_model_metadata("pair")
        assert [i["name"] for i in meta["inputs"]] == ["a", "b"] and meta["inputs"][1]["datatype"] == "INT64", meta
        config = client.get_model_config("lenet", as_json=True)["config"] if mod is tg else client.get_model_config("lenet")
        assert config["max_batch_size"] == 32, config
        stats = client.get_inference_statistics("pair", as_json=True) if mod is tg else client.get_inference_statistics("pair")
        assert int(stats["model_stats"][0]["inference_stats"]["success"]["count"]) > 0, stats
        assert "binary_tensor_data" in (client.get_server_metadata(as_json=True) if mod is tg else client.get_server_metadata())["extensions"]

    @check(f"{side}: unload and load")
    def _():
        client.unload_model("fixed")
        index = client.get_model_repository_index(as_json=True)["models"] if mod is tg else client.get_model_repository_index()
        assert any(m["name"] == "fixed" and m["state"] == "UNAVAILABLE" for m in index), index
        client.load_model("fixed")
        assert client.is_model_ready("fixed")
        refuses("NOT_FOUND" if mod is tg else "404", lambda: client.load_model("nobody"))

    @check(f"{side}: classification")
    def _():
        a = np.arange(8, dtype=np.float32).reshape(2, 4)
        i = mod.InferInput("x", [2, 4], "FP32")
        i.set_data_from_numpy(a)
        r = client.infer("fixed", [i], outputs=[mod.InferRequestedOutput("y", class_count=2)]).as_numpy("y")
        assert text(r)[:1] == ["7.000000:7"] or text(r)[:2] == ["3.000000:3", "2.000000:2"], r


@check("http: compressed")
def _():
    a = ARRAYS["fp32"]
    for algorithm in ("gzip", "deflate"):
        i = th.InferInput("x", list(a.shape), "FP32")
        i.set_data_from_numpy(a)
        same(http.infer("copy_fp32", [i], request_compression_algorithm=algorithm, response_compression_algorithm=algorithm).as_numpy("y"), a)


@check("http: asynchronous")
def _():
    a = ARRAYS["fp32"]
    waiting = []
    for _ in range(20):
        i = th.InferInput("x", list(a.shape), "FP32")
        i.set_data_from_numpy(a)
        waiting.append(http.async_infer("copy_fp32", [i]))
    for w in waiting:
        same(w.get_result().as_numpy("y"), a)


@check("grpc: stream")
def _():
    import queue
    a, got = ARRAYS["fp32"], queue.Queue()
    grpc.start_stream(lambda result, error: got.put((result, error)))
    for k in range(10):
        i = tg.InferInput("x", list(a.shape), "FP32")
        i.set_data_from_numpy(a)
        grpc.async_stream_infer("copy_fp32" if k != 4 else "nobody", [i], request_id=str(k))
    answers = [got.get(timeout=20) for _ in range(10)]
    grpc.stop_stream()
    assert sum(e is not None for _, e in answers) == 1, answers
    for r, e in answers:
        if e is None:
            same(r.as_numpy("y"), a)


@check("grpc: deadline and compression")
def _():
    a = ARRAYS["fp32"]
    same(infer(tg, grpc, "copy_fp32", {"x": a}, ["y"], client_timeout=20, compression_algorithm="gzip").as_numpy("y"), a)


@check("the fields of our messages are Triton's")
def _():
    from google.protobuf import descriptor_pool
    from google.protobuf.descriptor_pb2 import FileDescriptorSet
    import pathlib
    ours = FileDescriptorSet.FromString(pathlib.Path(sys.argv[3]).read_bytes())
    pool, seen = descriptor_pool.Default(), 0

    def compare(message, theirs):
        nonlocal seen
        for f in message.field:
            other = theirs.fields_by_name.get(f.name)
            assert other is not None, (theirs.full_name, f.name)
            assert (other.number, other.type) == (f.number, f.type), (theirs.full_name, f.name, other.number, f.number)
            seen += 1
        for nested in message.nested_type:
            compare(nested, theirs.nested_types_by_name[nested.name])

    for file in ours.file:
        for message in file.message_type:
            compare(message, pool.FindMessageTypeByName("inference." + message.name))
        for enum in file.enum_type:
            theirs = pool.FindEnumTypeByName("inference." + enum.name)
            for v in enum.value:
                assert theirs.values_by_name[v.name].number == v.number, v
    assert seen > 150, seen


print(f"{len(failures)} failed")
sys.exit(1 if failures else 0)
