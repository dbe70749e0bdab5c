#!/usr/bin/env python3
"""Reads the event files of package train/report with TensorBoard's own reader and compares.

    pip install tensorboard
    python testdata/report/check_events.py            # the golden file, against golden.json
    python testdata/report/check_events.py FOLDER     # any run's folder: prints its scalars

go test ./train/report -run Golden -update writes the golden file anew.
"""
import json
import math
import os
import struct
import sys
import tempfile

from tensorboard.backend.event_processing import event_accumulator, event_file_loader

here = os.path.dirname(os.path.abspath(__file__))


def read(path):
    """What the reader that TensorBoard's pages are made from finds: scalars, images, the file's version."""
    acc = event_accumulator.EventAccumulator(path, size_guidance={k: 0 for k in ("scalars", "images", "tensors")})
    acc.Reload()
    tags = acc.Tags()
    scalars = {t: [[e.wall_time, e.step, str(e.value) if not math.isfinite(e.value) else round(e.value, 6)] for e in acc.Scalars(t)]
               for t in sorted(tags["scalars"])}
    images = {t: [[e.step, e.width, e.height, e.encoded_image_string[:8].hex()] for e in acc.Images(t)] for t in sorted(tags["images"])}
    return {"scalars": scalars, "images": images, "version": acc.file_version}


def broken(path):
    """The reader checks what it reads: with one bit of the data turned, it stops there."""
    data = bytearray(open(path, "rb").read())
    (length,) = struct.unpack("<Q", data[:8])
    data[16 + length + 12 + 20] ^= 1  # in the second event
    with tempfile.TemporaryDirectory() as folder:
        bad = os.path.join(folder, "events.out.tfevents.broken")
        with open(bad, "wb") as f:
            f.write(data)
        return len(list(event_file_loader.EventFileLoader(bad).Load()))


if len(sys.argv) > 1:
    json.dump(read(sys.argv[1]), sys.stdout, indent=1)
    sys.exit()
path = os.path.join(here, "events.out.tfevents.1760000000.golden.0.0")
got = read(path)
with open(os.path.join(here, "golden.json")) as f:
    want = json.load(f)
if got != want:
    sys.exit(f"read:   {json.dumps(got)}\nwanted: {json.dumps(want)}")
if broken(path) != 1:
    sys.exit(f"a wrong checksum in the second event, and {broken(path)} are read")
print("as it should be")
