"""What a build found, in the terminal or as JSON, and its exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pocketforge.cli.options import echo, echo_error, echo_lines

if TYPE_CHECKING:
    from pocketforge.commands.build import Built


def show_built(ctx: click.Context, built: Built, *, verbose: bool, as_json: bool) -> None:
    """Print it, and end with its exit code."""
    if as_json:
        from pocketforge.report.as_json import write

        echo_lines(write(built.report))
    else:
        from pocketforge.report.terminal import show_report

        show_report(built.report, verbose=verbose)
        echo(f"report   {built.report_path}")
        if built.page:
            echo(f"page     {built.page}")
        echo(f"release  {built.release}" if built.release else "release  none: the gate did not pass")
        if built.checkpoint:
            echo(f"model    {built.checkpoint}")
    for error in built.errors:
        echo_error(str(error))
    ctx.exit(built.exit_code)
