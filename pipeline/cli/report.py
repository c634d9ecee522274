"""`pocketforge report`."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.options import json_option, print_json


@click.command("report")
@click.argument("report", type=click.Path(path_type=Path))
@json_option
def command(report: Path, as_json: bool) -> None:
    """Show a build's report.

    REPORT is a report.json or the folder it is in.
    """
    from pipeline.report.files import load_report

    loaded = load_report(report)
    if as_json:
        print_json(loaded.to_json())
        return
    from pipeline.report.terminal import show_report

    show_report(loaded)
