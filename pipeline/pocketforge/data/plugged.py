"""A source of a package, held to what `Source` says: a split by another word would be trained on, an array in the place
of a tuple of arrays be as many inputs."""

from __future__ import annotations

import contextlib
import numbers
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NoReturn

from pocketforge.data.base import Array, PreprocessStep, Source, SplitName
from pocketforge.errors import PluginFailed, PocketforgeError
from pocketforge.plugins import Plugin
from pocketforge.registries import SOURCES

_SKETCH_BYTES = 8
_SHOWN_LETTERS = 80
_CALLED = ("sample", "slices", "digest", "sketch", "notes")


class PluggedSource:
    """Passes on what the package's own source says. Raises PluginFailed with the package's name for anything else."""

    def __init__(self, kind: str, plugin: Plugin, source: Source) -> None:
        self._kind, self._plugin, self._source = kind, plugin, source
        missing = [name for name in (*_CALLED, "__len__") if not callable(getattr(source, name, None))]
        if missing:
            self._fail(f"what open_place gives must have {missing[0]}(), found a {type(source).__name__}")
        with self._running("open_place"):
            self.ids: Sequence[str] = source.ids
            self.split: Sequence[SplitName | None] = source.split
            self.labels = tuple(source.labels)
            self.value_max = source.value_max
            self.as_images = source.as_images
            self.reading: Sequence[PreprocessStep] = source.reading
            self.sample_rate = source.sample_rate
            self._count = len(source)
            wrong = self._wrong(isinstance(source.labels, str))
        if wrong:
            self._fail(wrong)

    def _wrong(self, letters: bool) -> str:
        """What is wrong with what it says of all samples; empty when nothing is. letters: labels are one text."""
        for name, each in (("ids", self.ids), ("split", self.split)):
            if len(each) != self._count:
                return f"{name}: wanted one for each of {self._count} samples, found {len(each)}"
        if (other := _first_other(self.ids)) is not None:
            return f"ids: wanted texts, found {other}"
        if splits := {each for each in self.split if each not in ("train", "eval", None)}:
            return f"split: wanted 'train', 'eval' or None, found {_shown(min(splits, key=str))}"
        if letters or _first_other(self.labels) is not None:
            return f"labels: wanted a tuple of texts, found {_shown(self.labels)}"
        if isinstance(self.value_max, bool) or not isinstance(self.value_max, numbers.Real):
            return f"value_max: wanted a number, found {_shown(self.value_max)}"
        if isinstance(self.sample_rate, bool) or not isinstance(self.sample_rate, numbers.Integral):
            return f"sample_rate: wanted a whole number, found {_shown(self.sample_rate)}"
        if not all(isinstance(step, Mapping) for step in self.reading):
            return f"reading: wanted steps as the sidecar has them, found {_shown(self.reading)}"
        return ""

    def __len__(self) -> int:
        return self._count

    def sample(self, index: int) -> tuple[tuple[Array, ...], object]:
        import numpy as np

        with self._running(f"sample {self.ids[index]!r}"):
            found: object = self._source.sample(index)
        if not isinstance(found, tuple) or len(found) != 2:
            self._fail(f"sample {self.ids[index]!r}: wanted (inputs, target), found a {type(found).__name__}")
        inputs, target = found
        arrays = inputs if isinstance(inputs, tuple | list) else [inputs]
        others = [_named(each) for each in arrays if not isinstance(each, np.ndarray) or each.dtype.hasobject]
        if arrays is not inputs or others or not arrays:
            what = others[0] if others else f"a {type(inputs).__name__}" if arrays is not inputs else "none"
            self._fail(f"sample {self.ids[index]!r}: wanted a tuple of arrays as its inputs, found {what}")
        return tuple(arrays), target

    def slices(self, index: int) -> Mapping[str, str]:
        with self._running(f"slices of sample {self.ids[index]!r}"):
            found = self._source.slices(index)
        if not isinstance(found, Mapping) or _first_other([*found, *found.values()]) is not None:
            self._fail(f"slices of sample {self.ids[index]!r}: wanted texts by name, found {_shown(found)}")
        return found

    def digest(self, index: int) -> str:
        with self._running(f"digest of sample {self.ids[index]!r}"):
            found = self._source.digest(index)
        if not isinstance(found, str) or not found:
            self._fail(f"digest of sample {self.ids[index]!r}: wanted a text, found {_shown(found)}")
        return found

    def sketch(self, index: int) -> bytes:
        with self._running(f"sketch of sample {self.ids[index]!r}"):
            found = self._source.sketch(index)
        if not isinstance(found, bytes) or len(found) != _SKETCH_BYTES:
            self._fail(f"sketch of sample {self.ids[index]!r}: wanted {_SKETCH_BYTES} bytes, found {_shown(found)}")
        return found

    def notes(self) -> Sequence[str]:
        with self._running("notes"):
            found = self._source.notes()
        if isinstance(found, str) or not isinstance(found, Sequence) or _first_other(found) is not None:
            self._fail(f"notes: wanted a list of texts, found {_shown(found)}")
        return found

    @contextlib.contextmanager
    def _running(self, part: str) -> Iterator[None]:
        # A data set may have a million samples: what it prints is not looked after for each.
        with SOURCES.calling(self._kind, part, ours=(PocketforgeError, OSError), prints=True):
            yield

    def _fail(self, fault: str) -> NoReturn:
        raise PluginFailed(f"{self._plugin.words}: {fault}", self._plugin.hint)


def _first_other(values: Collection[object]) -> str | None:
    """The first that is no text, in words."""
    return next((_shown(each) for each in values if not isinstance(each, str)), None)


def _named(value: object) -> str:
    dtype = getattr(value, "dtype", None)
    return f"a {type(value).__name__}" + (f" of {dtype}" if dtype is not None else "")


def _shown(value: object) -> str:
    return repr(value)[:_SHOWN_LETTERS]
