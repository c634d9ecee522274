"""`pocketforge sparse`."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import click

from pocketforge.cli.options import echo, print_json
from pocketforge.cli.packing import dense_name, file_to_file, packed_name, percent, show_unpacked, target_file

PACKED = ".sparse.safetensors"


@click.group("sparse")
def command() -> None:
    """Store pruned weights without their zeros, and get them back.

    Each tensor takes the smallest of three forms: as it is, a bitmask and the values that are not zero, or compressed
    sparse rows. Nothing is lost: unpack gives the same bytes. It saves download size, not memory or time: a runtime
    reads the dense file.
    """


@command.command("pack")
@file_to_file
def pack(file: Path, output: Path | None, force: bool, as_json: bool) -> None:
    """Write a safetensors file sparsely.

    Shows what that saves, beside what gzip would.
    """
    target = target_file(file, output, packed_name(file, PACKED), force)
    from pocketforge.pruning.sparse_storage import encode

    sizes = encode(file, target)
    if as_json:
        print_json({**dataclasses.asdict(sizes), "file": str(target)})
        return
    zeros, values, dense = sizes.zeros, sizes.values, sizes.dense_bytes
    echo(f"wrote   {target}")
    echo(f"zeros   {zeros:,} of {values:,} values ({percent(zeros, values)})")
    echo(f"dense   {dense:,} bytes, gzip {sizes.gzip_bytes:,}")
    echo(
        f"sparse  {sizes.sparse_bytes:,} bytes ({percent(sizes.sparse_bytes, dense)} of dense), "
        f"gzip {sizes.sparse_gzip_bytes:,}"
    )
    counts = Counter(tensor.encoding for tensor in sizes.tensors)
    stored = [f"{counts[kind]} {kind}" for kind in ("dense", "bitmask", "csr") if counts[kind]]
    echo(f"stored  {', '.join(stored) or 'no tensors'}")


@command.command("unpack")
@file_to_file
def unpack(file: Path, output: Path | None, force: bool, as_json: bool) -> None:
    """Write the dense file back, byte for byte.

    It is compared with the SHA-256 of the file that was packed; a damaged file gives nothing.
    """
    target = target_file(file, output, dense_name(file, PACKED), force)
    from pocketforge.pruning.sparse_storage import decode

    show_unpacked(decode(file, target), "sparse", target, as_json)
