"""Sends the same requests to a server and to mlserver: mlserver_peer.py HTTP_ADDRESS GRPC_ADDRESS MODEL.onnx.

mlserver has no runtime of its own for ONNX; class Model below is one, by ONNX Runtime. Both have the model under the name "lenet".
Needs pip install mlserver onnxruntime."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.errors import InferenceError
from mlserver.types import InferenceResponse, MetadataTensor


class Model(MLModel):
    """An .onnx file, run by ONNX Runtime."""

    async def load(self):
        self.session = onnxruntime.InferenceSession(self.settings.parameters.uri, providers=["CPUExecutionProvider"])
        self.inputs = [MetadataTensor(name=v.name, datatype="FP32", shape=[d if isinstance(d, int) else -1 for d in v.shape])
                       for v in self.session.get_inputs()]
        self.outputs = [MetadataTensor(name=v.name, datatype="FP32", shape=[d if isinstance(d, int) else -1 for d in v.shape])
                        for v in self.session.get_outputs()]
        return True

    async def predict(self, payload):
        try:
            out = self.session.run(None, {i.name: NumpyCodec.decode_input(i) for i in payload.inputs})
        except Exception as e:
            raise InferenceError(str(e)) from e
        return InferenceResponse(model_name=self.name, id=payload.id, outputs=[
            NumpyCodec.encode_output(v.name, y) for v, y in zip(self.session.get_outputs(), out)])


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def ask(address, path, body=None):
    """The status and the JSON of an answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{address}/v2/{path}", data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as r:
            return r.status, json.loads(r.read() or "{}")
    except urllib.error.HTTPError as e:
        return e.code, json.loads(e.read() or "{}")


def numbers(answer):
    return {o["name"]: (o["datatype"], np.array(o["data"], np.float32).reshape(o["shape"])) for o in answer["outputs"]}


def compare(ours, theirs, what):
    assert ours.keys() == theirs.keys(), (what, ours.keys(), theirs.keys())
    for name, (kind, y) in ours.items():
        assert kind == theirs[name][0] and y.shape == theirs[name][1].shape, (what, kind, y.shape, theirs[name])
        scale = np.abs(theirs[name][1]).max()
        assert np.abs(y - theirs[name][1]).max() <= 1e-5 * scale, (what, np.abs(y - theirs[name][1]).max())
    print("ok  ", what)


def judge(ours, rpc, theirs, their_rpc):
    metas = [ask(a, "models/lenet")[1] for a in (ours, theirs)]
    for side in ("inputs", "outputs"):
        got = [[(t["name"], t["datatype"], t["shape"]) for t in m[side]] for m in metas]
        assert got[0] == got[1], got
    print("ok   metadata")
    name, _, shape = [(t["name"], t["datatype"], t["shape"]) for t in metas[0]["inputs"]][0]
    for n in (1, 5):
        x = np.random.default_rng(n).standard_normal([n] + shape[1:], np.float32)
        for flat in (True, False):
            body = {"id": f"request-{n}", "inputs": [{"name": name, "datatype": "FP32", "shape": list(x.shape),
                                                      "data": (x.ravel() if flat else x).tolist()}]}
            answers = [ask(a, "models/lenet/infer", body) for a in (ours, theirs)]
            assert [s for s, _ in answers] == [200, 200], answers
            assert answers[0][1]["id"] == answers[1][1]["id"] == f"request-{n}"
            compare(*(numbers(a) for _, a in answers), f"HTTP, {n} images, data {'flat' if flat else 'nested'}")
    wrong = {"inputs": [{"name": name, "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}
    statuses = [ask(a, "models/lenet/infer", wrong)[0] for a in (ours, theirs)]
    assert 400 <= statuses[0] < 500, statuses
    print("ok   a wrong shape:", *statuses)

    import grpc
    from mlserver.grpc import dataplane_pb2 as pb
    from mlserver.grpc.dataplane_pb2_grpc import GRPCInferenceServiceStub
    request = pb.ModelInferRequest(model_name="lenet", inputs=[pb.ModelInferRequest.InferInputTensor(
        name=name, datatype="FP32", shape=x.shape, contents=pb.InferTensorContents(fp32_contents=x.ravel().tolist()))])

    def infer(address):
        with grpc.insecure_channel(address) as channel:
            answer = GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=30)
        out = {}
        for i, o in enumerate(answer.outputs):
            raw = answer.raw_output_contents
            y = np.frombuffer(raw[i], np.float32) if raw else np.array(o.contents.fp32_contents, np.float32)
            out[o.name] = (o.datatype, y.reshape(o.shape))
        return out
    compare(infer(rpc), infer(their_rpc), "gRPC, mlserver's own stubs")


def main(ours, rpc, model):
    ports = {key: free_port() for key in ("http_port", "grpc_port", "metrics_port")}
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "settings.json"), "w") as f:
            json.dump(dict(host="127.0.0.1", parallel_workers=0, **ports), f)
        with open(os.path.join(folder, "model-settings.json"), "w") as f:
            json.dump(dict(name="lenet", implementation="mlserver_peer.Model", parameters={"uri": os.path.abspath(model)}), f)
        env = dict(os.environ, PYTHONPATH=os.path.dirname(os.path.abspath(__file__)))
        with open(os.path.join(folder, "log"), "w+") as log:
            server = subprocess.Popen([sys.executable, "-m", "mlserver.cli.main", "start", folder], env=env, stdout=log, stderr=log)
            try:
                theirs = f"127.0.0.1:{ports['http_port']}"
                for _ in range(300):
                    assert server.poll() is None, "mlserver has ended:\n" + open(log.name).read()
                    try:
                        if ask(theirs, "models/lenet/ready")[0] == 200:
                            break
                    except OSError:
                        pass
                    time.sleep(0.2)
                judge(ours, rpc, theirs, f"127.0.0.1:{ports['grpc_port']}")
            finally:
                server.terminate()
                server.wait(30)


if __name__ == "__main__":
    main(*sys.argv[1:])
