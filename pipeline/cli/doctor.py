"""`pocketforge doctor`."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.options import cache_option, json_option, print_json


@click.command("doctor")
@cache_option
@click.option("--imports/--no-imports", default=True, show_default=True, help="Also import each toolchain (slow).")
@json_option
@click.pass_context
def command(ctx: click.Context, cache: Path, imports: bool, as_json: bool) -> None:
    """Say what is installed and works here, what is missing, and how to get it. Exits 3 if a runtime is missing."""
    from pipeline.doctor import examine

    found = examine(cache, imports=imports)
    if as_json:
        print_json(found)
    else:
        for row in found:
            mark = {"ok": "ok", "missing": "MISSING", "optional": "-"}[row["state"]]
            click.echo(f"{mark:<8} {row['name']:<18} {row['found']}")
            if row["state"] != "ok" and row["get"]:
                click.echo(f"{'':<8} {'':<18} get it: {row['get']}")
    ctx.exit(3 if any(row["state"] == "missing" for row in found) else 0)
