"""What `pocketforge sparse` and `pocketforge codebook` have in common: a weights file stored smaller, and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pocketforge.cli.options import echo, json_option, print_json
from pocketforge.errors import RecipeError

if TYPE_CHECKING:
    from pocketforge.model.packed_weights import Unpacked

ENDING = ".safetensors"

# Not --out, which is a folder wherever it stands.
_OUTPUT = click.option(
    "--output", "-o", type=click.Path(path_type=Path, dir_okay=False),
    help="File to write.  [default: beside FILE, with or without .sparse in its name]",
)  # fmt: skip
_FORCE = click.option("--force", is_flag=True, help="Write over an existing file.")


def file_to_file(function: Callable[..., None]) -> Callable[..., None]:
    """FILE, and the options of what reads it and writes another."""
    argument = click.argument("file", type=click.Path(path_type=Path))
    return argument(_OUTPUT(_FORCE(json_option(function))))


def packed_name(file: Path, packed: str) -> str:
    """What `file` is called when it is packed, with the ending `packed`."""
    return f"{file.name.removesuffix(ENDING)}{packed}"


def dense_name(file: Path, packed: str) -> str:
    """What `file`, whose name may end in `packed`, is called when it is dense again."""
    stem = file.name.removesuffix(packed)
    return f"{stem}{ENDING}" if stem != file.name else f"{file.name.removesuffix(ENDING)}.dense{ENDING}"


def target_file(file: Path, output: Path | None, default: str, force: bool) -> Path:
    """The file to write. Raises RecipeError when it is `file` itself, or is there and not to be overwritten."""
    target = output if output is not None else file.with_name(default)
    if target.exists() and file.exists() and target.samefile(file):
        raise RecipeError(f"{target} is the file to read", "give another name with --output")
    if target.exists() and not force:
        raise RecipeError(f"{target} exists", "give another name with --output, or --force to write over it")
    return target


def show_unpacked(unpacked: Unpacked, kind: str, target: Path, as_json: bool) -> None:
    """What unpacking gave, on stdout. kind: "sparse" or "codebook"."""
    if as_json:
        sizes = dataclasses.asdict(unpacked)
        print_json({**sizes, f"{kind}_bytes": sizes.pop("packed_bytes"), "file": str(target)})
        return
    echo(f"wrote   {target}")
    echo(f"dense   {unpacked.dense_bytes:,} bytes, the same as were packed (sha256 {unpacked.sha256[:12]})")


def percent(part: int, whole: int) -> str:
    """A share, for reading."""
    return f"{100 * part / whole:.1f} %" if whole else "0 %"
