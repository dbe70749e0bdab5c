"""Writes the fixtures of package onnxio with the Python onnx package (made with onnx 1.23.2):

fields.onnx     a model in which every message, field and element type of ONNX occurs, tensors in typed fields
fields.json     what Python reads from it, field by field, with every tensor as raw_data
schema.json     number, type and label of every field of every message, from the descriptors of the Python package
raw.onnx        the same tensors as raw_data
external.onnx, external.bin   a model whose initializers are in another file
valid.onnx      a small valid model with subgraphs and functions, for the fuzzer
tensors/*.pb    a TensorProto of every element type

Run it in its own folder: python make_fields.py
"""
import copy
import json
import os

import ml_dtypes
import numpy as np
import onnx
from google.protobuf import json_format
from onnx import TensorProto as T
from onnx import helper, numpy_helper

VALUES = {
    T.FLOAT: [1.5, -2.25, 3e38],
    T.DOUBLE: [1.5, -2.25, 1e308],
    T.UINT8: [0, 1, 255],
    T.INT8: [-128, 0, 127],
    T.UINT16: [0, 1, 65535],
    T.INT16: [-32768, 0, 32767],
    T.INT32: [-2**31, 0, 2**31 - 1],
    T.INT64: [-2**63, 0, 2**63 - 1],
    T.UINT32: [0, 1, 2**32 - 1],
    T.UINT64: [0, 1, 2**64 - 1],
    T.BOOL: [True, False, True],
    T.FLOAT16: [1.5, -2.25, 65504.0],
    T.BFLOAT16: [1.5, -2.25, 3e38],
    T.COMPLEX64: [1.5 + 2j, -2.25j, 3],
    T.COMPLEX128: [1.5 + 2j, -2.25j, 1e308],
    T.FLOAT8E4M3FN: [1.5, -2.0, 448.0],
    T.FLOAT8E4M3FNUZ: [1.5, -2.0, 240.0],
    T.FLOAT8E5M2: [1.5, -2.0, 57344.0],
    T.FLOAT8E5M2FNUZ: [1.5, -2.0, 57344.0],
    T.FLOAT8E8M0: [1.0, 2.0, 0.5],
    T.UINT4: [1, 15, 7],
    T.INT4: [1, -8, 7],
    T.FLOAT4E2M1: [1.5, -6.0, 0.5],
    T.UINT2: [1, 3, 2, 0, 3],
    T.INT2: [1, -2, -1, 0, 1],
    T.FLOAT6E2M3: [1.5, -7.5, 0.125, 2.0, -0.5],
    T.FLOAT6E3M2: [1.5, -28.0, 0.0625, 2.0, -0.5],
    T.STRING: ["a", "", "grüße"],
}


def typed(elem, name):
    """A tensor whose elements are in the typed field."""
    t = helper.make_tensor(name, elem, [len(VALUES[elem])], VALUES[elem])
    assert not t.HasField("raw_data")
    return t


def raw(t):
    """The same tensor with raw_data, by way of NumPy."""
    if t.data_type == T.STRING or t.data_location == T.EXTERNAL:
        return t
    r = numpy_helper.from_array(numpy_helper.to_array(t), t.name)
    assert r.data_type == t.data_type, (t, r)
    out = copy.deepcopy(t)
    for f in ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "raw_data"):
        out.ClearField(f)
    out.raw_data = r.raw_data
    return out


def each_tensor(m):
    """Every TensorProto inside a message."""
    for f, v in m.ListFields():
        if f.message_type is None:
            continue
        for x in v if f.is_repeated else [v]:
            if x.DESCRIPTOR.name == "TensorProto":
                yield x
            else:
                yield from each_tensor(x)


def props(*kv):
    return [onnx.StringStringEntryProto(key=k, value=v) for k, v in kv]


def graph(name):
    """A small graph with a bit of everything."""
    g = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"], name="id")],
        name,
        [helper.make_tensor_value_info("x", T.FLOAT, ["N", 3, None])],
        [helper.make_tensor_value_info("y", T.FLOAT, None)],
    )
    return g


def sparse(name):
    indices = helper.make_tensor("", T.INT64, [2], [1, 5])
    indices.ClearField("name")
    return helper.make_sparse_tensor(helper.make_tensor(name, T.FLOAT, [2], [1.0, 2.0]), indices, [2, 3])


def attributes():
    A = onnx.AttributeProto
    attrs = [
        A(name="f", type=A.FLOAT, f=1.5), A(name="f0", type=A.FLOAT, f=0.0),
        A(name="i", type=A.INT, i=-7), A(name="i0", type=A.INT, i=0),
        A(name="s", type=A.STRING, s=b"text\xff"), A(name="s0", type=A.STRING, s=b""),
        A(name="t", type=A.TENSOR, t=typed(T.FLOAT, "in")), A(name="g", type=A.GRAPH, g=graph("inner")),
        A(name="floats", type=A.FLOATS, floats=[1, -0.5]), A(name="ints", type=A.INTS, ints=[1, -1]),
        A(name="strings", type=A.STRINGS, strings=[b"a", b""]),
        A(name="tensors", type=A.TENSORS, tensors=[typed(T.INT64, "one"), typed(T.BOOL, "two")]),
        A(name="graphs", type=A.GRAPHS, graphs=[graph("first"), graph("second")]),
        A(name="sparse", type=A.SPARSE_TENSOR, sparse_tensor=sparse("values")),
        A(name="sparses", type=A.SPARSE_TENSORS, sparse_tensors=[sparse("v1"), sparse("v2")]),
        A(name="tp", type=A.TYPE_PROTO, tp=helper.make_tensor_type_proto(T.INT4, [2, "M"])),
        A(name="tps", type=A.TYPE_PROTOS, type_protos=[helper.make_tensor_type_proto(T.FLOAT, []),
                                                         helper.make_sequence_type_proto(helper.make_tensor_type_proto(T.INT8, None))]),
        A(name="empty", type=A.INTS), A(name="doc", type=A.INT, i=1, doc_string="words"),
    ]
    return attrs


def types():
    tensor = helper.make_tensor_type_proto(T.FLOAT, [1, "N", None])
    tensor.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
    tensor.denotation = "IMAGE"
    out = [tensor, helper.make_tensor_type_proto(T.FLOAT, []), helper.make_tensor_type_proto(T.STRING, None),
           helper.make_sequence_type_proto(tensor), helper.make_optional_type_proto(helper.make_sequence_type_proto(tensor)),
           helper.make_map_type_proto(T.INT64, tensor), helper.make_sparse_tensor_type_proto(T.DOUBLE, [3, "K"])]
    opaque = onnx.TypeProto()
    opaque.opaque_type.domain, opaque.opaque_type.name = "dom", "Thing"
    return out + [opaque, onnx.TypeProto(denotation="nothing else")]


def fields():
    m = onnx.ModelProto(ir_version=13, producer_name="fields", producer_version="1.0", domain="test.domain",
                        model_version=42, doc_string="every field\nthere is")
    m.opset_import.extend([helper.make_opsetid("", 17), helper.make_opsetid("test.functions", 1)])
    m.metadata_props.extend(props(("labels", "[]"), ("empty", "")))
    g = m.graph
    g.CopyFrom(graph("main"))
    g.doc_string = "the graph"
    g.metadata_props.extend(props(("g", "1")))
    n = g.node[0]
    n.domain, n.overload, n.doc_string = "test", "v2", "a node"
    n.metadata_props.extend(props(("n", "1")))
    n.attribute.extend(attributes())
    n.device_configurations.add(configuration_id="two").sharding_spec.add(tensor_name="x", device=[0, 1])
    g.node.append(helper.make_node("Opt", ["", "x", ""], ["z", ""]))
    m.configuration.add(name="two", num_devices=2, device=["a", "b"])
    for i, t in enumerate(types()):
        v = g.value_info.add(name=f"v{i}", doc_string="a value")
        v.type.CopyFrom(t)
        v.metadata_props.extend(props(("v", str(i))))
    g.value_info.add(name="untyped")
    for elem in VALUES:
        t = typed(elem, T.DataType.Name(elem).lower())
        t.doc_string = "a tensor"
        t.metadata_props.extend(props(("t", "1")))
        g.initializer.append(t)
        g.initializer.append(helper.make_tensor("empty_" + t.name, elem, [0, 2], []))
    g.initializer.append(helper.make_tensor("scalar", T.FLOAT, [], [7.5]))
    g.initializer.append(numpy_helper.from_array(np.arange(2000, dtype=np.float32), "large_raw"))
    g.initializer.append(helper.make_tensor("large_floats", T.FLOAT, [40, 50], np.arange(2000, dtype=np.float32)))
    g.initializer.append(helper.make_tensor("large_doubles", T.DOUBLE, [2000], np.arange(2000, dtype=np.float64)))
    g.initializer.append(helper.make_tensor("large_complex", T.COMPLEX64, [1000], np.arange(1000).astype(np.complex64)))
    g.sparse_initializer.append(sparse("sparse_init"))
    q = g.quantization_annotation.add(tensor_name="x")
    q.quant_parameter_tensor_names.extend(props(("SCALE_TENSOR", "scalar"), ("ZERO_POINT_TENSOR", "uint8")))
    f = m.functions.add(name="Twice", domain="test.functions", overload="v1", doc_string="a function",
                        input=["a"], output=["b"], attribute=["alpha"])
    f.opset_import.append(helper.make_opsetid("", 17))
    f.attribute_proto.append(helper.make_attribute("beta", 2.5))
    f.metadata_props.extend(props(("f", "1")))
    f.value_info.append(helper.make_tensor_value_info("b", T.FLOAT, ["N"]))
    node = helper.make_node("LeakyRelu", ["a"], ["b"])
    node.attribute.append(onnx.AttributeProto(name="alpha", type=onnx.AttributeProto.FLOAT, ref_attr_name="alpha"))
    f.node.append(node)
    info = m.training_info.add()
    info.initialization.CopyFrom(graph("init"))
    info.algorithm.CopyFrom(graph("algorithm"))
    info.algorithm.initializer.append(numpy_helper.from_array(np.arange(2000, dtype=np.float32), "large"))
    info.initialization_binding.extend(props(("w", "y")))
    info.update_binding.extend(props(("w", "y")))
    return m


def external():
    w = np.arange(6, dtype=np.float32).reshape(2, 3)
    b = np.arange(5, dtype=np.int64)
    data = w.tobytes() + bytes(4096 - w.nbytes) + b.tobytes()
    with open("external.bin", "wb") as f:
        f.write(data)
    ws, bs = numpy_helper.from_array(w, "w"), numpy_helper.from_array(b, "b")
    from onnx.external_data_helper import set_external_data
    set_external_data(ws, "external.bin", 0, w.nbytes)
    set_external_data(bs, "external.bin", 4096, b.nbytes)
    for t in (ws, bs):
        t.ClearField("raw_data")
    g = helper.make_graph([helper.make_node("Identity", ["w"], ["y"]), helper.make_node("Identity", ["b"], ["z"])], "external", [],
                          [helper.make_tensor_value_info("y", T.FLOAT, [2, 3]), helper.make_tensor_value_info("z", T.INT64, [5])],
                          initializer=[ws, bs])
    m = helper.make_model(g, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(m, "external.onnx")
    onnx.checker.check_model("external.onnx")


def valid():
    """A model that passes every check: If with subgraphs that read outer values, a function, shapes as constants."""
    then = helper.make_graph([helper.make_node("Relu", ["x"], ["then_out"])], "then", [], [helper.make_tensor_value_info("then_out", T.FLOAT, None)])
    other = helper.make_graph([helper.make_node("Twice", ["x"], ["else_out"], domain="local", alpha=0.5)], "else", [],
                              [helper.make_tensor_value_info("else_out", T.FLOAT, None)])
    leaky = helper.make_node("LeakyRelu", ["a"], ["b"])
    leaky.attribute.append(onnx.AttributeProto(name="alpha", type=onnx.AttributeProto.FLOAT, ref_attr_name="alpha"))
    f = helper.make_function("local", "Twice", ["a"], ["b"], [leaky], [helper.make_opsetid("", 17)], ["alpha"])
    g = helper.make_graph(
        [helper.make_node("Conv", ["input", "conv.weight", "conv.bias"], ["x"], name="conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
         helper.make_node("If", ["flag"], ["y"], name="choice", then_branch=then, else_branch=other),
         helper.make_node("Reshape", ["y", "shape"], ["output"], name="flat")],
        "valid", [helper.make_tensor_value_info("input", T.FLOAT, ["N", 3, 8, 8]), helper.make_tensor_value_info("flag", T.BOOL, [])],
        [helper.make_tensor_value_info("output", T.FLOAT, ["N", 64])],
        initializer=[numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "conv.weight"),
                     numpy_helper.from_array(np.zeros(4, np.float32), "conv.bias"),
                     numpy_helper.from_array(np.array([0, -1]), "shape")])
    m = helper.make_model(g, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("local", 1)], ir_version=8,
                          functions=[f], producer_name="valid")
    onnx.checker.check_model(m, full_check=True)
    onnx.save(m, "valid.onnx")


def schema():
    """{message: {field: [number, kind, repeated, packed]}} of everything that ModelProto is made of."""
    out = {}

    def visit(d):
        name = d.full_name.removeprefix("onnx.")
        if name in out:
            return
        out[name] = {f.name: [f.number, f.type, f.is_repeated, f.is_packed] for f in d.fields}
        for f in d.fields:
            if f.message_type is not None:
                visit(f.message_type)

    visit(onnx.ModelProto.DESCRIPTOR)
    return out


def main():
    with open("schema.json", "w") as f:
        json.dump(schema(), f, indent=1, sort_keys=True)
        f.write("\n")
    m = fields()
    with open("fields.onnx", "wb") as f:
        f.write(m.SerializeToString(deterministic=True))
    r = copy.deepcopy(m)
    for g in [r.graph, *r.functions]:
        for t in list(each_tensor(g)):
            t.CopyFrom(raw(t))
    with open("raw.onnx", "wb") as f:
        f.write(r.SerializeToString(deterministic=True))
    r.ClearField("configuration")
    r.graph.node[0].ClearField("device_configurations")
    with open("fields.json", "w") as f:
        json.dump(json_format.MessageToDict(r, preserving_proto_field_name=True), f, indent=1, sort_keys=True, ensure_ascii=False)
        f.write("\n")
    os.makedirs("tensors", exist_ok=True)
    for elem in VALUES:
        name = T.DataType.Name(elem).lower()
        with open(f"tensors/{name}.pb", "wb") as f:
            f.write(typed(elem, name).SerializeToString(deterministic=True))
    external()
    valid()


if __name__ == "__main__":
    main()
