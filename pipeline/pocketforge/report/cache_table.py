"""Stored results as a table in the terminal."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass

from pocketforge.report.tables import console, short_lane, table


@dataclass(frozen=True, slots=True)
class StoredResult:
    """One stored result, for listing.

    Attributes:
        key: Of the step that made it.
        stage: That made it; "damaged" where nothing says which.
        lane: `trunk`, or the targets that it served then; empty of a damaged one.
        size_bytes: Of its files.
        last_used: When it was used last, in seconds since 1970.
    """

    key: str
    stage: str
    lane: str
    size_bytes: int
    last_used: float

    def to_json(self) -> dict[str, object]:
        """Every field by its name."""
        return dataclasses.asdict(self)


def show_cache(results: Sequence[StoredResult], place: str) -> None:
    """The results in the order given, and what they take together. place: where they lie."""
    screen = console()
    if results:
        drawn = table("", "key", "stage", "bytes", "last used", "lane", numbers=("bytes",))
        for each in results:
            used = time.strftime("%Y-%m-%d %H:%M", time.localtime(each.last_used))
            drawn.add_row(each.key[:12], each.stage, f"{each.size_bytes:,}", used, short_lane(each.lane))
        screen.print(drawn)
    screen.print(f"{len(results)} results, {sum(each.size_bytes for each in results):,} bytes in {place}")
