"""What changed from one report's targets to another's, and why, in sentences. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pocketforge.errors import RecipeError
from pocketforge.recipe import suggest
from pocketforge.records import Measurement, Report, TargetRecord
from pocketforge.report.budget_words import figure
from pocketforge.report.comparison import Change, Compared, compare_counts, paired
from pocketforge.report.difference import value_rows
from pocketforge.report.file_comparison import FilesCompared
from pocketforge.results.relative import change_of

# The files of two targets, compared; or why they cannot be.
Files = Callable[[TargetRecord, TargetRecord], "FilesCompared | str"]
_MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class TargetCompared:
    """One target of two reports, or two targets.

    Attributes:
        target: Its name in the report before.
        other: The target's in the report after.
        same_file: Whether both are one file, to the bit.
        why: What changed most, and what that comes of, in sentences.
        values: As difference.HEADS, without the target: each measured value that is another one.
        files: What is in the files; None where they were not both read, or are the same.
        unread: Why they were not; empty where they were.
        layers: Layers that became float, and that no longer are, in words; versions of libraries that are others.
        counts: On each emulated device that both were counted on.
    """

    target: str
    other: str
    same_file: bool
    why: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]
    files: FilesCompared | None
    unread: str
    layers: tuple[str, ...]
    counts: tuple[Compared, ...]

    @property
    def names(self) -> str:
        return self.target if self.target == self.other else f"{self.target} → {self.other}"


def compare_targets(
    before: Report, after: Report, files: Files, *, target: str | None, other: str | None, device: str | None
) -> list[TargetCompared]:
    """One entry for each target of both. Raises RecipeError for names that are not there, and where none is in both."""
    pairs = paired(before, after, target, other)
    if device is not None and not any(compare_counts(*pair, device) for pair in pairs):
        devices = sorted(
            {name for report in (before, after) for each in report.targets for name in each.facts.emulated}
        )
        raise RecipeError(
            f"no target of both reports was counted on the same emulated device {device!r}{suggest(device, devices)}",
            'a recipe with a [[device]] of via = "emulator" counts instructions when it is built',
        )
    return [_compared(before, after, *pair, files, device) for pair in pairs]


def _compared(
    before: Report, after: Report, one: TargetRecord, two: TargetRecord, files: Files, device: str | None
) -> TargetCompared:
    same = _sha256(one) == _sha256(two) != ""
    read = "" if same else files(one, two)
    compared = None if isinstance(read, str) else read
    counts = compare_counts(one, two, device)
    sides = _own(before, one.name, one.name), _own(after, two.name, one.name)
    rows = value_rows(*(dataclasses.replace(before, measurements=side) for side in sides))
    return TargetCompared(
        one.name,
        two.name,
        same,
        (*_why_bigger(one, two, compared), *_why_slower(*sides), *map(_why_more, counts)),
        tuple(tuple(row[1:]) for row in rows),
        compared,
        read if isinstance(read, str) else "",
        (*_layers(one, two), *_versions(before, after)),
        counts,
    )


def _own(report: Report, target: str, named: str) -> tuple[Measurement, ...]:
    """A target's values, as if it had that name."""
    return tuple(dataclasses.replace(m, target=named) for m in report.measurements if m.target == target)


def _sha256(target: TargetRecord) -> str:
    return target.artifacts[0].sha256 if target.artifacts else ""


def _why_bigger(one: TargetRecord, two: TargetRecord, files: FilesCompared | None) -> Iterator[str]:
    if not one.artifacts or not two.artifacts:
        return
    before, after = one.artifacts[0].size_bytes, two.artifacts[0].size_bytes
    if before == after:
        return
    said = f"{'bigger' if after > before else 'smaller'}: {before:,} → {after:,} bytes ({percent(before, after)})"
    if files is not None:
        parts = sorted((part for part in files.parts if part.growth), key=lambda part: -abs(part.growth))
        said += ": " + ", ".join(f"{part.name} {part.growth:+,}" for part in parts)
        most = _most(files.weights, after - before)
        said += f"; most in {most}" if most else ""
    yield said


def _why_slower(before: Sequence[Measurement], after: Sequence[Measurement]) -> Iterator[str]:
    """Of each device that keeps time. Two runs of one file differ, too: what lies within that is no change."""
    olds = {each.device: each for each in before if each.metric == "latency_ms"}
    for new in after:
        old = olds.get(new.device)
        if new.metric != "latency_ms" or old is None:
            continue
        try:
            change = change_of([old], [new], "p50")
        except ValueError as error:
            yield f"latency on {new.device}: {figure(old.value)} → {figure(new.value)} ms, which say nothing: {error}"
            continue
        words = f"{figure(change.before)} → {figure(change.after)} ms ({change.ratio.value - 1:+.1%})"
        if change.ratio.low <= 1 <= change.ratio.high:
            yield f"neither slower nor faster on {new.device}, as far as one run each tells: {words}"
        else:
            yield f"{'slower' if change.ratio.value > 1 else 'faster'} on {new.device}: {words}"


def _why_more(counted: Compared) -> str:
    before, after = counted.instructions
    if before == after:
        return f"as many instructions on {counted.device}: {before:,}"
    said = f"{'more' if after > before else 'fewer'} instructions on {counted.device}: {before:,} → {after:,}"
    said += f" ({percent(before, after)})"
    of = [_most(changes, after - before) for changes in (counted.classes, counted.functions)]
    return said + "".join(f"; most in {each}" for each in of if each)


def _most(changes: Sequence[Change], growth: int) -> str:
    """Those that went the way of the whole, the most of it first."""
    same_way = sorted((each for each in changes if each.growth * growth > 0), key=lambda each: -abs(each.growth))
    shown = ", ".join(f"{each.name} {each.growth:+,}{_came(each)}" for each in same_way[:_MOST_NAMED])
    return shown + (f" and {len(same_way) - _MOST_NAMED} more" if len(same_way) > _MOST_NAMED else "")


def _came(change: Change) -> str:
    return " (new)" if not change.before else " (gone)" if not change.after else ""


def _layers(one: TargetRecord, two: TargetRecord) -> Iterator[str]:
    before, after = (set(each.facts.float_layers or ()) for each in (one, two))
    for words, layers in (("float now", after - before), ("no longer float", before - after)):
        if layers:
            yield f"{words}: {', '.join(sorted(layers))}"
    old, new = one.facts.delegation, two.facts.delegation
    if old and new and old != new:
        parts = (f"{each.delegated_ops} ops in {each.subgraphs} parts, {each.other_ops} not" for each in (old, new))
        yield f"delegated: {' → '.join(parts)}"


def _versions(before: Report, after: Report) -> Iterator[str]:
    names = [name for name in {**before.environment, **after.environment} if name != "host"]
    for name in names:
        one, two = (each.environment.get(name, "none") for each in (before, after))
        if one != two:
            yield f"made with {name} {one} → {two}"


def percent(before: int, after: int) -> str:
    """`+3.10%`; of what was not there "new"."""
    return f"{after / before - 1:+.2%}" if before else "new"
