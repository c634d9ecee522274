"""Hostile files, made from a seed: weights, arrays, images and lists of labels that nobody should have to read.

Each maker gives the file's bytes, or makes something else in its place, and says whether it must be refused. Pickles that
would run code touch a marker when they do.
"""

from __future__ import annotations

import io
import json
import os
import pickle
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


# Weights


def safetensors(header: Any, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def weights_header(whole: bytes, rng: random.Random) -> Hostile:
    """The header of a safetensors file says something else."""
    (length,) = struct.unpack("<Q", whole[:8])
    header, data = json.loads(whole[8 : 8 + length]), whole[8 + length :]
    name = rng.choice([key for key in header if key != "__metadata__"])
    entry = header[name]
    kind = rng.choice(["dtype", "dtype", "shape", "offsets", "key", "shape of nothing", "json", "deep", "doubled", "names"])
    if kind == "dtype":
        entry["dtype"] = rng.choice(("F64", "F16", "BF16", "I32", "U32", "F8_E4M3", "F8_E5M2", "I8", "BOOL", "C64", "X", 5, None, ""))
    elif kind == "shape":
        entry["shape"] = rng.choice(([2**62, 4], [2**32, 2**32], [-1], [-8, -8], [], [0], "8", None, [8.5], [[8]], [64], [1] * 300))
    elif kind == "offsets":
        entry["data_offsets"] = rng.choice(([0, 2**63], [-8, 8], [8, 0], [0], [], "0", [0, 1], [2**40, 2**40 + 4]))
    elif kind == "key":
        header.pop(name)
    elif kind == "shape of nothing":
        header[f"{name}.empty"] = {"dtype": "F32", "shape": [0, 2**40], "data_offsets": [0, 0]}
    elif kind == "json":
        return Hostile("weights: header: json", safetensors(rng.choice((b"[]", b"null", b"{", b'{"a": NaN}', b"\xff\xfe", b'""', b"5")), data))
    elif kind == "deep":
        return Hostile("weights: header: deep", safetensors(b'{"a":' * 5000 + b"1" + b"}" * 5000, data))
    elif kind == "doubled":
        text = json.dumps(header)
        return Hostile("weights: header: doubled", safetensors((text[:-1] + ", " + text[1:]).encode(), data), refused=False)
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
        magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)
        content = magic + evil + pickle.dumps([], 2)
    elif kind == "numpy":
        content = _npy(evil, np.dtype(object), "(1,)")
    elif kind == "tar":
        content = _tar({"storages": evil, "tensors": evil, "pickle": evil})
    elif kind == "after a whole one":
        content = pickle.dumps({}) + evil
    else:
        content = evil
    return Hostile(f"weights: code in a pickle: {kind}", content)


def _tar(files: dict[str, bytes]) -> bytes:
    import tarfile

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


# Arrays


def _npy(data: bytes, dtype: Any, shape: str, order: str = "False") -> bytes:
    described = dtype if isinstance(dtype, str) else np.lib.format.dtype_to_descr(dtype)
    header = f"{{'descr': {described!r}, 'fortran_order': {order}, 'shape': {shape}, }}".encode()
    header += b" " * (63 - (10 + len(header)) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def arrays_odd(x: Any, y: Any, marker: Path, rng: random.Random) -> Hostile:
    """An .npz of other arrays than plain samples and labels."""
    good = {"x.npy": _saved(x), "y.npy": _saved(y)}
    shapes = ("(96, 9223372036854775807)", "(4294967296, 4294967296)", "(-1, 8)", "()", "(96,)", "8", "None", "(96, 8, 1", "(96.0, 8)")
    kinds: dict[str, tuple[Callable[[], bytes], bool]] = {
        "code in a pickle": (lambda: zipped(good | {"x.npy": _npy(pickle.dumps(Touch(marker)), np.dtype(object), "(1,)")}), True),
        "code beside": (lambda: zipped(good | {"z.npy": _npy(pickle.dumps(Touch(marker)), np.dtype(object), "(1,)")}), False),
        "a bare pickle": (lambda: pickle.dumps(Touch(marker)), True),
        "a shape declared": (lambda: zipped(good | {"x.npy": _npy(x.tobytes(), x.dtype, rng.choice(shapes))}), False),
        "a dtype declared": (lambda: zipped(good | {"x.npy": _npy(x.tobytes(), rng.choice(("<f3", "O", "|S0", "<M8[s]", "x", "<f16", ">f4")), str(x.shape))}), False),
        "a header that is none": (lambda: zipped(good | {"x.npy": b"\x93NUMPY\x01\x00\xff\xff" + bytes(60)}), True),
        "a header that is code": (lambda: zipped(good | {"x.npy": _npy(b"", "<f4", "(__import__('os').getpid(),)")}), True),
        "texts": (lambda: zipped(good | {"x.npy": _saved(np.full(x.shape, "a"))}), True),
        "dates": (lambda: zipped(good | {"x.npy": _saved(x.astype("datetime64[s]"))}), True),
        "complex": (lambda: zipped(good | {"x.npy": _saved(x.astype(complex))}), True),
        "records": (lambda: zipped(good | {"x.npy": _saved(np.zeros(96, [("a", "f4"), ("b", "i4")]))}), True),
        "not a number": (lambda: zipped(good | {"x.npy": _saved(x * np.float32("nan"))}), True),
        "infinite": (lambda: zipped(good | {"x.npy": _saved(x + np.float32("inf"))}), True),
        "no samples": (lambda: zipped({"x.npy": _saved(x[:0]), "y.npy": _saved(y[:0])}), True),
        "one sample": (lambda: zipped({"x.npy": _saved(x[:1]), "y.npy": _saved(y[:1])}), True),
        "fewer labels": (lambda: zipped(good | {"y.npy": _saved(y[:50])}), True),
        "a huge label": (lambda: zipped(good | {"y.npy": _saved(np.where(y == 3, 2**62, y))}), True),
        "a label below 0": (lambda: zipped(good | {"y.npy": _saved(y - 2)}), True),
        "labels that are no numbers": (lambda: zipped(good | {"y.npy": _saved(y.astype(str))}), True),
        "labels with fractions": (lambda: zipped(good | {"y.npy": _saved(y + 0.5)}), True),
        "no x": (lambda: zipped({"y.npy": _saved(y)}), True),
        "no y": (lambda: zipped({"x.npy": _saved(x)}), True),
        "a single array": (lambda: _saved(x), True),
        "an archive in it": (lambda: zipped(good | {"x.npy": zipped(good)}), True),
        "names that leave": (lambda: zipped(good | {"../../x.npy": _saved(x), "/etc/x.npy": _saved(x)}), False),
        "a name twice": (lambda: zipped(good) + zipped(good), False),
        "a bomb": (lambda: _bomb(), True),
        "another byte order": (lambda: zipped(good | {"x.npy": _saved(x.astype(">f4"))}), False),
        "scalars": (lambda: zipped({"x.npy": _saved(np.float32(1)), "y.npy": _saved(np.int64(1))}), True),
    }  # fmt: skip
    kind = rng.choice(list(kinds))
    made, refused = kinds[kind]
    return Hostile(f"arrays: {kind}", made(), refused=refused)


def _bomb() -> bytes:
    """4 GiB of zeros declared, and a part of them there."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", _npy(bytes(10**6), np.dtype("<f4"), "(1073741824,)"))
        archive.writestr("y.npy", _saved(np.arange(96) % 4))
    return written.getvalue()


def _saved(array: Any) -> bytes:
    written = io.BytesIO()
    np.save(written, array, allow_pickle=False)
    return written.getvalue()


# Images


def images(rng: random.Random) -> tuple[str, Hostile]:
    """A file's ending, and one hostile image."""
    from PIL import Image

    pixels = Image.fromarray(np.random.default_rng(rng.randrange(2**32)).integers(0, 255, (8, 8, 3), np.uint8))
    formats = {".png": "PNG", ".jpg": "JPEG", ".bmp": "BMP", ".gif": "GIF", ".tif": "TIFF", ".webp": "WEBP", ".ppm": "PPM"}
    suffix = rng.choice(list(formats))
    written = io.BytesIO()
    pixels.save(written, formats[suffix])
    if rng.random() < 0.7:
        found = of_any_kind(written.getvalue(), rng)
        # A few bytes less are no matter to some formats, and what lies behind the end to none.
        cut = found.kind == "cut short" and len(found.content) > 64
        return suffix, Hostile(f"image: {found.kind}", found.content, found.make, refused=found.refused and not cut)
    kinds: dict[str, tuple[Callable[[], bytes], str, bool]] = {
        "huge": (lambda: _png(2**31 - 1, 2**31 - 1), ".png", True),
        "a bomb": (lambda: _png(60_000, 60_000), ".png", True),
        "of no size": (lambda: _png(0, 0), ".png", True),
        "a header of text": (lambda: b"P6\n99999999999 99999999999\n255\n", ".ppm", True),
        "a drawing": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>', ".png", True),
        "floats": (lambda: _as(pixels.convert("F"), "TIFF"), ".tif", False),
        "int32": (lambda: _as(pixels.convert("I"), "TIFF"), ".tif", False),
        "inks": (lambda: _as(pixels.convert("CMYK"), "JPEG"), ".jpg", False),
        "one bit": (lambda: _as(pixels.convert("1"), "PNG"), ".png", False),
        "another ending": (lambda: _as(pixels, "PNG"), ".jpg", False),
        "pages in a circle": (lambda: _tiff_circle(), ".tif", True),
        "a profile that is a bomb": (lambda: _png(8, 8, chunk=b"iCCPa\0\0" + zlib.compress(bytes(50_000_000))), ".png", False),
    }
    kind = rng.choice(list(kinds))
    made, suffix, refused = kinds[kind]
    return suffix, Hostile(f"image: {kind}", made(), refused=refused)


def _as(image: Any, kind: str) -> bytes:
    written = io.BytesIO()
    image.save(written, kind)
    return written.getvalue()


def _png(width: int, height: int, chunk: bytes = b"") -> bytes:
    def packed(body: bytes) -> bytes:
        return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))

    rows = zlib.compress((b"\0" + bytes(3 * 8)) * 8)
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [head, *([chunk] if chunk else []), b"IDAT" + rows, b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(packed, parts))


def _tiff_circle() -> bytes:
    return b"II*\0\x08\0\0\0" + struct.pack("<H", 1) + struct.pack("<HHII", 256, 4, 1, 8) + struct.pack("<I", 8)


# Labels


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
