"""`pocketforge report`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from pocketforge.cli.options import echo_lines, json_option, verbose_option
from pocketforge.errors import RecipeError
from pocketforge.report.formats import FORMATS
from pocketforge.streams import json_text

_COMPARED = ("text", "html", "json")


class _ShowsByDefault(click.Group):
    """`report PATH` is `report show PATH`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["show", *args]
        return super().parse_args(ctx, args)


@click.group("report", cls=_ShowsByDefault)
def command() -> None:
    """Show a build's report, or what changed from one to another.

    `pocketforge report PATH` is `pocketforge report show PATH`. A report is a report.json or the folder it is in.
    """


@command.command("show")
@click.argument("report", type=click.Path(path_type=Path))
@click.option(
    "--format", "form", metavar="FORMAT", help=f"How to write it: {', '.join(FORMATS.ours)}.  [default: text]"
)
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path),
    help="Write it into this file; its ending says the format where --format does not.",
)  # fmt: skip
@click.option(
    "--baseline",
    type=click.Path(path_type=Path),
    help="Also show what changed since this report (markdown, comment).",
)
@verbose_option
@json_option
def show(
    report: Path, form: str | None, output: Path | None, baseline: Path | None, verbose: bool, as_json: bool
) -> None:
    """Show a build's report, or write it in another format."""
    from pocketforge.commands.report import write_text
    from pocketforge.report.files import load_report, shown
    from pocketforge.report.formats import format_of, writer, written
    from pocketforge.report.terminal import show_report
    from pocketforge.report.terminal import write as in_full

    if as_json and form not in (None, "json"):
        raise RecipeError(f"--json is --format json, found --format {form} too: give one of them")
    name = "json" if as_json else form or ("text" if output is None else format_of(output))
    if verbose and name != "text":
        raise RecipeError(f"--verbose is for tables, found --format {name}, which has every budget: leave it out")
    writer(name)
    loaded = load_report(report)
    before = None if baseline is None else load_report(baseline)
    with shown(report):
        if name == "text" and output is None and before is None:
            show_report(loaded, verbose=verbose)  # in the terminal's width and colours
            return
        text = in_full(loaded, verbose=True) if verbose and before is None else written(name, loaded, before)
    if output is None:
        echo_lines(text)
    else:
        write_text(output, text)


@command.command("compare")
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
@click.option("--target", "-t", help="Only this target (by its name in BEFORE).")
@click.option(
    "--with", "other", metavar="TARGET", help="Compare it with this target of AFTER.  [default: its namesake]"
)
@click.option("--device", "-d", help="Only this emulated device.")
@click.option(
    "--rows", default=12, show_default=True, type=click.IntRange(1, 1_000_000), help="Rows of each list at most."
)
@click.option("--format", "form", metavar="FORMAT", help="How to write it: text, html, json.  [default: text]")
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="Write it into this file.")
@json_option
def compare(
    before: Path,
    after: Path,
    target: str | None,
    other: str | None,
    device: str | None,
    rows: int,
    form: str | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Show why a file is bigger or slower in another report.

    Values, and of files that lie beside their reports (release/, failed/) operators and weights; on emulated devices
    instructions, by class and function, whose counts are exact. BEFORE and AFTER may be one report: `compare build/x
    build/x -t a --with b` compares two of its targets.
    """
    from pocketforge.commands.compare import compare as compare_them
    from pocketforge.commands.report import write_text
    from pocketforge.report import comparison_tables
    from pocketforge.report.files import load_report, shown

    if other and not target:
        raise RecipeError("--with says which target of AFTER: name the one of BEFORE with --target")
    if as_json and form not in (None, "json"):
        raise RecipeError(f"--json is --format json, found --format {form} too: give one of them")
    name = "json" if as_json else form or (output.suffix.removeprefix(".") if output else "text")
    name = {"txt": "text", "htm": "html"}.get(name, name)
    if name not in _COMPARED:
        raise RecipeError(f"a comparison is written as {', '.join(_COMPARED)}, found {name!r}", "say it with --format")
    reports = load_report(before), load_report(after)
    with shown(before), shown(after):
        compared = compare_them(before, after, reports, target=target, other=other, device=device)
        if name == "text" and output is None:
            comparison_tables.show_comparison(compared, rows)
            return
        if name == "html":
            from pocketforge.report.page.comparison import write

            text = write(*reports, compared, rows)
        elif name == "json":
            text = json_text([dataclasses.asdict(each) for each in compared], indent=1)
        else:
            text = comparison_tables.write(compared, rows)
    if output is None:
        echo_lines(text)
    else:
        write_text(output, text)
