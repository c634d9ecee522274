"""`pocketforge doctor`."""

from __future__ import annotations

from pathlib import Path

import click

from pocketforge.cli.options import cache_option, echo, json_option, print_json


@click.command("doctor")
@cache_option
@click.option("--imports/--no-imports", default=True, show_default=True, help="Also import each toolchain (slow).")
@json_option
@click.pass_context
def command(ctx: click.Context, cache: Path, imports: bool, as_json: bool) -> None:
    """Say what is installed, what is missing, and how to get it.

    Each toolchain is imported in a process of its own, which takes a while. A library of another version than the
    pinned one says whether it is in the range that was tested; older or newer
    than that it is UNTESTED: it may work. Exits 3 if something is missing that a build needs, or broken.
    """
    from pocketforge.commands.doctor import examine

    rows = []
    for row in examine(cache, imports=imports):
        rows.append(row)
        if as_json:
            continue
        mark = {"ok": "ok", "missing": "MISSING", "untested": "UNTESTED", "optional": "-"}[row.state]
        echo(f"{mark:<8} {row.name:<15} {row.found}")
        if row.state != "ok" and row.get:
            get = "get the tested one" if row.state == "untested" else "get it"
            echo(f"{'':<8} {'':<15} {get}: {row.get}")
    if as_json:
        print_json([row.to_json() for row in rows])
    ctx.exit(3 if any(row.state == "missing" for row in rows) else 0)
