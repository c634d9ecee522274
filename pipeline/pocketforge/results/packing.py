"""How large bytes are when they are sent: three compressors, each at one level.

Which a store uses, and at which level, is its own affair and changes; ours are said with every figure. gzip is the
default since it is the largest for every library of runtime_libraries.json: what it keeps, the others keep.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from typing import Final

from pocketforge.errors import ToolMissing
from pocketforge.recipe.app import Compression
from pocketforge.version import install

# Compression → the level, as each program's own option writes it.
LEVELS: Final[Mapping[Compression, str]] = {"gzip": "gzip -9", "zstd": "zstd -19", "brotli": "brotli -q 9"}


def _gzip(data: bytes) -> int:
    return len(gzip.compress(data, compresslevel=9, mtime=0))


def _zstd(data: bytes) -> int:
    try:
        import zstandard
    except ImportError as error:
        raise ToolMissing(f"zstd sizes need the package zstandard: {error}", install("size")) from error
    return len(zstandard.ZstdCompressor(level=19).compress(data))


def _brotli(data: bytes) -> int:
    try:
        import brotli
    except ImportError as error:
        raise ToolMissing(f"brotli sizes need the package brotli: {error}", install("size")) from error
    return len(brotli.compress(data, quality=9))


COMPRESSIONS: Final[Mapping[Compression, Callable[[bytes], int]]] = {"gzip": _gzip, "zstd": _zstd, "brotli": _brotli}


def packed_bytes(data: bytes, compression: Compression) -> int:
    """Raises ToolMissing where its package is not installed."""
    return COMPRESSIONS[compression](data)


def packed_if_installed(data: bytes, compression: Compression) -> int | None:
    """None where its package is not installed."""
    try:
        return packed_bytes(data, compression)
    except ToolMissing:
        return None
