"""`pocketforge build`."""

from __future__ import annotations

from pathlib import Path

import click

from pocketforge.cli.built import show_built
from pocketforge.cli.options import (
    cache_option,
    certificates_option,
    history_option,
    insecure_option,
    jobs_option,
    json_option,
    out_option,
    progress_option,
    recipe_argument,
    remote_option,
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
@remote_option
@click.option(
    "--engine",
    type=click.Choice(["local", "dask"]),
    default="local",
    show_default=True,
    help="Where steps run: here, or on the workers of a cluster.",
)
@click.option("--scheduler", metavar="tls://HOST:PORT", default="", help="Of the cluster, for --engine dask.")
@certificates_option
@insecure_option
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
    remote_store: str | None,
    engine: str,
    scheduler: str,
    certificates: Path | None,
    insecure: bool,
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
            remote_store=remote_store,
            engine=engine,
            scheduler=scheduler,
            certificates=certificates,
            insecure=insecure,
            progress=emit,
        )
    show_built(ctx, report, verbose=verbose, as_json=as_json)
