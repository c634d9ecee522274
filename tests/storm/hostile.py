"""Hostile files, made from a seed: weights, arrays, images and lists of labels that nobody should have to read.

Each maker gives the file's bytes, or makes something else in its place, and says whether it must be refused. Pickles
that would run code make a marker when they do.
"""

from __future__ import annotations

import io
import os
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d" * 32 + b"\nsize 12345\n"
HTML = b"<!DOCTYPE html><html><head><title>404 Not Found</title></head><body>not found</body></html>\n"


class Touch:
    """Runs code when it is unpickled: it makes the marker."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._marker),)


@dataclass(frozen=True)
class Hostile:
    """kind: for the table. content: of the file; make: instead of it. refused: it cannot be anything else."""

    kind: str
    content: bytes = b""
    make: Callable[[Path], None] | None = None
    refused: bool = True

    def place(self, path: Path) -> None:
        if self.make is None:
            path.write_bytes(self.content)
        else:
            self.make(path)


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def _to_zero(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _socket(path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as made:
        here = Path.cwd()
        os.chdir(path.parent)  # an address is 108 bytes at most
        try:
            made.bind(path.name)
        finally:
            os.chdir(here)


PLACES: dict[str, Callable[[Path], None]] = {
    "a FIFO": os.mkfifo,
    "a folder": Path.mkdir,
    "a loop of links": _loop,
    "a link to nowhere": _dangling,
    "a link to /dev/zero": _to_zero,
    "a socket": _socket,
}


def of_any_kind(whole: bytes, rng: random.Random) -> Hostile:
    """From a whole file, whatever its format."""
    kind = rng.choice(["cut", "cut", "flipped", "flipped", "flipped", "replaced", "longer", "place", "doubled"])
    if kind == "cut":
        return Hostile("cut short", whole[: rng.choice((0, 1, 7, 8, 9, 64, rng.randrange(len(whole))))])
    if kind == "flipped":
        changed = bytearray(whole)
        end = rng.choice((16, 200, len(whole)))
        for _ in range(rng.choice((1, 1, 3, 20))):
            changed[rng.randrange(min(end, len(changed)))] ^= 1 << rng.randrange(8)
        return Hostile("bits flipped", bytes(changed), refused=False)
    if kind == "longer":
        return Hostile("longer", whole + rng.randbytes(rng.choice((1, 1000))), refused=False)
    if kind == "doubled":
        return Hostile("a span doubled", _doubled(whole, rng), refused=False)
    if kind == "place":
        what = rng.choice(list(PLACES))
        return Hostile(what, make=PLACES[what])
    others = {
        "Git LFS pointer": LFS, "a web page": HTML, "nothing": b"", "zeros": bytes(5000), "noise": rng.randbytes(3000),
        "gzip": b"\x1f\x8b\x08" + zlib.compress(whole), "text": "日本\x1b[31m\n".encode() * 50,
        "a huge length": struct.pack("<Q", rng.choice((2**63, 2**64 - 1, 2**40, 10**9))) + whole[8:],
    }  # fmt: skip
    what = rng.choice(list(others))
    return Hostile(what, others[what])


def _doubled(whole: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(whole))
    return whole[:start] + whole[start : start + rng.choice((1, 8, 100))] + whole[start:]


def zipped(files: dict[str, bytes]) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return written.getvalue()


def npy(data: bytes, dtype: Any, shape: str, order: str = "False") -> bytes:
    described = dtype if isinstance(dtype, str) else np.lib.format.dtype_to_descr(dtype)
    header = f"{{'descr': {described!r}, 'fortran_order': {order}, 'shape': {shape}, }}".encode()
    header += b" " * (63 - (10 + len(header)) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def saved(array: Any) -> bytes:
    written = io.BytesIO()
    np.save(written, array, allow_pickle=False)
    return written.getvalue()
