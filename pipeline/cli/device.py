"""`pocketforge device`."""

from __future__ import annotations

import click

from pipeline.cli.options import json_option, print_json
from pipeline.errors import RecipeError


@click.group("device")
def command() -> None:
    """List and set up what model files run on."""


@command.command("list")
@json_option
def list_devices(as_json: bool) -> None:
    """List what files can run on here."""
    from pipeline.devices import legacy
    from pipeline.facts import host_identity

    ready = legacy.legacy_python()
    rows = [
        {"name": "host", "kind": "device", "state": "ready", "what": host_identity()},
        {
            "name": "tflite-runtime",
            "kind": "environment",
            "state": "ready" if ready else "not set up: pocketforge device setup tflite-runtime",
            "what": f"{', '.join(legacy.REQUIREMENTS)} in {legacy.legacy_folder()}",
        },
    ]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        click.echo(f"{row['name']:<16} {row['kind']:<12} {row['state']}\n{'':<16} {row['what']}")


@command.command("setup")
@click.argument("name")
def setup(name: str) -> None:
    """Set up an optional runtime. Needs the package index.

    NAME is `tflite-runtime`: the last release under that name, which apps still ship. A build verifies .tflite files
    with it too, once it is set up.
    """
    from pipeline.devices import legacy

    if name != "tflite-runtime":
        raise RecipeError(f"nothing named {name!r} can be set up", "known: tflite-runtime")
    click.echo(f"setting up {', '.join(legacy.REQUIREMENTS)} in {legacy.legacy_folder()}", err=True)
    click.echo(legacy.setup_legacy())
