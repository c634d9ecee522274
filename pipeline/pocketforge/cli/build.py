"""`pocketforge build`."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import click

from pocketforge.cli.options import (
    cache_option,
    echo,
    echo_error,
    echo_lines,
    history_option,
    jobs_option,
    json_option,
    out_option,
    progress_option,
    recipe_argument,
    verbose_option,
)
from pocketforge.report.progress import progress


@click.command("build")
@recipe_argument
@click.option("--target", "-t", multiple=True, help="Only this target of the recipe (may be given several times).")
@out_option
@jobs_option
@cache_option
@click.option("--refresh", is_flag=True, help="Run every step again, also those that are stored.")
@click.option("--keep-failed", is_flag=True, help="If the gate fails, put the files into failed/ to look at.")
@click.option(
    "--device", "-d", multiple=True, metavar="adb[:SERIAL]|adb:all",
    help="Run on this connected phone too, or on all of them, also where the recipe has no device for it.",
)  # fmt: skip
@history_option
@progress_option
@verbose_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    recipe: Path,
    target: tuple[str, ...],
    out: Path | None,
    jobs: int,
    cache: Path,
    refresh: bool,
    keep_failed: bool,
    device: tuple[str, ...],
    history: str | None,
    progress_mode: str,
    verbose: bool,
    as_json: bool,
) -> None:
    """Build, verify, benchmark and gate every target of a recipe.

    Steps whose inputs did not change are reused. The release folder appears only if every budget is kept.
    """
    from pocketforge.api.calls import build

    with progress(progress_mode) as emit:
        report = build(
            recipe,
            targets=target,
            out=out,
            cache=cache,
            jobs=jobs,
            refresh=refresh,
            keep_failed=keep_failed,
            phones=device,
            history=history,
            progress=emit,
        )
    if as_json:
        from pocketforge.report.as_json import write

        echo_lines(write(report.record))
    else:
        from pocketforge.report.terminal import show_report

        # All that the command took: the report's own time ends before it and the release are written.
        wall_s = time.monotonic() - ctx.find_root().obj
        show_report(dataclasses.replace(report.record, wall_s=wall_s), verbose=verbose)
        echo(f"report   {report.path}")
        if report.page:
            echo(f"page     {report.page}")
        echo(f"release  {report.release}" if report.release else "release  none: the gate did not pass")
        if report.checkpoint:
            echo(f"model    {report.checkpoint}")
        if report.history:
            echo(f"history  {report.history}")
    for error in report.errors:
        echo_error(str(error))
    if report.not_kept is not None:
        echo_error(f"the build is not in the history: {report.not_kept}")
    ctx.exit(report.exit_code)
