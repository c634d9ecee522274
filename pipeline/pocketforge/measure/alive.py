"""Whether a file that nothing is known of answers at all: finite values, that hang on what it is given."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from pocketforge.devices.outputs import Output, paired
from pocketforge.measure.file_checks import check
from pocketforge.outcomes.verify import FileCheck

_SHOWN = 8


def check_alive(
    outputs: Sequence[Output], judged: Collection[str], of_classes: Collection[str], *, alone: bool
) -> list[FileCheck]:
    """Every output's values, and of those that are judged (of all where none is) that they change with the samples.

    judged: names of outputs that have metrics. of_classes: of those that score classes. A count that some files give
    beside their answers may be one number for all samples. alone: it is held against nothing, and one sample does not
    show whether it answers at all.
    """
    checks = []
    needed = {each.name for each in outputs} & set(judged) or {each.name for each in outputs}
    for each in outputs:
        of = f" of {each.name}" if len(outputs) > 1 else ""
        if each.values.dtype.kind == "f":
            wrong = int((~np.isfinite(each.values)).sum())
            found = f"{wrong:,} of {each.values.size:,} are NaN or infinite" if wrong else "all finite"
            checks.append(check(f"values{of}", "all finite", found, not wrong))
        if each.name in needed and (alone or len(each.values) > 1):
            same = bool((each.values[1:] == each.values[:1]).all())
            found = f"one answer to all {len(each.values)} samples" if same else "they do"
            found = found if len(each.values) > 1 else "one sample, which cannot show it"
            checks.append(check(f"answers{of}", "change with the samples", found, not same))
        if each.name in of_classes and each.values.ndim == 2 and len(each.values) > 1 and each.values.shape[1] > 1:
            chosen = np.unique(np.argmax(each.values, axis=1))
            found = f"class {chosen[0]} for all {len(each.values)} samples" if len(chosen) == 1 else f"{len(chosen)}"
            checks.append(check(f"classes answered{of}", "2 or more", found, len(chosen) > 1))
    return checks


def check_compared(outputs: Sequence[Output], wanted: Sequence[Output]) -> list[FileCheck]:
    """Outputs that could not be held against the reference's: a file may leave a size open, and answer another one."""
    held = {other.name for _, other in paired(outputs, wanted)}
    shapes = {each.name: str(list(each.values.shape[1:])) for each in outputs}
    return [
        check(f"compared {each.name}", str(list(each.values.shape[1:])), shapes.get(each.name, "none"), False)
        for each in wanted
        if each.name not in held
    ]


def dead_channels(outputs: Sequence[Output]) -> Iterator[str]:
    """Channels of outputs that answer one value to all samples, in words: right of some nets, and worth knowing."""
    for each in outputs:
        if each.values.ndim != 2 or len(each.values) < 2 or each.values.shape[1] < 2:
            continue
        dead = np.flatnonzero((each.values[1:] == each.values[:1]).all(axis=0))
        if 0 < len(dead) < each.values.shape[1]:
            more = f" and {len(dead) - _SHOWN} more" if len(dead) > _SHOWN else ""
            names = ", ".join(map(str, dead[:_SHOWN]))
            yield f"channels {names}{more} of {each.name} answer one value to all {len(each.values)} samples"
