"""What devices from plug-ins say of their values, in the words of the gate: theirs stand beside ours but apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pocketforge.errors import PluginFailed
from pocketforge.outcomes import files
from pocketforge.outcomes.bench import HowHere, ProcessTimes
from pocketforge.outcomes.bench_phone import RoundTimes
from pocketforge.records import How, HowCounted, HowElse, HowEstimated, HowOnThePhone

Part = TypeVar("Part")

HINT = "pocketforge doctor lists plug-ins; ask the author of the one that brings it"
# What is taken of words that a plug-in leaves out.
_PROCESS = ProcessTimes(samples=0, p50_ms=0.0, load_ms=0.0, peak_rss_bytes=0)
_ROUND = RoundTimes(0, 0, 0.0, 0, None, False, (), (None, None), (None, None), (None, None))
_HERE = HowHere(threads=1, cpus=(), warmup=0, runtime="", others=0.0, processes=())
_ON_PHONE = HowOnThePhone("", "", "", (), 1, 0, 0.0, (), (), True, "", (), noise_floor=0.0, noise_floor_from="")
_COUNTED = HowCounted(conclusive=True, reason="", by_class={}, windows=(), qemu="", cpu="")
_ESTIMATED = HowEstimated("uncalibrated", model_version="", core="", coverage=0.0, interval=(0.0, 0.0))
# A word that decides about a verdict → the form of ours that has it, and what its parts are.
_DECIDING: dict[str, tuple[How, object]] = {
    "processes": (_HERE, _PROCESS),
    "rounds": (_ON_PHONE, _ROUND),
    "noise_floor": (_ON_PHONE, _ROUND),
    "interval": (_ESTIMATED, None),
    "conclusive": (_COUNTED, None),
}


def in_our_words(how: How) -> tuple[How, ...]:
    """The forms by which a value is judged, the one that says of its parts first: its own, or each of ours of which a
    plug-in's words have one that decides. Raises PluginFailed for such a word that is not as ours is.
    """
    if not isinstance(how, HowElse):
        return (how,)
    forms = {id(form): (form, part) for word, (form, part) in _DECIDING.items() if word in how.more}
    return tuple(_filled(how.more, form, part) for form, part in forms.values()) or (how,)


def check_parts(how: How, samples: Sequence[float], whose: str) -> None:
    """Raises PluginFailed where the parts that samples are said to be of are not as many samples: their interval would
    be one of other figures."""
    for form in in_our_words(how):
        parts = form.processes if isinstance(form, HowHere) else form.clean if isinstance(form, HowOnThePhone) else ()
        count = sum(part.samples for part in parts)
        if parts and count != len(samples):
            raise PluginFailed(f"{whose}: wanted {count} samples, as its parts say, found {len(samples)}", HINT)


def structured(value: Mapping[str, object], kind: type[Part], whose: str) -> Part:
    """JSON of a plug-in as ours. whose: who said it, in words. Raises PluginFailed where it is not of that form."""
    try:
        return files.from_json(value, kind)
    except ValueError as error:
        raise PluginFailed(
            f"{whose} say what no report can hold: {error}",
            HINT,
        ) from error


def _filled(words: Mapping[str, object], form: How, part: object) -> How:
    """A form with those of the words that it has."""
    table: dict[str, Any] = {**files.to_json(form), **_known(words, form)}
    for name in ("processes", "rounds"):
        if part is not None and isinstance(table.get(name), list | tuple):
            table[name] = [
                {**_but_samples(part), **_known(each, part)} if isinstance(each, Mapping) else each
                for each in table[name]
            ]
    return structured(table, type(form), "a device's words of how it measured")


def _but_samples(part: object) -> dict[str, object]:
    """How many samples are of a part has to be said: the interval is made of these."""
    return {name: value for name, value in files.to_json(part).items() if name != "samples"}


def _known(words: Mapping[str, object], form: Any) -> dict[str, object]:
    return {field.name: words[field.name] for field in dataclasses.fields(form) if field.name in words}
