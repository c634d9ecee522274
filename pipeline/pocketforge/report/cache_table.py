"""Stored results as a table in the terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence

from pocketforge.report.tables import console, plain_table, short_lane
from pocketforge.run.listing import StoredResult


def show_cache(results: Sequence[StoredResult], place: str) -> None:
    """The results in the order given, and what they take together. place: where they lie."""
    screen = console()
    if results:
        rows = [
            (each.key[:12], each.stage, f"{each.size_bytes:,}", _minute(each.last_used), short_lane(each.lane))
            for each in results
        ]
        plain_table(screen, ("key", "stage", "bytes", "last used", "lane"), rows, numbers=("bytes",))
    screen.print(f"{len(results)} results, {sum(each.size_bytes for each in results):,} bytes in {place}")


def _minute(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
