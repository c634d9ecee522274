"""`pocketforge cache push`, `pull` and `gc`: the remote store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pocketforge.cli.options import cache_option, echo, json_option, print_json, progress_option, remote_option
from pocketforge.cli.quantities import AGE, SIZE
from pocketforge.errors import EXIT_OK, EXIT_STAGE, RecipeError
from pocketforge.report.progress import progress

if TYPE_CHECKING:
    from pocketforge.commands.cache import Exchanged


@click.command("push")
@click.argument("keys", metavar="[KEY]...", nargs=-1)
@remote_option
@click.option("--again", is_flag=True, help="Send also what is there, in its place.")
@cache_option
@progress_option
@json_option
@click.pass_context
def push(
    ctx: click.Context,
    keys: tuple[str, ...],
    remote_store: str | None,
    again: bool,
    cache: Path,
    progress_mode: str,
    as_json: bool,
) -> None:
    """Send stored results to a remote store that has them not.

    KEY is the beginning of a result's key; all results without. One that is damaged here is left out, and the exit
    code is 3.
    """
    from pocketforge.commands.cache import push as send
    from pocketforge.commands.remote import must_be_asked, must_write
    from pocketforge.run.store import Store

    remote = must_write(must_be_asked(remote_store))
    with progress(progress_mode) as emit:
        done = send(Store(cache), remote, keys, emit, again=again)
    _show(ctx, "sent", done, f"to {remote.words}", as_json)


@click.command("pull")
@click.argument("keys", metavar="[KEY]...", nargs=-1)
@remote_option
@cache_option
@progress_option
@json_option
@click.pass_context
def pull(
    ctx: click.Context,
    keys: tuple[str, ...],
    remote_store: str | None,
    cache: Path,
    progress_mode: str,
    as_json: bool,
) -> None:
    """Fetch results from a remote store that are not stored here.

    KEY is the beginning of a result's key; all results without. What does not match its hash, or is not signed by the
    key that is asked for, is refused, and the exit code is 3.
    """
    from pocketforge.commands.cache import pull as fetch
    from pocketforge.commands.remote import must_be_asked
    from pocketforge.run.store import Store

    remote = must_be_asked(remote_store).opened()
    with progress(progress_mode) as emit:
        done = fetch(Store(cache), remote, keys, emit)
    _show(ctx, "fetched", done, f"from {remote.words}", as_json)


@click.command("gc")
@remote_option
@click.option(
    "--older-than", type=AGE,
    help="Results that nobody used for so long (30d).",
)  # fmt: skip
@click.option(
    "--keep-bytes", type=SIZE,
    help="The least recently used until so much is left (50GB).",
)  # fmt: skip
@json_option
def gc(remote_store: str | None, older_than: float | None, keep_bytes: float | None, as_json: bool) -> None:
    """Clear a remote store of results past a limit.

    What broke off more than a day ago goes as well. A build that is fetching what goes runs the step. A result counts
    as used when it was sent or fetched, by the day.
    """
    from pocketforge.commands.remote import must_be_asked, must_write
    from pocketforge.run.remote_clear import collect

    if older_than is None and keep_bytes is None:
        raise RecipeError("nothing says what goes", "give --older-than, --keep-bytes or both")
    remote = must_write(must_be_asked(remote_store))
    limit = None if keep_bytes is None else int(keep_bytes)
    done = collect(remote, older_than_s=older_than, keep_bytes=limit)
    if as_json:
        print_json(
            {
                "removed": done.removed, "unfinished": done.unfinished, "bytes": done.size_bytes, "left": done.left,
                "left_bytes": done.left_bytes,
            }
        )  # fmt: skip
        return
    echo(f"removed {done.removed} results and {done.unfinished} unfinished files, {done.size_bytes:,} bytes")
    echo(f"left {done.left} results, {done.left_bytes:,} bytes in {remote.words}")


def _show(ctx: click.Context, verb: str, done: Exchanged, where: str, as_json: bool) -> None:
    for key, fault in done.faults.items():
        echo(f"{key[:12]}: {fault}", err=True)
    if as_json:
        print_json(
            {
                verb: done.moved, "there": done.there, "bytes": done.moved_bytes, "wall_s": done.wall_s,
                "faults": done.faults,
            }
        )  # fmt: skip
    else:
        rate = done.moved_bytes / 1e6 / max(done.wall_s, 1e-3)
        echo(f"{verb} {done.moved} results {where}, {done.moved_bytes:,} bytes at {rate:.1f} MB/s")
        echo(f"{done.there} were there, {len(done.faults)} left out")
    ctx.exit(EXIT_STAGE if done.faults else EXIT_OK)
