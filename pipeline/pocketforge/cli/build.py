"""`pocketforge build`."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import click

from pocketforge.cli.console import progress
from pocketforge.cli.options import (
    cache_option,
    default_out,
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


@click.command("build")
@recipe_argument
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
    from pocketforge.commands.build import build
    from pocketforge.history.places import asked
    from pocketforge.recipe.toml import load_recipe

    loaded = load_recipe(recipe)
    with progress(progress_mode) as emit:
        built = build(
            loaded,
            cache=cache,
            out=default_out(out, loaded.name),
            jobs=jobs,
            refresh=refresh,
            keep_failed=keep_failed,
            phones=device,
            history=asked(history),
            emit=emit,
        )
    if as_json:
        from pocketforge.report.as_json import write

        echo_lines(write(built.report))
    else:
        from pocketforge.report.terminal import show_report

        # All that the command took: the report's own time ends before it and the release are written.
        wall_s = time.monotonic() - ctx.find_root().obj
        show_report(dataclasses.replace(built.report, wall_s=wall_s), verbose=verbose)
        echo(f"report   {built.report_path}")
        if built.page:
            echo(f"page     {built.page}")
        echo(f"release  {built.release}" if built.release else "release  none: the gate did not pass")
        if built.checkpoint:
            echo(f"model    {built.checkpoint}")
        if built.kept:
            echo(f"history  {built.kept}")
    for error in built.errors:
        echo_error(str(error))
    if built.not_kept is not None:
        echo_error(f"the build is not in the history: {built.not_kept}")
    ctx.exit(built.exit_code)
