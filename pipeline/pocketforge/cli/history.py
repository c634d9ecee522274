"""`pocketforge history`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from pocketforge.cli.options import (
    FiniteRange,
    echo,
    echo_error,
    echo_lines,
    history_option,
    json_option,
    print_json,
)
from pocketforge.errors import EXIT_OK, EXIT_USAGE

_recipe = click.option("--recipe", "recipe_name", metavar="NAME", default="", help="Only builds of this recipe.")
_branch = click.option("--branch", default="", help="Only builds of this branch.")


@click.group("history")
def command() -> None:
    """Keep builds with their commits, and show what became of a metric.

    In one file of SQLite, or for a team in PostgreSQL: --history, else POCKETFORGE_HISTORY, else a file among the
    user's data. Builds add themselves where build --history or POCKETFORGE_HISTORY says so.
    """


@command.command("add")
@click.argument("reports", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="REPORT...")
@click.option("--commit", default="", metavar="REVISION", help="Of which they are.  [default: what is checked out]")
@click.option("--branch", default="", help="Of which they are.  [default: what is checked out]")
@history_option
@json_option
def add_command(reports: tuple[Path, ...], commit: str, branch: str, history: str | None, as_json: bool) -> None:
    """Add reports of builds of the commit that is checked out.

    A REPORT is a report.json or the folder it is in; the commit is that of the repository around it.
    """
    from pocketforge.commands.history import add_reports
    from pocketforge.history.places import asked_or_default

    added = add_reports(asked_or_default(history), reports, commit, branch)
    if as_json:
        print_json([dataclasses.asdict(each) for each in added])
        return
    for each in added:
        echo(f"build {each.build}: {each.file}" if each.new else f"build {each.build} is {each.file} already")


@command.command("import")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@history_option
@json_option
@click.pass_context
def import_command(ctx: click.Context, paths: tuple[Path, ...], history: str | None, as_json: bool) -> None:
    """Add old reports, whose commit is not known, and exports.

    A FILE is a report.json, an export (.jsonl), or a folder of such. Exits 2 if one of them cannot be read; the others
    are added.
    """
    from pocketforge.commands.history import import_files
    from pocketforge.history.places import asked_or_default

    added, passed = import_files(asked_or_default(history), paths)
    if as_json:
        print_json({"added": [dataclasses.asdict(e) for e in added], "passed": [dataclasses.asdict(e) for e in passed]})
    else:
        new = sum(each.new for each in added)
        old = len(added) - new
        there = f", {old} {'was' if old == 1 else 'were'} there already" if old else ""
        echo(f"{new} build{'' if new == 1 else 's'} added{there}")
    for each in passed:
        echo_error(f"{each.file} was not imported: {each.reason}")
    ctx.exit(EXIT_USAGE if passed else EXIT_OK)


@command.command("export")
@_recipe
@_branch
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="Write them into this file, not on stdout."
)
@history_option
def export_command(recipe_name: str, branch: str, output: Path | None, history: str | None) -> None:
    """Write builds with their reports as lines of JSON, for import."""
    from pocketforge.commands.history import export_lines
    from pocketforge.files import write_whole
    from pocketforge.history.entry import Wanted
    from pocketforge.history.places import asked_or_default

    lines = export_lines(asked_or_default(history), Wanted(recipe_name, branch))
    if output is None:
        for line in lines:
            echo_lines(line.replace("\x7f", "\\u007f"))
    else:
        write_whole(output, "".join(f"{line}\n" for line in lines).encode())


@command.command("list")
@_recipe
@_branch
@click.option("--commit", default="", metavar="REVISION", help="Only builds of the commit whose hash begins so.")
@click.option("--rows", default=20, show_default=True, type=click.IntRange(1, 1_000_000), help="Builds shown at most.")
@history_option
@json_option
def list_command(recipe_name: str, branch: str, commit: str, rows: int, history: str | None, as_json: bool) -> None:
    """List builds, the last one first."""
    from pocketforge.commands.history import list_builds
    from pocketforge.history.entry import Wanted
    from pocketforge.history.places import asked_or_default

    found, where = list_builds(asked_or_default(history), Wanted(recipe_name, branch, commit), rows)
    if as_json:
        print_json([dataclasses.asdict(each) for each in found])
        return
    from pocketforge.report.trend import show_builds

    show_builds(found, where)


@command.command("show")
@click.argument("build")
@history_option
@json_option
def show_command(build: str, history: str | None, as_json: bool) -> None:
    """Show a build's report: BUILD is its number, commit or branch."""
    from pocketforge.commands.history import show_build
    from pocketforge.history.places import asked_or_default

    found, report = show_build(asked_or_default(history), build)
    if as_json:
        print_json(dataclasses.asdict(found) | {"report": report.to_json()})
        return
    from pocketforge.report.terminal import show_report
    from pocketforge.report.trend import show_builds

    show_builds([found], "")
    show_report(report)


@command.command("trend")
@click.argument("metric")
@_recipe
@_branch
@click.option("--target", "-t", help="Only this target.")
@click.option("--device", "-d", help="Only this device.")
@click.option(
    "--min-effect", type=FiniteRange(0, 1), metavar="SHARE",
    help="The least change to tell: 0.05 is 5 %.  [default: 0.01 of what is timed, 0.001 of what is exact]",
)  # fmt: skip
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="Write a page (HTML) into this file."
)
@click.option(
    "--last", default=500, show_default=True, type=click.IntRange(1, 100_000), help="Builds looked at, of a line."
)
@click.option(
    "--rows", default=12, show_default=True, type=click.IntRange(1, 1_000_000), help="Builds shown at most, of a line."
)
@history_option
@json_option
def trend_command(
    metric: str, recipe_name: str, branch: str, target: str | None, device: str | None, min_effect: float | None,
    output: Path | None, last: int, rows: int, history: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Show what became of a metric over commits, and where it changed.

    A line for each recipe, target, device and condition: hosts of different kinds are never in one.
    """
    from pocketforge.commands.history import trend_of
    from pocketforge.history.entry import Wanted
    from pocketforge.history.places import asked_or_default

    wanted = Wanted(recipe_name, branch)
    place = asked_or_default(history)
    lines = trend_of(place, metric, wanted, target=target or "", device=device, effect=min_effect, last=last)
    if output is not None:
        from pocketforge.files import write_whole
        from pocketforge.report.page.trend import write

        write_whole(output, f"{write(lines)}\n".encode("utf-8", "backslashreplace"))
    if as_json:
        print_json([dataclasses.asdict(each) for each in lines])
    elif output is None:
        from pocketforge.report.trend import show_trend

        show_trend(lines, rows)
