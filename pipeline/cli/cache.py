"""`pocketforge cache`."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import click

from pipeline.cli.options import cache_option, json_option, print_json

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_BYTES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


class Quantity(click.ParamType[float]):
    """A number with a unit, as in 30d or 5GB."""

    def __init__(self, name: str, units: dict[str, int], example: str) -> None:
        self.name = name
        self.units = units
        self.example = example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]*)", str(value).strip())
        if not found or found[2].lower() not in self.units:
            self.fail(f"wanted a number and a unit, as in {self.example}; found {value!r}", param, ctx)
        return float(found[1]) * self.units[found[2].lower()]


@click.group("cache")
def command() -> None:
    """Show, verify and clear stored results."""


@command.command("dir")
@cache_option
def show_dir(cache: Path) -> None:
    """Print the folder."""
    click.echo(cache)


@command.command("list")
@cache_option
@json_option
def list_entries(cache: Path, as_json: bool) -> None:
    """Every stored result: stage, lane, size, when it was last used."""
    from pipeline.store import Store

    entries = sorted(Store(cache).summaries(), key=lambda e: -e.last_used)
    rows = [
        {
            "key": e.key,
            "stage": e.meta.get("stage", "damaged"),
            "lane": e.meta.get("lane", ""),
            "size_bytes": e.size_bytes,
            "last_used": e.last_used,
        }
        for e in entries
    ]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(float(row["last_used"])))
        click.echo(f"{row['key'][:16]}  {row['stage']:<10} {row['size_bytes']:>13,} bytes  {used}  {row['lane']}")
    click.echo(f"{len(rows)} results, {sum(int(r['size_bytes']) for r in rows):,} bytes in {cache}")


@command.command("verify")
@cache_option
@click.pass_context
def verify(ctx: click.Context, cache: Path) -> None:
    """Compare every stored file with its recorded hash; damaged results are removed (and exit code 1)."""
    from pipeline.store import DamagedEntry, Store

    store = Store(cache)
    keys = store.keys()
    damaged = 0
    for key in keys:
        try:
            whole = store.get(key) is not None
        except DamagedEntry as error:
            whole = False
            click.echo(f"{error}; removed", err=True)
        if not whole:
            store.discard(key)
            damaged += 1
    click.echo(f"{len(keys) - damaged} results whole, {damaged} damaged")
    ctx.exit(1 if damaged else 0)


@command.command("clear")
@cache_option
@click.option(
    "--older-than", type=Quantity("age", _SECONDS, "30d (s, m, h, d, w)"),
    help="Only results not used for so long (30d).",
)  # fmt: skip
@click.option(
    "--keep-bytes", type=Quantity("size", _BYTES, "5GB (B, KB, MB, GB, KiB, MiB, GiB)"),
    help="Remove the least recently used until so much is left (5GB).",
)  # fmt: skip
@click.option("--yes", is_flag=True, help="Do not ask before removing everything.")
def clear(cache: Path, older_than: float | None, keep_bytes: float | None, yes: bool) -> None:
    """Remove stored results: those that fit the limits, or all of them. The next build makes them again."""
    from pipeline.store import Store

    if older_than is None and keep_bytes is None and not yes:
        click.confirm(f"remove every result in {cache}?", abort=True, err=True)
    limit = None if keep_bytes is None else int(keep_bytes)
    removed, freed = Store(cache).clear(older_than_s=older_than, keep_bytes=limit)
    click.echo(f"removed {removed} results, {freed:,} bytes")
