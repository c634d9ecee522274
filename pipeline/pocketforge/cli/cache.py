"""`pocketforge cache`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pocketforge.cli.cache_remote import gc, pull, push
from pocketforge.cli.options import cache_option, echo, json_option, print_json
from pocketforge.cli.quantities import AGE, SIZE
from pocketforge.errors import EXIT_OK, EXIT_STAGE, RecipeError


@click.group("cache")
def command() -> None:
    """Show, verify and clear stored results, and share them by a remote store."""


command.add_command(push)
command.add_command(pull)
command.add_command(gc)


@command.command("dir")
@cache_option
def show_dir(cache: Path) -> None:
    """Print the folder that results are stored in."""
    echo(cache)


@command.command("list")
@cache_option
@json_option
def list_entries(cache: Path, as_json: bool) -> None:
    """List every stored result: stage, size, last use."""
    from pocketforge.run.store import Store

    results = sorted(Store(cache).summaries(), key=lambda each: -each.last_used)
    if as_json:
        print_json([each.to_json() for each in results])
    else:
        from pocketforge.report.cache_table import show_cache

        show_cache(results, str(cache))


@command.command("verify")
@cache_option
@json_option
@click.pass_context
def verify(ctx: click.Context, cache: Path, as_json: bool) -> None:
    """Compare every stored file with its recorded hash.

    Damaged results are removed, and the exit code is 3: the next build makes them again.
    """
    from pocketforge.errors import DamagedEntry
    from pocketforge.run.store import Store

    store = Store(cache)
    store.must_be_writable()
    keys = store.keys()
    damaged = []
    for key in keys:
        try:
            whole = store.get(key) is not None
        except DamagedEntry as error:
            whole = False
            echo(f"{error.message}; removed", err=True)
        if not whole:
            store.discard(key)
            damaged.append(key)
    if as_json:
        print_json({"whole": len(keys) - len(damaged), "damaged": damaged})
    else:
        echo(f"{len(keys) - len(damaged)} results whole, {len(damaged)} damaged")
    ctx.exit(EXIT_STAGE if damaged else EXIT_OK)


@command.command("clear")
@cache_option
@click.option(
    "--older-than", type=AGE,
    help="Only results not used for so long (30d).",
)  # fmt: skip
@click.option(
    "--keep-bytes", type=SIZE,
    help="Remove the least recently used until so much is left (5GB).",
)  # fmt: skip
@click.option("--yes", "-y", is_flag=True, help="Do not ask before removing everything.")
@json_option
def clear(cache: Path, older_than: float | None, keep_bytes: float | None, yes: bool, as_json: bool) -> None:
    """Remove stored results: those past a limit, or all. What a running build uses stays.

    The next build makes again what it needs.
    """
    from pocketforge.run.store import Cleared, Store

    done = Cleared(0, 0, 0)
    if older_than is not None or keep_bytes is not None or yes or _agreed(f"remove every result in {cache}?"):
        limit = None if keep_bytes is None else int(keep_bytes)
        done = Store(cache).clear(older_than_s=older_than, keep_bytes=limit)
    if as_json:
        print_json({"removed": done.removed, "bytes": done.size_bytes, "in_use": done.in_use})
        return
    echo(f"removed {done.removed} results, {done.size_bytes:,} bytes")
    if done.in_use:
        echo(f"left {done.in_use} results that a running command uses", err=True)


def _agreed(question: str) -> bool:
    try:
        return click.confirm(question, err=True)
    except click.Abort:
        if sys.stdin.isatty():
            raise  # ^C
        echo(err=True)
        raise RecipeError(
            "nobody is here to be asked, so nothing was removed", "--yes removes without asking"
        ) from None
