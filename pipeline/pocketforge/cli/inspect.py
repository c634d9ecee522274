"""`pocketforge inspect`."""

from __future__ import annotations

from pathlib import Path

import click

from pocketforge.cli.options import json_option, print_json


@click.command("inspect")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--layers/--no-layers", default=True, show_default=True, help="List every weight.")
@json_option
def command(file: Path, layers: bool, as_json: bool) -> None:
    """Show what is in an exported model file.

    Its inputs and outputs, ops, dtypes, weights, and what runs delegated where the file says so. It is read, not run.
    """
    from pocketforge.api.calls import inspect

    found = inspect(file)
    if as_json:
        from pocketforge.runtimes.describe import to_json

        print_json(to_json(found))
        return
    from pocketforge.report.model_file import show_description

    show_description(found, layers=layers)
