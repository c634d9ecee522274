"""Hostile .npz files and lists of labels."""

from __future__ import annotations

import io
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from storm.hostile import Hostile, Touch, npy, of_any_kind, saved, zipped


def arrays_odd(x: Any, y: Any, marker: Path, rng: random.Random) -> Hostile:
    """An .npz of other arrays than plain samples and labels."""
    good = {"x.npy": saved(x), "y.npy": saved(y)}
    shapes = (
        "(96, 9223372036854775807)",
        "(4294967296, 4294967296)",
        "(-1, 8)",
        "()",
        "(96,)",
        "8",
        "None",
        "(96, 8, 1",
        "(96.0, 8)",
    )
    dtypes = ("<f3", "O", "|S0", "<M8[s]", "x", "<f16", ">f4")
    code = npy(pickle.dumps(Touch(marker)), np.dtype(object), "(1,)")

    def with_x(written: bytes) -> bytes:
        return zipped(good | {"x.npy": written})

    kinds: dict[str, tuple[Callable[[], bytes], bool]] = {
        "code in a pickle": (lambda: with_x(code), True),
        "code beside": (lambda: zipped(good | {"z.npy": code}), False),
        "a bare pickle": (lambda: pickle.dumps(Touch(marker)), True),
        "a shape declared": (lambda: with_x(npy(x.tobytes(), x.dtype, rng.choice(shapes))), False),
        "a dtype declared": (lambda: with_x(npy(x.tobytes(), rng.choice(dtypes), str(x.shape))), False),
        "a header that is none": (lambda: with_x(b"\x93NUMPY\x01\x00\xff\xff" + bytes(60)), True),
        "a header that is code": (lambda: with_x(npy(b"", "<f4", "(__import__('os').getpid(),)")), True),
        "texts": (lambda: with_x(saved(np.full(x.shape, "a"))), True),
        "dates": (lambda: with_x(saved(x.astype("datetime64[s]"))), True),
        "complex": (lambda: with_x(saved(x.astype(complex))), True),
        "records": (lambda: with_x(saved(np.zeros(96, [("a", "f4"), ("b", "i4")]))), True),
        "not a number": (lambda: with_x(saved(x * np.float32("nan"))), True),
        "infinite": (lambda: with_x(saved(x + np.float32("inf"))), True),
        "no samples": (lambda: zipped({"x.npy": saved(x[:0]), "y.npy": saved(y[:0])}), True),
        "one sample": (lambda: zipped({"x.npy": saved(x[:1]), "y.npy": saved(y[:1])}), True),
        "fewer labels": (lambda: zipped(good | {"y.npy": saved(y[:50])}), True),
        "a huge label": (lambda: zipped(good | {"y.npy": saved(np.where(y == 3, 2**62, y))}), True),
        "a label below 0": (lambda: zipped(good | {"y.npy": saved(y - 2)}), True),
        "labels that are no numbers": (lambda: zipped(good | {"y.npy": saved(y.astype(str))}), True),
        "labels with fractions": (lambda: zipped(good | {"y.npy": saved(y + 0.5)}), True),
        "no x": (lambda: zipped({"y.npy": saved(y)}), True),
        "no y": (lambda: zipped({"x.npy": saved(x)}), True),
        "a single array": (lambda: saved(x), True),
        "an archive in it": (lambda: with_x(zipped(good)), True),
        "names that leave": (lambda: zipped(good | {"../../x.npy": saved(x), "/etc/x.npy": saved(x)}), False),
        "a name twice": (lambda: zipped(good) + zipped(good), False),
        "a bomb": (lambda: _bomb(), True),
        "another byte order": (lambda: with_x(saved(x.astype(">f4"))), False),
        "scalars": (lambda: zipped({"x.npy": saved(np.float32(1)), "y.npy": saved(np.int64(1))}), True),
    }  # fmt: skip
    kind = rng.choice(list(kinds))
    made, refused = kinds[kind]
    return Hostile(f"arrays: {kind}", made(), refused=refused)


def _bomb() -> bytes:
    """4 GiB of zeros declared, and a part of them there."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", npy(bytes(10**6), np.dtype("<f4"), "(1073741824,)"))
        archive.writestr("y.npy", saved(np.arange(96) % 4))
    return written.getvalue()


def labels(rng: random.Random) -> Hostile:
    good = b"ant\nbee\ncow\ndog\n"
    kinds: dict[str, tuple[bytes, bool]] = {
        "a byte-order mark": (b"\xef\xbb\xbf" + good, False),
        "UTF-16": (good.decode().encode("utf-16"), True),
        "Latin-1": ("ant\nb\xe9\ncow\ndog\n".encode("latin-1"), True),
        "zero bytes": (good.replace(b"b", b"\0"), False),
        "too few": (b"ant\nbee\n", True),
        "too many": (good + b"elk\nfox\n", True),
        "one twice": (b"ant\nant\ncow\ndog\n", False),
        "an empty one": (b"ant\n\ncow\ndog\n", False),
        "a million": (b"a\n" * 1_000_000, True),
        "escapes": (b"\x1b[31mant\nbee\x07\ncow\ndog\n", False),
        "a separator in one": ("ant\nbe\u2028e\ncow\ndog\n".encode(), False),
        "lines of Windows": (good.replace(b"\n", b"\r\n"), False),
        "a long one": (b"ant\nbee\ncow\n" + b"d" * 1_000_000 + b"\n", False),
        "nothing": (b"", True),
    }
    if rng.random() < 0.4:
        found = of_any_kind(good, rng)
        return Hostile(f"labels: {found.kind}", found.content, found.make, refused=found.make is not None)
    kind = rng.choice(list(kinds))
    content, refused = kinds[kind]
    return Hostile(f"labels: {kind}", content, refused=refused)
