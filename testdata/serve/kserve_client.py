"""Asks a server as kserve's clients do: kserve_client.py HTTP_ADDRESS GRPC_ADDRESS. Apart from clients.py, since kserve and
tritonclient register the same messages twice."""

import asyncio
import sys

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

HTTP, GRPC = "http://" + sys.argv[1], sys.argv[2]
A, B = np.arange(8, dtype=np.float32).reshape(2, 4), np.array([[3, -4], [5, 6]], np.int64)
WANT = {"sum": A + A, "product": B * B}


def request(**how):
    ins = [InferInput("a", [2, 4], "FP32"), InferInput("b", [2, 2], "INT64")]
    ins[0].set_data_from_numpy(A, **how)
    ins[1].set_data_from_numpy(B, **how)
    return InferRequest("pair", ins)


def judge(response):
    assert {o.name for o in response.outputs} == set(WANT)
    for o in response.outputs:
        got = o.as_numpy()
        assert got.dtype == WANT[o.name].dtype and (got == WANT[o.name]).all(), (o.name, got)


async def rest():
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    assert await client.is_server_live(HTTP) and await client.is_server_ready(HTTP)
    assert await client.is_model_ready(HTTP, "pair")
    for binary in (False, True):
        judge(await client.infer(HTTP, request(binary_data=binary), model_name="pair"))
    try:
        await client.infer(HTTP, InferRequest("nobody", request().inputs), model_name="nobody")
    except Exception as e:
        assert "404" in str(e), e
    else:
        raise AssertionError("a model that is not there answers")


async def grpc():
    client = InferenceGRPCClient(GRPC)
    assert await client.is_server_ready() and await client.is_model_ready("pair")
    judge(await client.infer(request(binary_data=False)))
    judge(await client.infer(request(binary_data=True)))


asyncio.run(rest())
asyncio.run(grpc())
print("ok   kserve: REST and gRPC")
