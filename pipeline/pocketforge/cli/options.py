"""Arguments and options that several commands share, under one name and one help text."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pocketforge.streams import json_text, printable, told

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

F = TypeVar("F", bound=Callable[..., Any])


class RecipePath(click.ParamType[Path]):
    """A recipe file, or shipped:NAME."""

    name = "recipe"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        from pocketforge.recipe.shipped import recipe_path

        return value if isinstance(value, Path) else recipe_path(str(value))

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type="file")]


class FiniteRange(click.FloatRange):
    """A number in a range: nan and inf, which every comparison lets through, are none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number", param, ctx)
        return number


recipe_argument: Callable[[F], F] = click.argument("recipe", type=RecipePath())

json_option: Callable[[F], F] = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")

verbose_option: Callable[[F], F] = click.option(
    "--verbose", is_flag=True, help="Show the budgets that are kept easily, too."
)

jobs_option: Callable[[F], F] = click.option(
    "--jobs", "-j", type=click.IntRange(1, 64), default=1, show_default=True, help="Lanes to work on at a time."
)

out_option: Callable[[F], F] = click.option(
    "--out", "-o", type=click.Path(path_type=Path, file_okay=False),
    help="Folder for report.json, report.html, logs/ and release/.  [default: build/NAME in the current folder]",
)  # fmt: skip

progress_option: Callable[[F], F] = click.option(
    "--progress", "progress_mode", type=click.Choice(["auto", "bars", "plain", "json", "none"]),
    default="auto", show_default=True,
    help="News on stderr: bars, a line a step, JSON lines; auto: bars on a terminal, else only warnings.",
)  # fmt: skip


def _set_cache_dir(ctx: click.Context, _: click.Parameter, value: Path | None) -> Path:
    from pocketforge import folders

    if value is not None:
        folders.choose_cache(value)
    return folders.cache_dir()


cache_option: Callable[[F], F] = click.option(
    "--cache-dir", "cache", type=click.Path(path_type=Path, file_okay=False), callback=_set_cache_dir,
    help="Where results are stored.  [default: POCKETFORGE_CACHE_DIR, else the user cache]",
)  # fmt: skip


history_option: Callable[[F], F] = click.option(
    "--history", metavar="on|off|FILE|URL",
    help="Where builds are kept: on is the user's own file.  [default: POCKETFORGE_HISTORY]",
)  # fmt: skip


remote_option: Callable[[F], F] = click.option(
    "--remote-store", metavar="URL|off",
    help="A store of results shared with others: file://, sftp://, s3:// or whatever fsspec knows.  "
    "[default: POCKETFORGE_REMOTE_STORE]",
)  # fmt: skip

certificates_option: Callable[[F], F] = click.option(
    "--certificates", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER",
    help="Those of `cluster init`.  [default: POCKETFORGE_CLUSTER_DIR, else a folder among the user's data]",
)  # fmt: skip

insecure_option: Callable[[F], F] = click.option(
    "--insecure", is_flag=True,
    help="Allow tcp:// off loopback: whoever reaches the scheduler then runs code on every worker.",
)  # fmt: skip


def echo(text: object = "", *, err: bool = False) -> None:
    """A line: names in it that hold newlines make no second one."""
    click.echo(printable(str(text)), err=err)


def echo_error(text: str, kind: str = "error") -> None:
    """One message on stderr."""
    for line in told(text, kind):
        echo(line, err=True)


def echo_lines(text: str) -> None:
    """Text of ours that has several lines: a table, a script."""
    click.echo(text)


def default_out(out: Path | None, name: str) -> Path:
    """The output folder of a recipe's build, unless one was given."""
    return out if out is not None else Path("build", name)


def print_json(data: object) -> None:
    echo_lines(json_text(data, indent=1))
