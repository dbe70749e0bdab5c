"""The schemas of every com.microsoft operator, as ONNX Runtime declares them, in the form of schemas.json.

    python contrib.py       writes contrib.json beside this script

Recorded with onnxruntime 1.32.
"""
import json
import pathlib

import onnxruntime.capi.onnxruntime_pybind11_state as state

table = {}
for s in state.get_all_operator_schema():
    if s.domain != "com.microsoft":
        continue
    types = {c.type_param_str: c.allowed_type_strs for c in s.type_constraints}

    def params(ps):
        out = []
        for p in ps:
            names = sorted(t[7:-1] for t in types.get(p.typeStr, [p.typeStr]) if t.startswith("tensor("))
            out.append([p.name, p.option.name.lower(), " ".join(names)])
        return out

    table.setdefault(s.name, {})[str(s.since_version)] = {
        "in": params(s.inputs), "out": params(s.outputs),
        "attrs": {n: [a.type.name, bool(a.required)] for n, a in sorted(s.attributes.items())},
    }

path = pathlib.Path(__file__).with_name("contrib.json")
lines = [json.dumps(op) + ":" + json.dumps(table[op], sort_keys=True, separators=(",", ":")) for op in sorted(table)]
path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
print(len(table), "operators,", path.stat().st_size, "bytes")
