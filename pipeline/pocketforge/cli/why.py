"""`pocketforge why`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from pocketforge.cli.options import RecipePath, cache_option, echo, json_option, print_json, progress_option
from pocketforge.errors import EXIT_GATE_FAILED, EXIT_OK
from pocketforge.report.progress import progress

if TYPE_CHECKING:
    from pocketforge.outcomes.why import Explained
    from pocketforge.outcomes.why_app import AppExplained

T = TypeVar("T")
DTYPES = ("float32", "float64", "float16", "uint8", "int8", "uint16", "int16", "int32", "int64")


@click.command("why")
@click.argument("target")
@click.argument("recipe", type=RecipePath(), default="recipe.toml")
@click.option(
    "--samples",
    type=click.IntRange(1, 10_000_000),
    default=100,
    show_default=True,
    help="How many eval samples: the four answered worst, then from the first. With --app: from the first.",
)
@click.option(
    "--out", "-o", type=click.Path(path_type=Path, file_okay=False),
    help="Folder for why.json and why.png, or app.json.  [default: build/NAME/why/TARGET in the current folder]",
)  # fmt: skip
@click.option(
    "--app",
    type=click.Path(path_type=Path, exists=True),
    multiple=True,
    metavar="PATH",
    help="What an app fed to the file: .npy, .npz, bytes (.raw, .bin), or a folder of them. Several times for several.",
)
@click.option(
    "--sample",
    multiple=True,
    metavar="[TENSOR=]ID",
    help="Which eval sample a tensor of --app is of. [default: the one of its name, else it is searched for]",
)
@click.option("--input", "input_name", default="", metavar="NAME", help="Which input of the file --app is of.")
@click.option("--dtype", type=click.Choice(DTYPES), help="Of bytes in --app. [default: the file's own]")
@click.option("--shape", default="", metavar="N,N,…", help="Of bytes in --app. [default: the file's own]")
@cache_option
@progress_option
@json_option
def command(
    target: str,
    recipe: Path,
    samples: int,
    out: Path | None,
    app: tuple[Path, ...],
    sample: tuple[str, ...],
    input_name: str,
    dtype: str | None,
    shape: str,
    cache: Path,
    progress_mode: str,
    as_json: bool,
) -> int:
    """Find the stage and the layer where a target's numbers break.

    Runs real samples through every form of the model: eager, exported, prepared (fake-quantized), converted, lowered
    (the file in plain kernels) and runtime (as an app runs it). Compares each with the one before, and layer by layer
    inside the first that is bad. RECIPE is recipe.toml unless given. Writes why.json and why.png.

    With --app it looks at the app's side: which known mistake of preprocessing (BGR, NHWC and NCHW, 0-255 for 0-1,
    normalized twice, another resize, turned, …) makes of an eval sample what the app fed. Writes app.json.

    Exit code 0 when no stage is bad (the app's input is right), 1 when one is (it is not).
    """
    from pocketforge.cli.options import default_out
    from pocketforge.commands.why import why, write
    from pocketforge.recipe.toml import load_recipe

    of_bytes = [("--sample", sample), ("--input", input_name), ("--dtype", dtype), ("--shape", shape)]
    if not app and (alone := [name for name, value in of_bytes if value]):
        raise click.UsageError(f"{', '.join(alone)}: only with --app")
    sizes = _shape(shape)
    loaded = load_recipe(recipe)
    folder = out if out is not None else default_out(None, loaded.name) / "why" / target
    if app:
        from pocketforge.commands.why_app import AppRequest, why_app, write_app

        asked = AppRequest(app, samples, sample, dtype or "", sizes, input_name)
        with progress(progress_mode) as emit:
            fed = why_app(loaded, target, cache, asked, emit=emit)
        written = write_app(fed, folder)
        _tell(fed, _show_app, folder, written, as_json=as_json)
        return EXIT_OK if fed.is_right else EXIT_GATE_FAILED
    with progress(progress_mode) as emit:
        explained = why(loaded, target, cache, samples=samples, emit=emit)
    written = write(explained, folder)
    _tell(explained, _show, folder, written, as_json=as_json)
    return EXIT_GATE_FAILED if explained.first_bad_stage else EXIT_OK


def _tell(found: T, show: Callable[[T], None], folder: Path, written: Sequence[Path], *, as_json: bool) -> None:
    """What was found, as JSON or in words, with the files that have it."""
    from pocketforge.outcomes.files import to_json

    if as_json:
        print_json(to_json(found))
        return
    show(found)
    echo(f"written to {folder}: {', '.join(path.name for path in written)}")


def _show(explained: Explained) -> None:
    from pocketforge.report.tables import console
    from pocketforge.report.why import parity_tables

    for table in parity_tables(explained):
        console().print(table)
        echo()
    echo(explained.sentence)


def _shape(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(each) for each in text.split(",")) if text else ()
    except ValueError:
        sizes = (0,)
    if any(size < 1 for size in sizes):
        raise click.BadParameter(f"wanted lengths with commas, as 1,224,224,3, found {text!r}", param_hint="--shape")
    return sizes


def _show_app(found: AppExplained) -> None:
    from pocketforge.report.tables import console
    from pocketforge.report.why import app_tables

    for table in app_tables(found):
        console().print(table)
        echo()
    for note in found.notes:
        echo(f"note: {note}")
    echo(found.sentence)
