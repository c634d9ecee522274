"""Targets of the eval samples as stage `data` writes them, and how they are read back.

A task's own target is `eval_targets.npy`. By name: of fixed shape `eval_target_NAME.npy` (N, …); ragged ones
`eval_target_NAME.npy` (all entries, one after the other) with `eval_target_NAME_lengths.npy` (N,). Text is UTF-8 bytes,
ragged. data.json lists them (outcomes.data.NamedTarget).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pocketforge.errors import ModelError
from pocketforge.outcomes.data import NamedTarget, Sampled

Array = NDArray[Any]
TEXT = "str"
# Whose samples may have different numbers of entries: always stored with lengths, so that a lucky set reads the same.
_RAGGED = frozenset({"boxes", "tags", "waveform", "text"})
_TASKS = {"classification": "label", "regression": "value"}


@dataclass(slots=True)
class TargetsWriter:
    """Collects the targets of one sample after another; they are small beside inputs.

    Attributes:
        kinds: Target → its kind, of those that are ragged by it.
        names: Of the samples so far, for errors.
        arrays: Target → what each sample has.
    """

    kinds: Mapping[str, str]
    names: list[str] = field(default_factory=list)
    arrays: dict[str, list[Array]] = field(default_factory=dict)

    def add(self, targets: Mapping[str, Array], sample: str) -> None:
        self.names.append(sample)
        for name, array in targets.items():
            self.arrays.setdefault(name, []).append(array)

    def write(self, folder: Path) -> tuple[NamedTarget, ...]:
        """Raises ModelError where samples' targets of fixed shape differ in shape or type, with a sample's name."""
        return tuple(self._write(folder, name, arrays) for name, arrays in self.arrays.items())

    def _write(self, folder: Path, name: str, arrays: list[Array]) -> NamedTarget:
        if arrays[0].dtype.kind == "U":
            encoded = [np.frombuffer(str(array).encode("utf-8"), np.uint8) for array in arrays]
            _save_ragged(folder, name, encoded)
            return NamedTarget(name, (), TEXT, ragged=True)
        if is_ragged(name, self.kinds):
            _save_ragged(folder, name, arrays)
            return NamedTarget(name, tuple(arrays[0].shape[1:]), str(arrays[0].dtype), ragged=True)
        for position, array in enumerate(arrays):
            if (array.shape, array.dtype) != (arrays[0].shape, arrays[0].dtype):
                raise ModelError(
                    f"data.source: target {name!r} of sample {self.names[position]!r} has shape {list(array.shape)} "
                    f"{array.dtype}, that of the first {list(arrays[0].shape)} {arrays[0].dtype}",
                    "samples must be alike: set data.preprocess.resize, or pad targets to one length",
                )
        np.save(folder / f"eval_target_{name}.npy", np.stack(arrays))
        return NamedTarget(name, tuple(arrays[0].shape), str(arrays[0].dtype))


def is_ragged(name: str, kinds: Mapping[str, str]) -> bool:
    """Whether samples may have different numbers of entries of a target. kinds: target → its kind."""
    if kinds.get(name) in _RAGGED:
        return True
    # What stands beside boxes: classes, crowd.
    return name.endswith(("classes", "crowd")) and name not in kinds


def _save_ragged(folder: Path, name: str, arrays: Sequence[Array]) -> None:
    np.save(folder / f"eval_target_{name}.npy", np.concatenate(arrays))
    np.save(folder / f"eval_target_{name}_lengths.npy", np.asarray([len(array) for array in arrays], np.int64))


@dataclass(frozen=True, slots=True)
class StoredTargets:
    """The eval samples' targets by name, read when they are asked for.

    Attributes:
        folder: Of stage `data`.
        listed: Target → how it is stored; "label" or "value" of a task.
        count: Of the samples.
    """

    folder: Path
    listed: Mapping[str, NamedTarget]
    count: int

    def first(self, count: int) -> StoredTargets:
        """Of the first samples only."""
        return StoredTargets(self.folder, self.listed, min(count, self.count))

    def __contains__(self, name: str) -> bool:
        return name in self.listed

    def batch(self, name: str, start: int, stop: int) -> Array | list[Array] | list[str]:
        """Of samples start to stop: an array with samples first; of ragged ones a list, of text one of strings.

        Raises KeyError for a target that was not stored.
        """
        listed, stop = self.listed[name], min(stop, self.count)
        values = np.load(self._path(name), mmap_mode="r")
        if not listed.ragged:
            return np.asarray(values[start:stop])
        lengths = np.load(self.folder / f"eval_target_{name}_lengths.npy")
        ends = np.cumsum(lengths)
        parts = [np.asarray(values[ends[k] - lengths[k] : ends[k]]) for k in range(start, stop)]
        return [part.tobytes().decode("utf-8") for part in parts] if listed.dtype == TEXT else parts

    def stored_count(self) -> int:
        """Of how many samples the files are."""
        name, listed = next(iter(self.listed.items()))
        lengths = self.folder / f"eval_target_{name}_lengths.npy"
        return len(np.load(lengths if listed.ragged else self._path(name), mmap_mode="r"))

    def _path(self, name: str) -> Path:
        named = self.folder / f"eval_target_{name}.npy"
        return named if named.exists() else self.folder / "eval_targets.npy"


class TargetBatches(Protocol):
    """Targets of samples by name: stored ones, or some that are in memory."""

    @property
    def listed(self) -> Collection[str]: ...

    @property
    def count(self) -> int: ...

    def first(self, count: int) -> TargetBatches:
        """Of the first samples only."""
        ...

    def batch(self, name: str, start: int, stop: int) -> Array | list[Array] | list[str]:
        """Of samples start to stop, as `StoredTargets.batch`."""
        ...


@dataclass(frozen=True, slots=True)
class HeldTargets:
    """Targets in memory.

    Attributes:
        arrays: Target → an array with samples first, or a list of one entry a sample.
        count: Of the samples.
    """

    arrays: Mapping[str, Any]
    count: int

    @property
    def listed(self) -> Collection[str]:
        return self.arrays.keys()

    def first(self, count: int) -> HeldTargets:
        """Of the first samples only."""
        return HeldTargets(self.arrays, min(count, self.count))

    def batch(self, name: str, start: int, stop: int) -> Any:
        """Of samples start to stop."""
        return self.arrays[name][start : min(stop, self.count)]


def stored_targets(folder: Path, sampled: Sampled) -> StoredTargets:
    """What stage `data` wrote. sampled: its data.json."""
    listed = {each.name: each for each in sampled.named}
    if sampled.targets is not None:
        name = _TASKS[sampled.task]
        listed[name] = NamedTarget(name, sampled.targets.shape, sampled.targets.dtype)
    stored = StoredTargets(folder, listed, sampled.counts.eval)
    return dataclasses.replace(stored, count=stored.stored_count()) if listed else stored
