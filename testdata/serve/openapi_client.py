"""Asks a server by the client that is generated from the protocol's OpenAPI schema, whose types judge the answers:
openapi_client.py HTTP_ADDRESS. It needs open-inference-openapi."""

import sys

from open_inference.openapi.client import OpenInferenceClient
from open_inference.openapi.core.api_error import ApiError
from open_inference.openapi.types import InferenceRequest, RequestInput, RequestOutput, TensorData

client = OpenInferenceClient(base_url="http://" + sys.argv[1])
client.check_server_liveness()
client.check_server_readiness()
client.check_model_readiness("pair")
client.check_model_version_readiness("pair", "1")
meta = client.read_model_metadata("pair")
assert [(t.name, t.datatype, t.shape) for t in meta.inputs] == [("a", "FP32", [-1, 4]), ("b", "INT64", [-1, 2])], meta
server = client.read_server_metadata()
assert server.name == "cnnkit" and server.extensions, server


def request(shape):
    return InferenceRequest(
        id="x",
        inputs=[
            RequestInput(name="a", shape=shape, datatype="FP32", data=TensorData.parse_obj([1, 2, 3, 4.5])),
            RequestInput(name="b", shape=[1, 2], datatype="INT64", data=TensorData.parse_obj([3, -4])),
        ],
        outputs=[RequestOutput(name="product"), RequestOutput(name="sum")],
    )


answer = client.model_infer("pair", request=request([1, 4]))
assert answer.id == "x" and [o.name for o in answer.outputs] == ["product", "sum"], answer
assert list(answer.outputs[0].data.__root__) == [9, 16] and list(answer.outputs[1].data.__root__) == [2, 4, 6, 9], answer
for status, ask in ((400, lambda: client.model_infer("pair", request=request([4, 1]))),
                    (404, lambda: client.model_infer("nobody", request=request([1, 4]))),
                    (404, lambda: client.check_model_readiness("nobody"))):
    try:
        ask()
    except ApiError as e:
        assert e.status_code == status and e.body["error"], e
    else:
        raise AssertionError(status)
print("ok   the protocol's OpenAPI client")
