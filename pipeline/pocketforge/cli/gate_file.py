"""`pocketforge gate-file`."""

from __future__ import annotations

from pathlib import Path

import click

from pocketforge.cli.built import show_built
from pocketforge.cli.options import (
    cache_option,
    default_out,
    history_option,
    json_option,
    out_option,
    progress_option,
    verbose_option,
)
from pocketforge.cli.sample_options import sample_options
from pocketforge.report.progress import progress


@click.command("gate-file")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@sample_options
@click.option(
    "--budget", "budgets", multiple=True, required=True, metavar="'METRIC >= NUMBER'",
    help="A limit, as 'top1 >= 0.97', 'size_bytes <= 200000' or 'latency_ms p90 <= 5 on DEVICE'; may be given several "
    "times.",
)  # fmt: skip
@click.option(
    "--device", "-d", multiple=True, metavar="host|adb[:SERIAL]|PROFILE",
    help="Where it runs: this host, a phone, or a device profile that is emulated.  [default: host]",
)  # fmt: skip
@click.option(
    "--reference", default="", metavar="FILE|MODEL.py",
    help="Hold its outputs against those of this model file or PyTorch model, output by output.",
)  # fmt: skip
@click.option(
    "--weights", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Of a PyTorch --reference."
)
@click.option("--layout", type=click.Choice(["NCHW", "NHWC"]), help="What its image inputs have to be.")
@out_option
@cache_option
@click.option("--refresh", is_flag=True, help="Run every step again, also those that are stored.")
@click.option("--keep-failed", is_flag=True, help="If the gate fails, put the file into failed/ to look at.")
@history_option
@progress_option
@verbose_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    file: Path,
    data: str,
    labels: Path | None,
    preprocess: tuple[str, ...],
    task: str | None,
    eval_samples: int | None,
    budgets: tuple[str, ...],
    device: tuple[str, ...],
    reference: str,
    weights: Path | None,
    layout: str | None,
    out: Path | None,
    cache: Path,
    refresh: bool,
    keep_failed: bool,
    history: str | None,
    progress_mode: str,
    verbose: bool,
    as_json: bool,
) -> None:
    """Verify, benchmark and gate a model file made elsewhere: .pte, .tflite, .onnx or .ort.

    It goes through the steps of a build as it is, and its release has the very same bytes. Several files, outputs with
    roles and all else that there is go into a recipe: [[target]] file = "…".
    """
    from pocketforge.api.report import of_build
    from pocketforge.commands.build import build
    from pocketforge.commands.gate_file import FileRequest, recipe_for
    from pocketforge.history.places import asked

    recipe = recipe_for(
        FileRequest(
            file, data, labels, preprocess, budgets, device, reference, weights, task or "", layout or "", eval_samples
        )
    )
    with progress(progress_mode) as emit:
        built = build(
            recipe,
            cache=cache,
            out=default_out(out, recipe.name),
            refresh=refresh,
            keep_failed=keep_failed,
            history=asked(history),
            emit=emit,
        )
    show_built(ctx, of_build(built), verbose=verbose, as_json=as_json)
