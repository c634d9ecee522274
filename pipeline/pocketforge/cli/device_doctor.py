"""`pocketforge device doctor`."""

from __future__ import annotations

import dataclasses

import click

from pocketforge.cli.device_phone import serial_argument
from pocketforge.cli.options import echo, json_option, print_json
from pocketforge.errors import EXIT_DEVICE, EXIT_OK


@click.command("doctor")
@serial_argument
@json_option
@click.pass_context
def command(ctx: click.Context, serial: str, as_json: bool) -> None:
    """Say whether a connected phone can be benchmarked.

    Exits 4 if something is missing without which no benchmark can run. Switches fixed-performance mode off, to see
    whether the phone has it; small files are put on it, started and removed.
    """
    from pocketforge.devices.phones import checks

    found = []
    for row in checks(serial):
        found.append(row)
        if as_json:
            continue
        mark = {"ok": "ok", "warn": "warn", "missing": "MISSING"}[row.state]
        echo(f"{mark:<8} {row.name:<17} {row.found}")
        if row.state != "ok" and row.fix:
            echo(f"{'':<8} {'':<17} do: {row.fix}")
    if as_json:
        print_json([dataclasses.asdict(row) for row in found])
    ctx.exit(EXIT_DEVICE if any(row.state == "missing" for row in found) else EXIT_OK)
