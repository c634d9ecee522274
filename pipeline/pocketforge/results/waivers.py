"""Waivers on the gate's results. Pure but for the day."""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Sequence

from pocketforge.recipe.waiver import Waiver
from pocketforge.records import GateResult, Verdict

_UNTIL = re.compile(r"until (\d{4}-\d{2}-\d{2}) by ")


def today() -> datetime.date:
    """Of UTC, so that a waiver ends everywhere at once."""
    return datetime.datetime.now(datetime.UTC).date()


def waived(result: GateResult, waivers: Sequence[Waiver], day: datetime.date) -> GateResult:
    """The result with the first waiver that holds on `day`; with none that does FAIL, where one has expired."""
    own = [] if result.verdict == "PASS" else [waiver for waiver in waivers if _is_of(waiver, result)]
    holding = next((waiver for waiver in own if day <= waiver.last_day), None)
    if holding is not None:
        words = f"until {holding.expires} by {holding.owner}: {holding.reason}"
        return dataclasses.replace(result, waiver=words, reason=f"{result.reason}; waived {words}")
    if own:
        last = max(own, key=lambda waiver: waiver.expires)
        expired = f"{result.verdict}: {result.reason}; the waiver of {last.owner} expired on {last.expires}"
        return dataclasses.replace(result, verdict=_failed(result), reason=expired)
    return result


def held_on(result: GateResult, day: datetime.date) -> GateResult:
    """A result of an earlier day on this one: with its waiver while that holds, else without, and it says so."""
    if not result.waiver or day <= _last_day(result.waiver):
        return result
    reason = f"{result.reason}; the waiver has expired since"
    return dataclasses.replace(result, waiver="", reason=reason)


def _last_day(words: str) -> datetime.date:
    """Of a waiver as `waived` writes it; words of another's hand hold on no day."""
    found = _UNTIL.match(words)
    try:
        return datetime.date.fromisoformat(found[1]) if found else datetime.date.min
    except ValueError:
        return datetime.date.min


def _failed(result: GateResult) -> Verdict:
    """What is MISSING has no value, and stays so: both fail."""
    return "MISSING" if result.measurement is None else "FAIL"


def _is_of(waiver: Waiver, result: GateResult) -> bool:
    of_target = not waiver.target or waiver.target == result.target
    return waiver.is_of(result.budget) and of_target and waiver.device in ("", result.device)
