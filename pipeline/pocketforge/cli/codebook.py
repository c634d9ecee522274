"""`pocketforge codebook`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from pocketforge.cli.options import echo, print_json
from pocketforge.cli.packing import dense_name, file_to_file, packed_name, percent, show_unpacked, target_file

PACKED = ".codebook.safetensors"


@click.group("codebook")
def command() -> None:
    """Store clustered weights as codebooks, and get them back.

    A tensor of at most 256 different values is stored as those values and a few bits for each place; any other as it
    is. Nothing is lost: unpack gives the same bytes. It saves download size, not memory or time: a runtime reads the
    dense file.
    """


@command.command("pack")
@file_to_file
def pack(file: Path, output: Path | None, force: bool, as_json: bool) -> None:
    """Write a safetensors file with codebooks.

    Shows what that saves, beside what gzip would.
    """
    target = target_file(file, output, packed_name(file, PACKED), force)
    from pocketforge.quantization.codebook_files import encode

    sizes = encode(file, target)
    if as_json:
        fields = dataclasses.asdict(sizes)
        fields.pop("codebooks")  # of a build's: nobody clustered this one
        print_json({**fields, "file": str(target)})
        return
    packed = [tensor for tensor in sizes.tensors if tensor.encoding == "codebook"]
    dense, size = sizes.dense_bytes, sizes.codebook_bytes
    echo(f"wrote     {target}")
    echo(f"packed    {len(packed)} of {len(sizes.tensors)} tensors")
    echo(f"dense     {dense:,} bytes, gzip {sizes.gzip_bytes:,}")
    echo(f"codebook  {size:,} bytes ({percent(size, dense)} of dense), gzip {sizes.codebook_gzip_bytes:,}")
    echo(f"entropy   {sizes.entropy_bytes:,} bytes: what coding each index by its frequency would reach")


@command.command("unpack")
@file_to_file
def unpack(file: Path, output: Path | None, force: bool, as_json: bool) -> None:
    """Write the dense file back, byte for byte.

    It is compared with the SHA-256 of the file that was packed; a damaged file gives nothing.
    """
    target = target_file(file, output, dense_name(file, PACKED), force)
    from pocketforge.quantization.codebook_files import decode

    show_unpacked(decode(file, target), "codebook", target, as_json)
