"""`pocketforge report`."""

from __future__ import annotations

from pathlib import Path

import click

from pocketforge.cli.options import json_option, print_json
from pocketforge.errors import RecipeError


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
@json_option
def show(report: Path, as_json: bool) -> None:
    """Show a build's report."""
    from pocketforge.report.files import load_report

    loaded = load_report(report)
    if as_json:
        print_json(loaded.to_json())
        return
    from pocketforge.report.terminal import show_report
    from pocketforge.report.validity import shown

    with shown(report):
        show_report(loaded)


@command.command("compare")
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
@click.option("--target", "-t", help="Only this target (by its name in BEFORE).")
@click.option(
    "--with", "other", metavar="TARGET", help="Compare it with this target of AFTER.  [default: its namesake]"
)
@click.option("--device", "-d", help="Only this emulated device.")
@click.option(
    "--rows", default=12, show_default=True, type=click.IntRange(1, 1_000_000), help="Functions shown at most."
)
@json_option
def compare(
    before: Path, after: Path, target: str | None, other: str | None, device: str | None, rows: int, as_json: bool
) -> None:
    """Show which instructions came and went between two reports.

    By class and by function. Counts of emulated devices are exact, so each difference is the file's, the runtime's or
    the profile's own. BEFORE and AFTER may be one report: `compare build/x build/x -t a --with b` compares two of its
    targets.
    """
    from pocketforge.report.comparison import compare_reports
    from pocketforge.report.files import load_report

    if other and not target:
        raise RecipeError("--with says which target of AFTER: name the one of BEFORE with --target")
    from pocketforge.report.validity import shown

    reports = load_report(before), load_report(after)
    with shown(before), shown(after):
        found = compare_reports(*reports, target=target, other=other, device=device)
        if as_json:
            print_json(found)
            return
        from pocketforge.report.emulated import show_comparison

        show_comparison(found, rows)
