"""Weights into a module. Torch says whether they load, with the module's own hooks; what does not fit is explained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from pocketforge.errors import ModelError
from pocketforge.files import replace_whole
from pocketforge.model.lazy import settle_loaded
from pocketforge.model.weight_candidates import TOP, Candidate, candidates, short
from pocketforge.model.weight_faults import listed, shape_of
from pocketforge.model.weight_files import SAVE_SNIPPET, Content, plain, read_content
from pocketforge.model.weight_target import LoadTarget, Reading, equal
from pocketforge.model.weight_trees import Other, StateDict, find, is_averaged, summarize


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was loaded.

    Attributes:
        file: Its name.
        key: What of it (a `weights_key`).
        done: What was done to it, in words.
    """

    file: str
    key: str
    done: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        return {"file": self.file, "key": self.key, "done": list(self.done)}


def load_weights(module: nn.Module, path: Path, key: str = "") -> Loaded:
    """Load a weights file into `module`: every tensor of the module must get its value, and none be left over.

    Containers, wrappers' prefixes and names, pruning masks and norms are recognised by what fits the model. key: which
    of several weights in the file. Raises ModelError, with the file's name: missing, damaged, something else, a pickle
    that acts, tensors that do not fit or are of another kind, several that do fit, NaN or infinite values.
    """
    content = read_content(path)
    states, others = find(content.tree)
    if not states:
        raise _no_state_dict(path, content, others)
    target = LoadTarget(module)
    known = [_restored(state, content, target) for state in states]
    fitting = _chosen(candidates(known, target.shapes), key, path, states, others)
    readings = sorted((target.reading(candidate) for candidate in fitting), key=lambda r: r.faults.count)
    try:
        fits = target.fitting(readings)
        if not fits:
            raise _does_not_fit(path, min(readings, key=Reading.distance), len(target.shapes), others)
        best = _one_of(fits, path, key, [s for s in states if len(s.values) * 4 >= len(target.shapes)], others)
        if best is not fits[-1]:
            target.load(best)
        _check_loaded(module.state_dict(), best.state, path)
    except ModelError:
        target.restore()
        raise
    settle_loaded(module)
    return Loaded(path.name, best.label, (*best.done, *target.casts(best.state), *_unread(content)))


def _unread(content: Content) -> list[str]:
    kinds = list(dict.fromkeys("NumPy" if k.startswith("numpy.") else k for k in content.unread))
    return [f"not read: objects of {short(kinds)}"] if kinds else []


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a flat file, by name. Raises ModelError as `load_weights`."""
    content = read_content(path)
    states, others = find(content.tree)
    if not states or states[0].path:
        raise _no_state_dict(path, content, others)
    return {name: value for name, value in states[0].values.items() if isinstance(value, Tensor)}


def _restored(state: StateDict, content: Content, target: LoadTarget) -> StateDict:
    """With the names that safetensors' save_model() left out because they share a kept one's memory."""
    if state.path or not content.metadata:
        return state
    left_out = {
        name: partner
        for name, partner in content.metadata.items()
        if name not in state.values and partner in state.values
        if target.shapes.get(name) in (None, shape_of(state.values[partner]))
    }
    if not left_out:
        return state
    return StateDict(
        state.path, {**state.values, **{n: state.values[k] for n, k in left_out.items()}}, state.versions, state.beside
    )


def _chosen(
    found: list[Candidate], key: str, path: Path, states: Sequence[StateDict], others: Sequence[Other]
) -> list[Candidate]:
    """The candidates that `key` names, and those below it."""
    if not key:
        return found
    exact = [c for c in found if key in (c.label, c.full)]
    named = [*exact, *(c for c in found if c.full.startswith(f"{key}.") and c not in exact)]
    if named:
        return named
    listing = [f"{s.label or TOP!r} ({len(s.values)} tensors)" for s in states[:8]]
    listing += [f"{o.label or TOP!r} ({o.what})" for o in others[:4]]
    raise ModelError(
        f"model.weights_key: {path} has no weights under {key!r}; it holds {', '.join(listing)}",
        "the keys that lead there, with dots between; leave weights_key out where one of them fits the model",
    )


def _one_of(
    fits: Sequence[Reading], path: Path, key: str, states: Sequence[StateDict], others: Sequence[Other]
) -> Reading:
    """The one that fits; ModelError where several do, and differ, or averaged weights lie beside it unsaid."""
    distinct: list[Reading] = []
    exact = [reading for reading in fits if key in (reading.label, reading.full)]
    for reading in exact or fits:
        if not any(_same(reading, other) for other in distinct):
            distinct.append(reading)
    # What lies as it is in the file is said, not how else it could be had.
    best = distinct[0]
    choices = list(dict.fromkeys(reading.label for reading in distinct))
    averaged = []
    if not key and not is_averaged(best.full):
        same = {reading.label for reading in fits}
        averaged = [f"{o.label!r} ({o.what})" for o in others if is_averaged(o.label)]
        averaged += [
            f"{s.label!r} ({len(s.values)} tensors)" for s in states if is_averaged(s.label) and s.label not in same
        ]
        roots = {name.partition(".")[0] for name in best.aside if "." in name}
        averaged += [f"names that begin with {root!r}" for root in sorted(roots) if is_averaged(root)]
    if len(distinct) > 1:
        what = ", ".join(f"{label!r}" for label in choices)
        raise ModelError(
            f"model.weights: {path} holds several weights that fit the model, and they differ: {what}",
            "choose: " + " or ".join(f'weights_key = "{plain(label, 200)}"' for label in choices[:6]),
        )
    if averaged:
        raise ModelError(
            f"model.weights: {path} holds averaged weights that do not fit the model, {', '.join(averaged[:4])}, "
            f"beside those that do, {best.label!r}",
            f'weights_key = "{plain(best.label, 200)}" takes those that fit; an average ships as a state dict',
        )
    return best


def _same(one: Reading, other: Reading) -> bool:
    if one.state.keys() != other.state.keys():
        return False
    pairs = ((value, other.state[name]) for name, value in one.state.items())
    return all(equal(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else a is b for a, b in pairs)


def _no_state_dict(path: Path, content: Content, others: Sequence[Other]) -> ModelError:
    module = next((o for o in others if "pickled module" in o.what), None)
    if module is not None:
        under = f" under {module.label!r}" if module.path else ""
        return ModelError(
            f"model.weights: {path} holds {module.what}{under}: loading it would run its program; weights are wanted",
            SAVE_SNIPPET,
        )
    what = ", ".join(f"{o.what}" for o in others[:3]) or summarize(content.tree)
    return ModelError(
        f"model.weights: {path} is not a state dict: wanted tensors by name, perhaps under 'state_dict' or 'model', "
        f"found {what}",
        SAVE_SNIPPET,
    )


def _does_not_fit(path: Path, best: Reading, entries: int, others: Sequence[Other]) -> ModelError:
    how = f", read so: {'; '.join(best.done)}" if best.done else ""
    lines = [f"model.weights: {path} does not fit the model ({entries} entries){how}:", *best.faults.lines()]
    lines += [
        f"the file also holds {o.what} under {o.label!r}, which is not read" for o in others if "pickled" in o.what
    ]
    return ModelError("\n  ".join(lines), best.faults.hint())


def check_finite(state: Mapping[str, Tensor], where: str) -> None:
    """Raise ModelError naming the tensors that hold NaN or infinite values."""
    bad = {name: _not_finite(value) for name, value in state.items() if value.is_floating_point()}
    bad = {name: count for name, count in bad.items() if count}
    if bad:
        raise _not_numbers(where, bad, len(state))


def _check_loaded(loaded: Mapping[str, object], given: Mapping[str, object], path: Path) -> None:
    """`check_finite` of what was loaded; where the file had a finite number, its cast did not hold it."""
    floats = {n: v for n, v in loaded.items() if isinstance(v, Tensor) and v.is_floating_point()}
    bad = {name: count for name, value in floats.items() if (count := _not_finite(value))}
    fine = []
    for name in bad:
        value = given.get(name)
        if isinstance(value, Tensor) and not _not_finite(value.to(torch.float64)):
            fine.append(name)
    if fine:
        dtype = str(floats[fine[0]].dtype).removeprefix("torch.")
        raise ModelError(
            f"model.weights: {path} has values that the model's {dtype} cannot hold:\n  {listed(fine, 'tensors')}",
            "no trained weights are that large: compare the file with where it came from",
        )
    if bad:
        raise _not_numbers(str(path), bad, len(floats))


def _not_finite(value: Tensor) -> int:
    return int(value.numel() - torch.isfinite(value).sum())


def _not_numbers(where: str, bad: Mapping[str, int], tensors: int) -> ModelError:
    count = sum(bad.values())
    hint = "the training diverged: use an earlier checkpoint"
    if len(bad) * 2 <= tensors:
        hint = (
            "values here and there come from a damaged file: compare its SHA-256 with where it came from; where it is "
            f"whole, {hint}"
        )
    return ModelError(
        f"model.weights: {where} has NaN or infinite values:\n  {listed(list(bad), 'tensors')} ({count:,} values)", hint
    )


def save_weights(module: nn.Module, path: Path) -> None:
    """Write the state dict as safetensors, atomically: the same weights give the same bytes.

    Tied weights (two names, one storage) are written under both names.
    """
    from safetensors.torch import save

    state = {name: value.detach().cpu().contiguous().clone() for name, value in sorted(module.state_dict().items())}
    replace_whole(path, save(state))
