"""What a build found, in the terminal or as JSON, and its exit code."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

import click

from pocketforge.cli.options import echo, echo_error, echo_lines

if TYPE_CHECKING:
    from pocketforge.api.report import Report


def show_built(ctx: click.Context, report: Report, *, verbose: bool, as_json: bool) -> None:
    """Print it, and end with its exit code."""
    if as_json:
        from pocketforge.report.as_json import write

        echo_lines(write(report.record))
    else:
        from pocketforge.report.terminal import show_report

        # All that the command took: the report's own time ends before it and the release are written.
        wall_s = time.monotonic() - ctx.find_root().obj
        show_report(dataclasses.replace(report.record, wall_s=wall_s), verbose=verbose)
        echo(f"report   {report.path}")
        if report.page:
            echo(f"page     {report.page}")
        echo(f"release  {report.release}" if report.release else "release  none: the gate did not pass")
        if report.checkpoint:
            echo(f"model    {report.checkpoint}")
        if report.history:
            echo(f"history  {report.history}")
    for error in report.errors:
        echo_error(str(error))
    if report.not_kept is not None:
        echo_error(f"the build is not in the history: {report.not_kept}")
    ctx.exit(report.exit_code)
