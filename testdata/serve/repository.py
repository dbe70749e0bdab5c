"""Reads an exported repository with Triton's own messages and asks the server that serves it: repository.py REPO HTTP GRPC."""

import pathlib
import sys

import numpy as np
import tritonclient.grpc as tg
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

repo, http, grpc = sys.argv[1:4]
seen = 0
for path in sorted(pathlib.Path(repo).glob("*/config.pbtxt")):
    config = text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
    assert config.name == path.parent.name and config.platform == "onnxruntime_onnx", config
    assert all(i.data_type and len(i.dims) for i in list(config.input) + list(config.output)), config
    assert (path.parent / "1" / "model.onnx").is_file()
    for o in config.output:
        assert not o.label_filename or (path.parent / o.label_filename).is_file()
    seen += 1
assert seen > 15, seen
client = tg.InferenceServerClient(grpc)
x = tg.InferInput("input", [2, 1, 28, 28], "FP32")
x.set_data_from_numpy(np.zeros((2, 1, 28, 28), np.float32))
answer = client.infer("digits", [x], outputs=[tg.InferRequestedOutput("output", class_count=3)]).as_numpy("output")
assert answer.shape == (2, 3) and answer[0][0].decode().count(":") == 2, answer
print("ok  ", seen, "configurations; digits says", answer[0][0].decode())
