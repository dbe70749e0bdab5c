"""The schemas of every ai.onnx operator, all versions, as the onnx package declares them.

    python schemas.py       writes schemas.json beside this script

operator -> version -> {"in": [[name, option, types]], "out": [...], "attrs": {name: [type, required]}}; option is
"single", "optional" or "variadic"; types are element type names of tensors, joined by spaces.
Recorded with onnx 1.23.
"""
import json
import pathlib

import onnx

table = {}
for s in onnx.defs.get_all_schemas_with_history():
    if s.domain != "":
        continue
    types = {c.type_param_str: c.allowed_type_strs for c in s.type_constraints}

    def params(ps):
        out = []
        for p in ps:
            names = sorted(t[7:-1] for t in types.get(p.type_str, [p.type_str]) if t.startswith("tensor("))
            out.append([p.name, p.option.name.lower(), " ".join(names)])
        return out

    table.setdefault(s.name, {})[str(s.since_version)] = {
        "in": params(s.inputs), "out": params(s.outputs), "deprecated": bool(s.deprecated),
        "attrs": {n: [a.type.name, bool(a.required)] for n, a in sorted(s.attributes.items())},
    }

path = pathlib.Path(__file__).with_name("schemas.json")
lines = [json.dumps(op) + ":" + json.dumps(table[op], sort_keys=True, separators=(",", ":")) for op in sorted(table)]
path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
print(onnx.__version__, len(table), "operators,", path.stat().st_size, "bytes")
