"""`pocketforge init`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from pocketforge.cli.options import cache_option, echo, echo_error, progress_option
from pocketforge.errors import RecipeError
from pocketforge.recipe.metric import GIVEN_TASKS
from pocketforge.registries import OUTPUT_TASKS, RUNTIMES
from pocketforge.report.progress import progress

if TYPE_CHECKING:
    from pocketforge.commands.init_text import Start

Answer = TypeVar("Answer")
_DATA = "digits"
_TASKS = (*GIVEN_TASKS, *OUTPUT_TASKS)


@click.command("init")
@click.argument("model", required=False)
@click.option("--weights", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Trained weights.")
@click.option(
    "--data", help="Data source, as in the recipe's data.source, or a folder: what it holds is looked at.  "
    f"[default: {_DATA}]",
)  # fmt: skip
@click.option(
    "--task", type=click.Choice(_TASKS), help="What the model is for.  [default: what the data's targets are for]"
)
@click.option(
    "--recipe", "-o", type=click.Path(path_type=Path, dir_okay=False),
    help="File to write.  [default: recipe.toml beside MODEL, or here]",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Write over an existing file.")
@click.option("--no-ask", is_flag=True, help="Ask nothing: what is not given is the default.")
@cache_option
@progress_option
def command(
    model: str | None,
    weights: Path | None,
    data: str | None,
    task: str | None,
    recipe: Path | None,
    force: bool,
    no_ask: bool,
    cache: Path,
    progress_mode: str,
) -> None:
    """Write a commented recipe for a model, and check it.

    MODEL is the definition: a .py whose build() makes the module, a .pt2 of torch.export, timm:NAME, torchvision:NAME
    or transformers:DIR. The recipe is kept also when the check finds something to mend: the message says what.

    On a terminal, outside CI, what is not given is asked for.
    """
    from pocketforge.commands import init

    asking = not no_ask and _somebody_is_here()
    if model is None and asking:
        model = _asked("model (a .py, a .pt2, timm:NAME, torchvision:NAME, transformers:DIR)", None, init.check_model)
    if model is None:
        raise click.MissingParameter(param_hint="'MODEL'", param_type="argument")
    place = init.place(init.check_model(model), recipe, force=force)
    if asking:
        weights, data, task = _ask(model, weights, data, task)
    start = init.begin(model, weights, _DATA if data is None else data, task or "", place)
    _write_and_check(start, cache, progress_mode)


def _write_and_check(start: Start, cache: Path, progress_mode: str) -> None:
    from pocketforge.commands import init
    from pocketforge.commands.check import check
    from pocketforge.report.checked import show_check

    for fault in RUNTIMES.broken():
        echo_error(f"left out: {fault}", "note")
    loaded = init.write(start)
    echo(f"wrote {start.recipe}")
    if start.library in ("timm", "torchvision") and start.weights is None:
        echo(f"{start.model} has random weights: nothing is downloaded; give trained ones with --weights", err=True)
    with progress(progress_mode) as emit:
        checked = check(loaded, cache, emit)
    show_check(checked)
    echo(f"next: pocketforge build {start.recipe}")


def _somebody_is_here() -> bool:
    """Whether questions are answered: on a terminal, and not in a CI that gives its jobs one."""
    here = (sys.stdin, sys.stderr)  # None where the descriptor is closed
    return not os.environ.get("CI") and all(stream is not None and stream.isatty() for stream in here)


def _ask(model: str, weights: Path | None, data: str | None, task: str | None) -> tuple[Path | None, str, str]:
    """Ask for what was not given; an answer that is wrong is asked for again."""
    from pocketforge.commands import init

    if weights is None and not model.endswith(".pt2"):
        weights = _asked("weights file (empty: none)", "", _weights)
    if data is None:
        data = _asked("data (a folder, or a source as in a recipe)", _DATA, init.told_source)
    if task is None:
        task = _asked(f"task ({', '.join(_TASKS)}; empty: what the data's targets are for)", "", _task)
    return weights, data, task


def _asked(question: str, default: str | None, convert: Callable[[str], Answer]) -> Answer:
    while True:
        answer: str = click.prompt(question, default=default, err=True, show_default=bool(default))
        try:
            return convert(os.path.expanduser(answer.strip()))
        except RecipeError as error:
            echo_error(str(error))


def _weights(answer: str) -> Path | None:
    if answer and not Path(answer).is_file():
        raise RecipeError(f"there is no file {answer}")
    return Path(answer) if answer else None


def _task(answer: str) -> str:
    from pocketforge.recipe import suggest

    if answer and answer not in _TASKS:
        raise RecipeError(f"no task is called {answer!r}{suggest(answer, _TASKS)}")
    return answer
