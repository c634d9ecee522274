"""The ways to remove a share of a model, made comparable: each is told the share, and says what it really removed."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from pocketforge.model.load import count_macs, count_parameters
from pocketforge.pruning.base import Subject
from pocketforge.recipe.compress import Compress, DropLayers, Goal, PruneChannels, PruneUnstructured
from pocketforge.registries import METHODS as PRUNERS
from pocketforge.studies.settings import Basis, Method

if TYPE_CHECKING:
    from torch import Tensor

Entry = TypeVar("Entry", bound=Compress)


@dataclass(slots=True)
class Cut:
    """What was removed from a subject's module.

    Attributes:
        masks: By parameter name, 1 = kept; {} where shapes were cut.
        note: What a reader must know to read the figures right.
    """

    masks: dict[str, Tensor] = field(default_factory=dict)
    note: str = ""


def settings_for(method: Method, compress: Sequence[Compress]) -> dict[str, dict[str, object]]:
    """The recipe's own last entry of each type that the method uses, else the defaults; how much is the study's.

    As plain data, for a key.
    """
    return {entry.type: dataclasses.asdict(entry) for entry in _entries(method, compress)}


def draws_at_random(method: Method, compress: Sequence[Compress]) -> bool:
    """Whether another seed prunes other parts; else all seeds share one pruned model."""
    chosen = [getattr(e, "importance", None) or getattr(e, "criterion", None) for e in _entries(method, compress)]
    return "random" in chosen


def cut(subject: Subject, method: Method, basis: Basis, ratio: float, compress: Sequence[Compress]) -> Cut:
    """Remove the share `ratio` of the basis from `subject.module`, in place. Raises ModelError where it cannot be done.

    layers: whole blocks, so the share is overshot by up to a block. both: half of the share by layers, the rest by
    channels. unstructured: zeros in weights, which count as removed parameters.
    """
    entries = {entry.type: entry for entry in _entries(method, compress)}
    if method == "unstructured":
        entry = entries["prune_unstructured"]
        assert isinstance(entry, PruneUnstructured)
        pruned = importlib.import_module(PRUNERS[entry.type]).prune(subject, dataclasses.replace(entry, amount=ratio))
        return Cut(dict(pruned.masks), "zeros: the shapes stay, and so do the MACs")
    whole = amount(subject, basis)
    if method in ("layers", "both"):
        share = ratio if method == "layers" else ratio / 2
        _prune(subject, entries["drop_layers"], Goal(basis, removed=share))
    if method == "layers":
        return Cut()
    limit = whole * (1 - ratio)
    if method == "both" and amount(subject, basis) <= limit:
        return Cut(note="the layers alone reached the share: no channels were pruned")
    _prune(subject, entries["prune_channels"], Goal(basis, limit=limit))
    return Cut()


def amount(subject: Subject, basis: Basis) -> int:
    """Parameters or MACs of the subject's module as it is now."""
    return count_macs(subject.module, subject.example) if basis == "macs" else count_parameters(subject.module)


def _prune(subject: Subject, entry: Compress, goal: Goal) -> None:
    assert isinstance(entry, PruneChannels | DropLayers)
    importlib.import_module(PRUNERS[entry.type]).prune(subject, dataclasses.replace(entry, goal=goal, ratio=None))


def _entries(method: Method, compress: Sequence[Compress]) -> list[Compress]:
    """Templates: what is left once everything that says how much is taken out (each still needs something)."""
    entries: list[Compress] = []
    if method in ("layers", "both"):
        drop = _last(compress, DropLayers) or DropLayers(count=1)
        entries.append(dataclasses.replace(drop, count=None, ratio=None, goal=Goal("macs", removed=0.5)))
    if method in ("channels", "both"):
        channels = _last(compress, PruneChannels) or PruneChannels(ratio=0.5)
        entries.append(
            dataclasses.replace(
                channels, ratio=None, ratios={}, head_ratio=0.0, goal=Goal("macs", removed=0.5), steps=1, finetune=None
            )
        )
    if method == "unstructured":
        zeros = _last(compress, PruneUnstructured) or PruneUnstructured(amount=0.5)
        entries.append(dataclasses.replace(zeros, amount=0.5, amounts={}, n_m=(), schedule="once"))
    return entries


def _last(compress: Sequence[Compress], kind: type[Entry]) -> Entry | None:
    return next((entry for entry in reversed(compress) if isinstance(entry, kind)), None)
