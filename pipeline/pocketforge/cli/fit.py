"""`pocketforge fit`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from pocketforge.cli.options import (
    FiniteRange,
    cache_option,
    echo,
    jobs_option,
    json_option,
    print_json,
    progress_option,
    recipe_argument,
)
from pocketforge.recipe.fit import Sampler
from pocketforge.report.progress import progress

if TYPE_CHECKING:
    from pocketforge.commands.fit import Fitted


@click.command("fit")
@recipe_argument
@click.option("--trials", type=click.IntRange(1, 100_000), help="Trials in all.  [default: fit.trials, 40]")
@click.option("--hours", type=FiniteRange(0, 8760, min_open=True), help="Begin nothing new after so long.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Of the search.  [default: the recipe's]")
@click.option("--sampler", type=click.Choice(get_args(Sampler)), help="How trials are chosen.  [default: fit.sampler]")
@click.option("--fresh", is_flag=True, help="Begin a new search; stored steps are used again.")
@click.option(
    "--recipe-out", "write", type=click.Path(path_type=Path, dir_okay=False),
    help="The recommended recipe, in the recipe's own folder.  [default: NAME.fit.toml]",
)  # fmt: skip
@click.option(
    "--out", "-o", type=click.Path(path_type=Path, file_okay=False),
    help="Folder for fit.json, fit.html, logs/ and best/.  [default: build/NAME/fit in the current folder]",
)  # fmt: skip
@jobs_option
@cache_option
@progress_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    recipe: Path,
    trials: int | None,
    hours: float | None,
    seed: int | None,
    sampler: Sampler | None,
    fresh: bool,
    write: Path | None,
    out: Path | None,
    jobs: int,
    cache: Path,
    progress_mode: str,
    as_json: bool,
) -> None:
    """Search for the best recipe that keeps the budgets.

    Trials change what [fit.space] names (without it: channels of each stage, quantization, training) and are built by
    the ordinary build, through the store. What is finished is kept: the same command goes on, ^C gives the best so far.
    Writes a recipe that `build` takes. Exit code 1 where no trial keeps every budget.
    """
    from pocketforge.commands.fit import Asked, fit
    from pocketforge.recipe.toml import load_recipe

    asked = Asked(trials, hours, seed, sampler, jobs, fresh, write)
    folder = out if out is not None else Path("build", load_recipe(recipe).name, "fit")
    with progress(progress_mode) as emit:
        say = (lambda line: None) if progress_mode == "none" else lambda line: echo(line, err=True)
        fitted = fit(recipe, asked, cache=cache, out=folder, emit=emit, say=say)
    _show(fitted, as_json=as_json)
    ctx.exit(fitted.exit_code)


def _show(fitted: Fitted, *, as_json: bool) -> None:
    if as_json:
        from pocketforge.outcomes.files import to_json

        print_json(to_json(fitted.result))
        return
    result = fitted.result
    echo(f"{result.recipe}: {len(result.trials)} trials, {len(result.front)} on the front; {result.ended}")
    for line in result.reasons:
        echo(f"  {line}")
    echo(f"page     {fitted.folder / 'fit.html'}")
    echo(f"trials   {fitted.folder / 'fit.json'}")
    echo(f"recipe   {fitted.recipe}" if fitted.recipe else "recipe   none: no trial keeps every budget")
    if fitted.built is not None and fitted.built.release is not None:
        echo(f"release  {fitted.built.release}")
