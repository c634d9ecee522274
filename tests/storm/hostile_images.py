"""Hostile images."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from storm.hostile import Hostile, of_any_kind


def images(rng: random.Random) -> tuple[str, Hostile]:
    """A file's ending, and one hostile image."""
    from PIL import Image

    pixels = Image.fromarray(np.random.default_rng(rng.randrange(2**32)).integers(0, 255, (8, 8, 3), np.uint8))
    formats = {
        ".png": "PNG",
        ".jpg": "JPEG",
        ".bmp": "BMP",
        ".gif": "GIF",
        ".tif": "TIFF",
        ".webp": "WEBP",
        ".ppm": "PPM",
    }
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
        "a profile that is a bomb": (
            lambda: _png(8, 8, chunk=b"iCCPa\0\0" + zlib.compress(bytes(50_000_000))),
            ".png",
            False,
        ),
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
