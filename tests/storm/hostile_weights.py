"""Hostile weights: headers that say otherwise, pickles that would run code, and what torch wrote of other things."""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from storm.hostile import Hostile, Touch, npy, zipped


def safetensors(header: Any, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def weights_header(whole: bytes, rng: random.Random) -> Hostile:
    """The header of a safetensors file says something else."""
    (length,) = struct.unpack("<Q", whole[:8])
    header, data = json.loads(whole[8 : 8 + length]), whole[8 + length :]
    name = rng.choice([key for key in header if key != "__metadata__"])
    entry = header[name]
    kind = rng.choice(
        ["dtype", "dtype", "shape", "offsets", "key", "shape of nothing", "json", "deep", "doubled", "names"]
    )
    if kind == "dtype":
        entry["dtype"] = rng.choice(
            ("F64", "F16", "BF16", "I32", "U32", "F8_E4M3", "F8_E5M2", "I8", "BOOL", "C64", "X", 5, None, "")
        )
    elif kind == "shape":
        entry["shape"] = rng.choice(
            ([2**62, 4], [2**32, 2**32], [-1], [-8, -8], [], [0], "8", None, [8.5], [[8]], [64], [1] * 300)
        )
    elif kind == "offsets":
        entry["data_offsets"] = rng.choice(([0, 2**63], [-8, 8], [8, 0], [0], [], "0", [0, 1], [2**40, 2**40 + 4]))
    elif kind == "key":
        header.pop(name)
    elif kind == "shape of nothing":
        header[f"{name}.empty"] = {"dtype": "F32", "shape": [0, 2**40], "data_offsets": [0, 0]}
    elif kind == "json":
        return Hostile(
            "weights: header: json",
            safetensors(rng.choice((b"[]", b"null", b"{", b'{"a": NaN}', b"\xff\xfe", b'""', b"5")), data),
        )
    elif kind == "deep":
        return Hostile("weights: header: deep", safetensors(b'{"a":' * 5000 + b"1" + b"}" * 5000, data))
    elif kind == "doubled":
        text = json.dumps(header)
        return Hostile(
            "weights: header: doubled", safetensors((text[:-1] + ", " + text[1:]).encode(), data), refused=False
        )
    else:
        header[rng.choice(("\x1b[2J", "a" * 10_000, "\u202e", "", "a\nb", "__metadata__"))] = header.pop(name)
    return Hostile(f"weights: header: {kind}", safetensors(header, data), refused=False)


def weights_pickled(marker: Path, rng: random.Random) -> Hostile:
    """A pickle that runs code when it is loaded, in each of the containers that torch has had."""
    evil = pickle.dumps({"0.weight": Touch(marker)}, protocol=rng.choice((0, 2, 4)))
    kind = rng.choice(["raw", "zip", "legacy", "zip in zip", "numpy", "tar", "after a whole one"])
    if kind == "zip":
        content = zipped({"archive/data.pkl": evil, "archive/version": b"3\n", "archive/byteorder": b"little"})
    elif kind == "zip in zip":
        content = zipped({"archive/data.pkl": zipped({"data.pkl": evil}), "archive/version": b"3\n"})
    elif kind == "legacy":
        magic = (
            pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)
        )
        content = magic + evil + pickle.dumps([], 2)
    elif kind == "numpy":
        content = npy(evil, np.dtype(object), "(1,)")
    elif kind == "tar":
        content = _tar({"storages": evil, "tensors": evil, "pickle": evil})
    elif kind == "after a whole one":
        content = pickle.dumps({}) + evil
    else:
        content = evil
    return Hostile(f"weights: code in a pickle: {kind}", content)


def _tar(files: dict[str, bytes]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for name, content in files.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))
    return written.getvalue()


def weights_odd(whole: dict[str, Any], rng: random.Random) -> Hostile:
    """A checkpoint that torch wrote, of something else than plain float weights that fit."""
    import torch

    def cast(kind: Any) -> dict[str, Any]:
        return {name: value.to(kind) for name, value in whole.items()}

    first = next(iter(whole))
    kinds: dict[str, tuple[Callable[[], Any], bool]] = {
        "a list": (lambda: [1, 2], True),
        "a number": (lambda: 5, True),
        "a tensor": (lambda: whole[first], True),
        "empty": (dict, True),
        "nested": (lambda: {"a": {"b": {"c": whole}}}, False),
        "keys that are no text": (lambda: dict(enumerate(whole.values())), True),
        "sparse": (lambda: whole | {first: whole[first].to_sparse()}, False),
        "float8": (lambda: cast(torch.float8_e4m3fn), False),
        "complex": (lambda: cast(torch.complex64), True),
        "bool": (lambda: cast(torch.bool), True),
        "int8": (lambda: cast(torch.int8), True),
        "double": (lambda: cast(torch.float64), False),
        "not a number": (lambda: whole | {first: whole[first] * float("nan")}, True),
        "quantized": (lambda: whole | {first: torch.quantize_per_tensor(whole[first], 0.1, 0, torch.qint8)}, True),
        "of no device": (lambda: whole | {first: whole[first].to("meta")}, True),
        "another shape": (lambda: whole | {first: whole[first][:3]}, True),
        "one missing": (lambda: {name: value for name, value in whole.items() if name != first}, True),
        "one more": (lambda: whole | {"more.weight": whole[first]}, False),
        "ten thousand more": (lambda: whole | {f"m{n}": torch.zeros(1) for n in range(10_000)}, False),
        "names with escapes": (lambda: {f"{name}\x1b[31m": value for name, value in whole.items()}, True),
        "a class of mine": (lambda: {"model": Touch(Path("/nonexistent/of-a-storm"))}, True),
    }
    kind = rng.choice(list(kinds))
    made, refused = kinds[kind]
    written = io.BytesIO()
    torch.save(made(), written, _use_new_zipfile_serialization=rng.random() < 0.7)
    return Hostile(f"weights: {kind}", written.getvalue(), refused=refused)
