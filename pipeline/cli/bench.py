"""`pocketforge bench`."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.options import RecipePath, cache_option, json_option, print_json
from pipeline.errors import DamagedEntry, RecipeError, StoreError


@click.command("bench")
@click.argument("what", metavar="RECIPE|FILE", type=RecipePath())
@click.option("--target", "-t", multiple=True, help="Only this target of the recipe (may be given several times).")
@click.option(
    "--inputs", multiple=True, type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="For a model FILE: a .npy of real samples for each input, samples first.",
)  # fmt: skip
@click.option("--threads", type=click.IntRange(1, 64), help="Threads of the runtime.  [default: recipe's, else 1]")
@click.option("--samples", type=click.IntRange(10), help="At least so many inferences.  [default: recipe's, else 100]")
@click.option("--seconds", type=click.FloatRange(0), help="Seconds at least.  [default: recipe's, else 1]")
@cache_option
@json_option
def command(
    what: Path,
    target: tuple[str, ...],
    inputs: tuple[Path, ...],
    threads: int | None,
    samples: int | None,
    seconds: float | None,
    cache: Path,
    as_json: bool,
) -> None:
    """Benchmark a recipe's built targets, or one model file, on this host.

    The stored files of targets are timed, each in a new process, one after another.
    Results are shown, not stored, and judged by nothing.
    """
    from pipeline.benching import bench_file, bench_recipe
    from pipeline.config import load_recipe

    how = {"threads": threads, "min_samples": samples, "min_seconds": seconds}
    if what.suffix == ".toml":
        if inputs:
            raise RecipeError("--inputs is for a model FILE; a recipe's targets run on its own eval samples")
        try:
            results = bench_recipe(load_recipe(what), cache, target, how)
        except DamagedEntry as damage:
            raise StoreError(damage.message, f"pocketforge build {what} makes it again") from None
    else:
        if target:
            raise RecipeError("--target is for a recipe, not for a model file")
        results = [bench_file(what, inputs, how)]
    if as_json:
        print_json(results)
        return
    from pipeline.report.terminal import show_bench

    show_bench(results)
