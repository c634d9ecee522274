"""Where in a checkpoint tensors lie: every state dict of it, and the averaged weights that are none."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from pocketforge.model.weight_files import Unread, plain

_DEPTH, _MOST = 6, 20_000
# Of keys: `exp_avg` of an optimizer is none.
_AVERAGED = re.compile(r"(^|[._\s-])(ema|swa|averaged|average|shadow|polyak)($|[._\s-])|Averag|(^|\.)EMA|EMA($|\.)")


@dataclass(frozen=True, slots=True)
class StateDict:
    """Tensors by name.

    Attributes:
        path: The keys that lead to it.
        values: Tensors; also what set_extra_state() takes.
        versions: Torch's `_metadata`: module name → its version.
        beside: Names of what is no tensor.
    """

    path: tuple[str, ...]
    values: dict[str, object]
    versions: dict[str, dict[str, object]]
    beside: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        return ".".join(self.path)


@dataclass(frozen=True, slots=True)
class Other:
    """Something else that holds weights.

    Attributes:
        path: The keys that lead to it.
        what: In words, what it is.
    """

    path: tuple[str, ...]
    what: str

    @property
    def label(self) -> str:
        return ".".join(self.path)


def is_averaged(label: str) -> bool:
    """Whether a key speaks of a moving average of weights."""
    return _AVERAGED.search(label) is not None


def find(tree: object) -> tuple[list[StateDict], list[Other]]:
    """Every mapping that holds tensors by name, outermost first, and what else holds weights."""
    states: list[StateDict] = []
    others: list[Other] = []
    for path, node in _walk(tree):
        if isinstance(node, Mapping):
            tensors = {k: v for k, v in node.items() if isinstance(k, str) and isinstance(v, Tensor)}
            if tensors:
                extra = {k: v for k, v in node.items() if isinstance(k, str) and k.endswith("_extra_state")}
                rest = [str(k) for k, v in node.items() if k not in tensors and k not in extra and not _holds(v)]
                states.append(StateDict(path, {**tensors, **extra}, _versions(node), tuple(rest)))
        elif isinstance(node, Unread) and node.is_module:
            others.append(Other(path, f"a whole pickled module, {node.kind}"))
        elif isinstance(node, Unread) and is_averaged(".".join(path)):
            others.append(Other(path, f"an object of {node.kind}"))
        elif isinstance(node, (list, tuple)) and node and all(isinstance(v, Tensor) for v in node):
            others.append(Other(path, f"{len(node)} tensors without names"))
        elif isinstance(node, Tensor) and not path:
            others.append(Other(path, f"one tensor {list(node.shape)}"))
    return sorted(states, key=lambda s: len(s.path)), others


def _walk(tree: object) -> Iterator[tuple[tuple[str, ...], object]]:
    waiting: deque[tuple[tuple[str, ...], object]] = deque([((), tree)])
    count = 0
    # Two names may lead to one dict, and a hostile file's dict to itself: depth and number end it.
    while waiting and count < _MOST:
        path, node = waiting.popleft()
        count += 1
        yield path, node
        children: list[tuple[object, object]] = []
        if isinstance(node, Mapping):
            children = list(node.items())
        elif isinstance(node, (list, tuple)) and not all(isinstance(v, Tensor) for v in node):
            children = list(enumerate(node))
        for key, child in children if len(path) < _DEPTH else ():
            if isinstance(child, (Mapping, list, tuple, Unread)) and len(waiting) < _MOST:
                waiting.append(((*path, str(key)), child))


def _holds(value: object) -> bool:
    return isinstance(value, (Mapping, list, tuple))


def _versions(node: Mapping[object, object]) -> dict[str, dict[str, object]]:
    metadata = getattr(node, "_metadata", None)
    if not isinstance(metadata, Mapping):
        return {}
    return {k: dict(v) for k, v in metadata.items() if isinstance(k, str) and isinstance(v, Mapping)}


def summarize(tree: object) -> str:
    """What a tree is, for a file that holds no state dict."""
    if isinstance(tree, Mapping):
        some = [f"{plain(str(k), 40)!r} ({_kind(v)})" for k, v in list(tree.items())[:8]]
        return ", ".join(some) + (f" … {len(tree)} in all" if len(tree) > 8 else "") if some else "an empty dict"
    return _kind(tree)


def _kind(value: object) -> str:
    if isinstance(value, Unread):
        return "a NumPy value" if value.kind.startswith("numpy.") else f"an object of {value.kind}"
    if isinstance(value, Tensor):
        return "a tensor"
    return {"dict": "a dict", "list": "a list", "OrderedDict": "a dict"}.get(type(value).__name__, type(value).__name__)
