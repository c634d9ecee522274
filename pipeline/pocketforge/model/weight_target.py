"""A module to load into: what it wants, and whether torch takes a reading of a file for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from pocketforge.model.weight_candidates import Candidate
from pocketforge.model.weight_faults import Faults, kind_fault, kind_of, quick_faults, shape_of
from pocketforge.model.weight_forms import to_form_of

_COUNTER = "num_batches_tracked"
# So many readings are tried on a module whose hooks rename: none of them has the model's names.
_MOST_TRIES = 12
_NO_VERSIONS = "the file has no versions of modules: taken as the model's"


@dataclass(slots=True)
class Reading:
    """A candidate in the model's form, and why it does not fit.

    Attributes:
        label: The candidate's.
        full: The candidate's.
        state: What torch is given to load.
        versions: The candidate's.
        aside: The candidate's.
        done: How it came from the file and to the model's form, in words.
        faults: Why it does not fit; of one that torch takes, none.
        named: How many of its names the model has.
    """

    label: str
    full: str
    state: dict[str, object]
    versions: dict[str, dict[str, object]]
    aside: tuple[str, ...]
    done: tuple[str, ...]
    faults: Faults
    named: int

    def distance(self) -> tuple[int, int]:
        """How far it is from fitting: the nearest is worth explaining, and of strangers the one that holds most."""
        return -self.named, self.faults.count if self.named else -len(self.state)


class LoadTarget:
    """The module to load into, and what it wants."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        own = module.state_dict()
        self.wanted: dict[str, Tensor] = dict(own)  # beside them what get_extra_state() gives
        self.versions: dict[str, dict[str, object]] = dict(getattr(own, "_metadata", {}))
        # What a refused file has overwritten is put back.
        self.before = {n: v.clone() for n, v in self.wanted.items() if isinstance(v, Tensor) and not is_lazy(v)}
        self.shapes = {name: shape_of(value) for name, value in self.wanted.items()}
        # Not used in inference; old checkpoints lack them, and .half() makes floats of them.
        self.counters = {n: v.clone() for n, v in self.wanted.items() if n.rpartition(".")[2] == _COUNTER}

    def restore(self) -> None:
        """The values that the module had; a lazy tensor that got a shape keeps it."""
        with torch.no_grad():
            for name, value in self.before.items():
                self.wanted[name].copy_(value)

    def reading(self, candidate: Candidate) -> Reading:
        state, done = to_form_of(self.module, self.shapes, candidate.state)
        for name, value in state.items():
            if not isinstance(value, Tensor) or kind_of(value) in ("nested", "without values"):
                continue
            if value.layout is not torch.strided and shape_of(value) == self.shapes.get(name):
                state[name] = value.to_dense()
                done = [*(d for d in done if "sparse" not in d), "sparse tensors made dense"]
        broken = [n for n in self.counters if isinstance(state.get(n), Tensor) and kind_of(state[n]) != "whole"]
        if broken:
            state |= {name: self.counters[name] for name in broken}
            done = [*done, f"{len(broken)} step counters of batch norm left out, no whole numbers"]
        optional = {*self.counters, *self.tied_to(state)}
        faults = quick_faults(self.shapes, state, optional)
        faults.kinds = [
            fault
            for name, value in state.items()
            if isinstance(value, Tensor) and isinstance(self.wanted.get(name), Tensor)
            if self.shapes[name] is None or shape_of(value) in (None, self.shapes[name])
            if (fault := kind_fault(name, value, self.wanted[name]))
        ]
        faults.untied = self.untied(state)
        return Reading(
            candidate.label,
            candidate.full,
            state,
            candidate.versions,
            candidate.aside,
            (*candidate.done, *done),
            faults,
            len(self.shapes.keys() & state.keys()),
        )

    def casts(self, state: Mapping[str, object]) -> list[str]:
        """Numbers of another width, which loading turns into the model's."""
        counts: Counter[tuple[str, str]] = Counter()
        for name, value in state.items():
            own = self.wanted.get(name)
            if isinstance(value, Tensor) and isinstance(own, Tensor) and value.dtype != own.dtype:
                counts[str(value.dtype).removeprefix("torch."), str(own.dtype).removeprefix("torch.")] += 1
        return [f"{count} tensors cast from {old} to {new}" for (old, new), count in counts.items()]

    def tied_to(self, state: Mapping[str, object]) -> dict[str, str]:
        """Names that the file lacks, and another name of the same memory in the model that it has."""
        places: dict[tuple[object, ...], str] = {}
        for name, value in self.wanted.items():
            if name in state and (place := _place(value)):
                places.setdefault(place, name)
        lacking = {name: _place(value) for name, value in self.wanted.items() if name not in state}
        return {name: places[place] for name, place in lacking.items() if place in places}

    def untied(self, state: Mapping[str, object]) -> list[str]:
        """Names of one tensor in the model whose values differ in the file: one of them would win."""
        groups: dict[tuple[object, ...], list[str]] = {}
        for name, value in self.wanted.items():
            if shape_of(state.get(name)) == self.shapes[name] and (place := _place(value)):
                groups.setdefault(place, []).append(name)
        return [
            " = ".join(names)
            for names in list(groups.values())
            if len(names) > 1 and any(not equal(state[names[0]], state[name]) for name in names[1:])
        ]

    def fitting(self, readings: Sequence[Reading]) -> list[Reading]:
        """The readings that torch takes, each loaded; the last of them stays in the module."""
        fits = [r for r in readings if not r.faults.count and self.load(r)]
        if fits:
            return fits
        # Hooks may rename: names alone say nothing then. Other kinds of numbers torch would cast in silence.
        for reading in readings:
            reading.faults.kinds += self.renamed_kinds(reading.state)
        tries = [r for r in readings if not (r.faults.kinds or r.faults.untied)]
        return [r for r in tries[:_MOST_TRIES] if self.load(r)]

    def renamed_kinds(self, state: Mapping[str, object]) -> list[str]:
        """Tensors of another kind that a hook could put under one of the model's other names: torch would cast them."""
        lacking = [(n, v) for n, v in self.wanted.items() if n not in state and isinstance(v, Tensor)]
        faults = []
        for name, value in state.items():
            if name in self.shapes or not isinstance(value, Tensor) or kind_of(value) == "floating-point":
                continue
            same = [(n, v) for n, v in lacking if self.shapes[n] is not None and shape_of(value) == self.shapes[n]]
            if same and not any(kind_of(v) == kind_of(value) for _, v in same):
                faults.append(kind_fault(name, value, same[0][1]))
        return faults

    def load(self, reading: Reading) -> bool:
        """Whether torch takes it all; else `reading.faults` has torch's reasons."""
        if self._load(reading, reading.versions):
            return True
        if reading.versions or not self._load(reading, self.versions):
            return False
        # A safetensors file has none, and some modules' hooks (torchvision's MNASNet) load no state without.
        reading.faults = Faults()
        reading.done = tuple(dict.fromkeys((*reading.done, _NO_VERSIONS)))
        return True

    def _load(self, reading: Reading, versions: dict[str, dict[str, object]]) -> bool:
        given = dict(reading.state)
        for name, value in self.counters.items():
            given.setdefault(name, value)
        state = _WithVersions(given)
        state._metadata = versions
        try:
            result = self.module.load_state_dict(state, strict=False)
        except Exception as error:  # hooks of the user's modules raise what they like
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            named = lines and lines[0].startswith("Error(s) in loading")
            reading.faults.said = lines[1:] if named else [f"{type(error).__name__}: {' '.join(lines)}"]
            return False
        tied = self.tied_to(given)
        missing = [name for name in getattr(result, "missing_keys", ()) if name not in tied]
        unexpected = list(getattr(result, "unexpected_keys", ()))
        if missing or unexpected:
            reading.faults.missing, reading.faults.unexpected = list(dict.fromkeys(missing)), unexpected
            return False
        if tied:
            names = ", ".join(f"{name} is {other}" for name, other in list(tied.items())[:4])
            reading.done = tuple(dict.fromkeys((*reading.done, f"tied in the model: {names}")))
        return True


class _WithVersions(dict[str, object]):
    """A state dict with the versions of its modules, which torch's hooks look at."""

    _metadata: dict[str, dict[str, object]]


def _place(value: object) -> tuple[object, ...] | None:
    """Where a tensor of the module lies in memory; None for one that has no values yet, or none at all."""
    if not isinstance(value, Tensor) or shape_of(value) is None or value.numel() == 0 or value.is_meta:
        return None
    return value.data_ptr(), value.shape, value.stride(), value.dtype


def equal(one: Tensor, other: Tensor) -> bool:
    if one is other:
        return True
    return one.dtype == other.dtype and shape_of(one) == shape_of(other) and bool(torch.equal(one, other))
