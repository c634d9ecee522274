"""`pocketforge compare-files`."""

from __future__ import annotations

from pathlib import Path

import click

from pocketforge.cli.options import cache_option, echo, json_option, print_json, progress_option
from pocketforge.cli.sample_options import sample_options
from pocketforge.report.progress import progress


@click.command("compare-files")
@click.argument("first", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.argument("second", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@sample_options
@click.option(
    "--profile", "-p", multiple=True, metavar="PROFILE",
    help="Count the instructions of both on this device's cores, emulated.",
)  # fmt: skip
@click.option(
    "--blocks", type=click.IntRange(0, 1000), default=5, show_default=True,
    help="Time them on this host in so many blocks A B B A; 0: not at all.",
)  # fmt: skip
@cache_option
@progress_option
@json_option
def command(
    first: Path,
    second: Path,
    data: str,
    labels: Path | None,
    preprocess: tuple[str, ...],
    task: str | None,
    eval_samples: int | None,
    profile: tuple[str, ...],
    blocks: int,
    cache: Path,
    progress_mode: str,
    as_json: bool,
) -> None:
    """Compare two model files on the same samples: outputs, accuracy, size, time, operators.

    SECOND is held against FIRST, whoever made them. Nothing is judged: `pocketforge gate-file --reference` does that.
    """
    from pocketforge.commands.compare_files import compare_files
    from pocketforge.commands.gate_file import FileRequest

    request = FileRequest(first, data, labels, preprocess, (), profile, task=task or "", eval_samples=eval_samples)
    with progress(progress_mode) as emit:
        found = compare_files(request, second, cache, blocks=blocks, emit=emit, say=lambda text: echo(text, err=True))
    if as_json:
        from pocketforge.outcomes.files import to_json

        print_json({"version": 1, **to_json(found)})
        return
    from pocketforge.report.two_files import show

    show(found)
