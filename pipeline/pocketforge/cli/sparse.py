"""`pocketforge sparse`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pocketforge.cli.options import echo, json_option, print_json
from pocketforge.errors import RecipeError

ENDING, PACKED = ".safetensors", ".sparse.safetensors"

# Not --out, which is a folder wherever it stands.
output_option = click.option(
    "--output", "-o", type=click.Path(path_type=Path, dir_okay=False),
    help="File to write.  [default: beside FILE, with or without .sparse in its name]",
)  # fmt: skip
force_option = click.option("--force", is_flag=True, help="Write over an existing file.")


@click.group("sparse")
def command() -> None:
    """Store pruned weights without their zeros, and get them back.

    Each tensor takes the smallest of three forms: as it is, a bitmask and the values that are not zero, or compressed
    sparse rows. Nothing is lost: unpack gives the same bytes. It saves download size, not memory or time: a runtime
    reads the dense file.
    """


@command.command("pack")
@click.argument("file", type=click.Path(path_type=Path))
@output_option
@force_option
@json_option
def pack(file: Path, output: Path | None, force: bool, as_json: bool) -> None:
    """Write a safetensors file sparsely.

    Shows what that saves, beside what gzip would.
    """
    target = target_file(file, output, f"{file.name.removesuffix(ENDING)}{PACKED}", force)
    from pocketforge.pruning.sparse_storage import encode

    found = encode(file, target)
    if as_json:
        print_json({**found, "file": str(target)})
        return
    zeros, values, dense = found["zeros"], found["values"], found["dense_bytes"]
    echo(f"wrote   {target}")
    echo(f"zeros   {zeros:,} of {values:,} values ({percent(zeros, values)})")
    echo(f"dense   {dense:,} bytes, gzip {found['gzip_bytes']:,}")
    echo(
        f"sparse  {found['sparse_bytes']:,} bytes ({percent(found['sparse_bytes'], dense)} of dense), "
        f"gzip {found['sparse_gzip_bytes']:,}"
    )
    echo(f"stored  {_encodings(found['tensors'])}")


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
    from pocketforge.pruning.sparse_storage import decode

    show_unpacked(decode(file, target), target, as_json)


def dense_name(file: Path, packed: str) -> str:
    """What `file`, whose name may end in `packed`, is called when it is dense again."""
    stem = file.name.removesuffix(packed)
    return f"{stem}{ENDING}" if stem != file.name else f"{file.name.removesuffix(ENDING)}.dense{ENDING}"


def show_unpacked(found: dict[str, Any], target: Path, as_json: bool) -> None:
    """What unpacking gave, on stdout."""
    if as_json:
        print_json({**found, "file": str(target)})
        return
    echo(f"wrote   {target}")
    echo(f"dense   {found['dense_bytes']:,} bytes, the same as were packed (sha256 {found['sha256'][:12]})")


def target_file(file: Path, output: Path | None, default: str, force: bool) -> Path:
    """The file to write. Raises RecipeError when it is `file` itself, or is there and not to be overwritten."""
    target = output if output is not None else file.with_name(default)
    if target.exists() and file.exists() and target.samefile(file):
        raise RecipeError(f"{target} is the file to read", "give another name with --output")
    if target.exists() and not force:
        raise RecipeError(f"{target} exists", "give another name with --output, or --force to write over it")
    return target


def percent(part: int, whole: int) -> str:
    """A share, for reading."""
    return f"{100 * part / whole:.1f} %" if whole else "0 %"


def _encodings(tensors: list[dict[str, Any]]) -> str:
    counts = {kind: sum(t["encoding"] == kind for t in tensors) for kind in ("dense", "bitmask", "csr")}
    return ", ".join(f"{count} {kind}" for kind, count in counts.items() if count) or "no tensors"
