"""What a step's result says of its making: kept beside its files in the store, compared before it is reused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pocketforge.run.opened import Opened
from pocketforge.run.store import Entry


@dataclass(frozen=True, slots=True)
class MadeOf:
    """What a result was made of beside its key.

    Attributes:
        needs: Role → origin and content of the earlier result that it read, a digest each (reuse.py).
        opened: Files that the user's code opened by itself.
    """

    needs: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    opened: tuple[Opened, ...] = ()


@dataclass(frozen=True, slots=True)
class Made:
    """How a result came about.

    Attributes:
        stage: Name of the stage.
        lane: `trunk`, or the targets that the step served then, joined by "+".
        wall_s: Seconds that the step took.
        peak_rss_bytes: The most resident memory that its process had.
        cpu_s: Processor time of its process and of what that started; None where an earlier version did not say.
        spec: What the stage was told, for readers.
        inputs: What it was made of.
    """

    stage: str = ""
    lane: str = ""
    wall_s: float = 0.0
    peak_rss_bytes: int = 0
    spec: Mapping[str, object] = field(default_factory=dict)
    inputs: MadeOf = MadeOf()
    cpu_s: float | None = None

    def to_json(self) -> dict[str, object]:
        return {
            "stage": self.stage,
            "lane": self.lane,
            "wall_s": self.wall_s,
            "peak_rss_bytes": self.peak_rss_bytes,
            "cpu_s": self.cpu_s,
            "spec": dict(self.spec),
            "inputs": {
                "needs": {role: list(pair) for role, pair in self.inputs.needs.items()},
                "opened": [each.to_json() for each in self.inputs.opened],
            },
        }


def made(entry: Entry) -> Made:
    """What an entry says; a part that an entry of another version lacks is as of nothing."""
    meta = entry.meta
    inputs: Mapping[str, Any] = meta.get("inputs") or {}
    return Made(
        meta.get("stage", ""),
        meta.get("lane", ""),
        float(meta.get("wall_s", 0.0)),
        int(meta.get("peak_rss_bytes", 0)),
        meta.get("spec", {}),
        MadeOf(
            {role: (origin, content) for role, (origin, content) in inputs.get("needs", {}).items()},
            tuple(Opened.from_json(item) for item in inputs.get("opened", ())),
        ),
        None if meta.get("cpu_s") is None else float(meta["cpu_s"]),
    )
