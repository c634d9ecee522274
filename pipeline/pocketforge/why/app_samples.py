"""The eval samples that an app's tensors may be of, and which of them each is."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from functools import lru_cache

from pocketforge.data.base import Array
from pocketforge.data.dataset import Samples
from pocketforge.errors import ModelError
from pocketforge.why.app_dumps import Dump


class RawSamples(Sequence[Array]):
    """One raw input of the first samples of a split; read when asked for, and the last few kept."""

    def __init__(self, samples: Samples, number: int, count: int) -> None:
        self._count = min(count, len(samples))
        self._read = lru_cache(maxsize=8)(lambda place: samples.raw(place)[number])

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: int) -> Array:  # type: ignore[override]
        if not 0 <= place < self._count:
            raise IndexError(place)
        found: Array = self._read(place)
        return found


def named_samples(dumps: Sequence[Dump], ids: Sequence[str], given: Sequence[str]) -> list[int | None]:
    """For each tensor the place of its eval sample: as given (ID, or TENSOR=ID), else by the tensor's name; None where
    it has to be searched for. Raises ModelError for names that nothing has."""
    places = {name: place for place, name in enumerate(ids)}
    stems: dict[str, list[int]] = {}
    for place, name in enumerate(ids):
        stems.setdefault(_stem(name), []).append(place)
    of: dict[str, str] = {}
    for each in given:
        tensor, found, sample = each.rpartition("=")
        if found and tensor not in {known for dump in dumps for known in (dump.name, dump.stem)}:
            raise ModelError(f"--sample: no tensor is named {tensor!r}", f"tensors: {', '.join(d.name for d in dumps)}")
        of[tensor] = sample
    chosen: list[int | None] = []
    for dump in dumps:
        name = of.get(dump.name) or of.get(dump.stem) or of.get("") or ""
        if not name:
            alike = stems.get(dump.stem, [])
            chosen.append(places.get(dump.stem, alike[0] if len(alike) == 1 else None))
            continue
        alike = [places[name]] if name in places else stems.get(_stem(name), [])
        if len(alike) != 1:
            raise ModelError(*_unknown(name, len(alike), ids))
        chosen.append(alike[0])
    return chosen


def _unknown(name: str, alike: int, ids: Sequence[str]) -> tuple[str, str]:
    near = difflib.get_close_matches(name, ids, n=1)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    first = (
        f"the first {len(ids)} eval samples: {', '.join(ids[:5])}{' …' if len(ids) > 5 else ''}; --samples takes more"
    )
    if alike:
        return f"--sample: {alike} eval samples are named {name!r}", first
    return f"--sample: no eval sample is named {name!r}{meant}", first


def _stem(name: str) -> str:
    last = name.rpartition("/")[2]
    return last.rpartition(".")[0] or last
