"""`pocketforge size`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pocketforge.cli.options import json_option, print_json
from pocketforge.recipe.app import Compression
from pocketforge.recipe.runtime_libraries import ABIS, Abi

if TYPE_CHECKING:
    from pocketforge.measure.app_size import Carried
    from pocketforge.runtimes.operators import BuildFile


@click.command("size")
@click.argument("paths", metavar="FILE|RELEASE|REPORT…", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--abi", type=click.Choice(ABIS), default="arm64-v8a", show_default=True, help="What the app is for.")
@click.option(
    "--compression", type=click.Choice(["gzip", "zstd", "brotli"]), default="gzip", show_default=True,
    help="How the app is sent: gzip -9, zstd -19 or brotli -q 9. A store's own may differ.",
)  # fmt: skip
@click.option(
    "--library", "libraries", metavar="RUNTIME=FILE", multiple=True,
    help="Count this library of a runtime, or RUNTIME=NAME of the table in `pocketforge docs size`.",
)  # fmt: skip
@click.option(
    "--write", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
    help="Write what the runtimes' own builds read, to hold these kernels and no others.",
)  # fmt: skip
@json_option
def command(
    paths: tuple[Path, ...],
    abi: Abi,
    compression: Compression,
    libraries: tuple[str, ...],
    write: Path | None,
    as_json: bool,
) -> None:
    """Show what an app must carry: model files, their kernels, the runtimes' libraries.

    A RELEASE is a folder with SHA256SUMS, a REPORT a build's folder or its report.json. No inference runs.
    """
    from pocketforge.commands.size import app_for, write_build_files
    from pocketforge.measure.app_size import carried_for
    from pocketforge.runtimes.operators import build_files

    app = app_for(abi, compression, libraries)
    files = list(dict.fromkeys(file for path in paths for file in _files(path)))
    carried, built = carried_for(files, app), build_files(files)
    if write is not None:
        write_build_files(built, write)
    if as_json:
        print_json(_json(carried, built))
        return
    from pocketforge.report.app_size import show_carried

    show_carried(carried, built, write)


def _files(path: Path) -> list[Path]:
    from pocketforge.commands.size import files_of, files_of_report
    from pocketforge.report.files import load_report, report_file

    file = report_file(path)
    if file.suffix == ".json" and (file.is_file() or not path.is_dir()):
        return files_of_report(load_report(path), file.parent)
    return files_of(path)


def _json(carried: Carried, built: tuple[BuildFile, ...]) -> object:
    from pocketforge.outcomes.files import to_json

    return {"version": 1, **to_json(carried), "build_files": to_json(built)}
