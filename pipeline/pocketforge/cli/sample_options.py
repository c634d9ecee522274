"""Options that say on which samples a model file made elsewhere is judged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--data", required=True, metavar="SOURCE",
        help="Real samples, as a recipe's data.source: imagefolder:DIR, npz:FILE, csv:PATH, digits …",
    ),
    click.option(
        "--labels", type=click.Path(path_type=Path, dir_okay=False, exists=True),
        help="Class names, one a line, in the order of the file's outputs.",
    ),
    click.option(
        "--preprocess", multiple=True, metavar="'KEY = VALUE'|FILE.toml",
        help="A line of a recipe's [data.preprocess], as 'resize = [224, 224]', or a file of such lines; may be given "
        "several times.",
    ),
    click.option(
        "--task", type=click.Choice(["classification", "regression"]), help="What the samples' targets are."
    ),
    click.option("--eval-samples", type=click.IntRange(1, 10_000_000), help="Judge it on at most so many samples."),
)  # fmt: skip


def sample_options(command: F) -> F:
    """--data, --labels, --preprocess, --task and --eval-samples."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
