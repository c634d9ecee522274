"""`pocketforge codebook`."""

from __future__ import annotations

from pathlib import Path

import click

from pocketforge.cli.options import echo, json_option, print_json
from pocketforge.cli.sparse import ENDING, dense_name, force_option, output_option, percent, show_unpacked, target_file

PACKED = ".codebook.safetensors"


@click.group("codebook")
def command() -> None:
    """Store clustered weights as codebooks, and get them back.

    A tensor of at most 256 different values is stored as those values and a few bits for each place; any other as it
    is. Nothing is lost: unpack gives the same bytes. It saves download size, not memory or time: a runtime reads the
    dense file.
    """


@command.command("pack")
@click.argument("file", type=click.Path(path_type=Path))
@output_option
@force_option
@json_option
def pack(file: Path, output: Path | None, force: bool, as_json: bool) -> None:
    """Write a safetensors file with codebooks.

    Shows what that saves, beside what gzip would.
    """
    target = target_file(file, output, f"{file.name.removesuffix(ENDING)}{PACKED}", force)
    from pocketforge.quantization.codebook_files import encode

    found = encode(file, target)
    if as_json:
        print_json({**found, "file": str(target)})
        return
    packed = [row for row in found["tensors"] if row["encoding"] == "codebook"]
    dense, size = found["dense_bytes"], found["codebook_bytes"]
    echo(f"wrote     {target}")
    echo(f"packed    {len(packed)} of {len(found['tensors'])} tensors")
    echo(f"dense     {dense:,} bytes, gzip {found['gzip_bytes']:,}")
    echo(f"codebook  {size:,} bytes ({percent(size, dense)} of dense), gzip {found['codebook_gzip_bytes']:,}")
    echo(f"entropy   {found['entropy_bytes']:,} bytes: what coding each index by its frequency would reach")


@command.command("unpack")
@click.argument("file", type=click.Path(path_type=Path))
@output_option
@force_option
@json_option
def unpack(file: Path, output: Path | None, force: bool, as_json: bool) -> None:
    """Write the dense file back, byte for byte.

    It is compared with the SHA-256 of the file that was packed; a damaged file gives nothing.
    """
    target = target_file(file, output, dense_name(file, PACKED), force)
    from pocketforge.quantization.codebook_files import decode

    show_unpacked(decode(file, target), target, as_json)
