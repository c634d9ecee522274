"""What changed for an app from one release to the next: what breaks it, and what it only has to know."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pocketforge.outcomes.tensors import TensorSpec
from pocketforge.registries import RUNTIMES
from pocketforge.release.manifest import Manifest, goes_back
from pocketforge.release.sidecars import Sidecar, read_manifest, read_sidecars
from pocketforge.release.verify import whole_release

_MOST_SHOWN = 5
_WORKS = "works"


@dataclass(frozen=True, slots=True)
class Change:
    """One difference.

    Attributes:
        of: The target's file that it is of (`net`, or `net ort` of a file beside the model); empty of the release.
        what: release, file, task, inputs, outputs, roles, labels, preprocessing, postprocess, inside, sizes, bytes,
            accuracy or runtime.
        breaking: Whether an app that works with the first release may fail, or be wrong, with the second.
        words: Both sides, in words.
    """

    of: str
    what: str
    breaking: bool
    words: str


@dataclass(frozen=True, slots=True)
class Compared:
    """Two releases.

    Attributes:
        before: The first one's version.
        after: The second one's.
        same: Whether they are equal, to the bit.
        changes: What breaks an app first; then in the manifests' order.
    """

    before: str | None
    after: str | None
    same: bool
    changes: tuple[Change, ...]

    @property
    def breaking(self) -> bool:
        return any(change.breaking for change in self.changes)


def compare_releases(before: Path, after: Path) -> Compared:
    """Raises ReleaseError where one of them is no release, or not whole."""
    same = whole_release(before).sums_sha256 == whole_release(after).sums_sha256
    one, other = read_manifest(before), read_manifest(after)
    changes: list[Change] = []
    if not same:
        if fault := goes_back(one.version, other.version):
            changes.append(Change("", "release", True, f"no app may take it in place of the other: {fault}"))
        old, new = read_sidecars(before, one), read_sidecars(after, other)
        changes += [Change(name, "file", True, f"{old[name].file.path} is gone") for name in old if name not in new]
        for name in new:
            if name in old:
                changes += _of_file(name, old[name], new[name])
            else:
                changes.append(Change(name, "file", False, f"{new[name].file.path} is new"))
        changes += _shared(one, other)
    return Compared(one.version, other.version, same, tuple(sorted(changes, key=lambda change: not change.breaking)))


def _shared(old: Manifest, new: Manifest) -> Iterator[Change]:
    """Files that all need: another tokenizer gives other numbers for the same text."""
    before, after = ({file.path: file for file in each.shared} for each in (old, new))
    for path in dict.fromkeys((*before, *after)):
        if path not in after:
            yield Change("", before[path].role, True, f"{path} is gone")
        elif path not in before:
            yield Change("", after[path].role, False, f"{path} is new")
        elif before[path].sha256 != after[path].sha256:
            sizes = f"{before[path].size_bytes:,} bytes became {after[path].size_bytes:,}"
            yield Change("", after[path].role, True, f"{path} is another: {sizes}")


def _of_file(name: str, old: Sidecar, new: Sidecar) -> Iterator[Change]:
    def broken(what: str, before: object, after: object) -> Iterator[Change]:
        if before != after:
            yield Change(name, what, True, f"{before} became {after}")

    yield from broken("file", old.file.path, new.file.path)
    yield from broken("runtime", old.file.runtime, new.file.runtime)
    yield from broken("task", old.task, new.task)
    yield from _tensors(name, "inputs", old.inputs, new.inputs)
    yield from _tensors(name, "outputs", old.outputs, new.outputs)
    yield from broken("roles", _compact(old.output_roles), _compact(new.output_roles))
    yield from _labels(name, old.labels, new.labels)
    yield from broken("preprocessing", _compact(old.preprocessing), _compact(new.preprocessing))
    yield from broken("postprocess", *(each.package.postprocess if each.package else "none" for each in (old, new)))
    yield from _inside(name, old, new)
    yield from broken("sizes", _compact([old.sizes, old.size_axes]), _compact([new.sizes, new.size_axes]))
    yield from _bytes(name, old, new)
    yield from _accuracy(name, old.accuracy, new.accuracy)
    yield from _runtime(name, old, new)


def _inside(name: str, old: Sidecar, new: Sidecar) -> Iterator[Change]:
    """What a file does to its inputs is no app's business, where it takes the same."""
    before, after = ([each.steps for each in side.package.inputs] if side.package else [] for side in (old, new))
    if before != after:
        yield Change(name, "inside", False, f"{_compact(before)} became {_compact(after)}")


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _tensors(name: str, what: str, old: tuple[TensorSpec, ...], new: tuple[TensorSpec, ...]) -> Iterator[Change]:
    if len(old) != len(new):
        names = [", ".join(each.name for each in tensors) for tensors in (old, new)]
        yield Change(name, what, True, f"{len(old)} ({names[0]}) became {len(new)} ({names[1]})")
    for before, after in zip(old, new, strict=False):
        if before != after:
            yield Change(name, what, True, f"{_tensor(before)} became {_tensor(after)}")


def _tensor(tensor: TensorSpec) -> str:
    levels = "" if tensor.scale is None else f" scale {tensor.scale!r} zero point {tensor.zero_point}"
    return f"{tensor}{f' {tensor.layout}' if tensor.layout else ''}{levels}"


def _labels(name: str, old: tuple[str, ...], new: tuple[str, ...]) -> Iterator[Change]:
    if old == new:
        return
    if sorted(old) == sorted(new):
        yield Change(name, "labels", True, f"the same {len(old)}, in another order")
        return
    gone, added = [x for x in old if x not in set(new)], [x for x in new if x not in set(old)]
    parts = [f"{len(old)} became {len(new)}"]
    parts += [f"{verb} {_few(which)}" for verb, which in (("gone:", gone), ("new:", added)) if which]
    yield Change(name, "labels", True, "; ".join(parts))


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return ", ".join(names[:_MOST_SHOWN]) + more


def _bytes(name: str, old: Sidecar, new: Sidecar) -> Iterator[Change]:
    if old.file.sha256 == new.file.sha256:
        return
    sizes = [(each.file.size_bytes, each.gzip_bytes) for each in (old, new)]
    words = ", ".join(
        f"{before:,} {unit} became {after:,} ({(after - before) / before:+.1%})"
        for before, after, unit in zip(*sizes, ("bytes", "bytes packed by gzip"), strict=True)
    )
    yield Change(name, "bytes", False, words)


def _accuracy(name: str, old: Mapping[str, float], new: Mapping[str, float]) -> Iterator[Change]:
    for metric in dict.fromkeys((*old, *new)):
        before, after = old.get(metric), new.get(metric)
        if before is None or after is None:
            yield Change(name, "accuracy", False, f"{metric} is {'new' if before is None else 'not taken any more'}")
        elif before != after:
            yield Change(name, "accuracy", False, f"{metric} {before:.6g} became {after:.6g}")


def _runtime(name: str, old: Sidecar, new: Sidecar) -> Iterator[Change]:
    """An app's runtime that is older than the one that the file was made for and tried in may refuse it."""
    known = RUNTIMES.ours.get(new.file.runtime)
    for library in known.run_libraries if known else sorted({*old.versions, *new.versions}):
        before, after = old.versions.get(library), new.versions.get(library)
        if before != after:
            yield Change(
                name, "runtime", False, f"tried in {library} {after or 'none'}, and before in {before or 'none'}"
            )
    for runtime, ended in new.runtimes.items():
        if old.runtimes.get(runtime) == _WORKS != ended:
            yield Change(name, "runtime", True, f"it worked in {runtime}, and does not: {ended}")
    opset, higher = old.export.get("opset"), new.export.get("opset")
    if isinstance(opset, int) and isinstance(higher, int) and opset != higher:
        why = ": an older runtime may not load it" if higher > opset else ""
        yield Change(name, "runtime", higher > opset, f"operator set {opset} became {higher}{why}")
