"""What forward() answers, as a flat list of tensors with names: files and apps know no dicts, tuples in tuples or None.

A name is the way to the tensor, its parts joined by `_`: `boxes`, `aux_logits` of {"aux": {"logits": …}}, `output_1` of
a tuple's second (`output` of a tensor alone). What is None is left out.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from pocketforge.errors import ModelError

_OTHER_LETTERS = re.compile(r"[^A-Za-z0-9._-]+")
OutputPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Leaf:
    """One tensor of an answer.

    Attributes:
        path: Keys, fields and positions that lead to it; none for an answer that is the tensor itself.
        value: The tensor.
    """

    path: OutputPath
    value: Tensor


def leaves(answer: object, path: OutputPath = ()) -> list[Leaf]:
    """Every tensor of an answer in its order: of dicts (also transformers' ModelOutput), named tuples, dataclasses,
    tuples and lists. Raises ModelError for anything else in it but None.
    """
    if isinstance(answer, Tensor):
        return [Leaf(path, answer)]
    if answer is None:
        return []
    inside = parts(answer)
    if inside is None:
        where = f", found a {type(answer).__name__}" + (f" in {'.'.join(map(str, path))}" if path else "")
        raise ModelError(
            f"forward() must return tensors, alone or in dicts, tuples or dataclasses{where}",
            "return the logits; what no sample changes is not an output, and a cache is none (use_cache = false)",
        )
    return [leaf for key, value in inside for leaf in leaves(value, (*path, key))]


def parts(answer: object) -> list[tuple[str | int, object]] | None:
    """What a dict, a named tuple, a tuple, a list or a dataclass holds, by key; None of anything else."""
    if isinstance(answer, Mapping):
        return [(str(key), value) for key, value in answer.items()]
    if isinstance(answer, tuple) and hasattr(answer, "_fields"):
        return list(zip(answer._fields, answer, strict=True))
    if isinstance(answer, tuple | list):
        return list(enumerate(answer))
    if dataclasses.is_dataclass(answer) and not isinstance(answer, type):
        return [(field.name, getattr(answer, field.name)) for field in dataclasses.fields(answer)]
    return None


def is_plain(answer: object) -> bool:
    """Whether graphs give it as it is: a tensor, or tensors in a tuple or a list."""
    if isinstance(answer, Tensor):
        return True
    if not isinstance(answer, tuple | list) or hasattr(answer, "_fields"):
        return False
    return all(isinstance(value, Tensor) for value in answer)


def names_of(paths: Sequence[OutputPath]) -> list[str]:
    """A name a path; two paths may come to one name (`check_distinct`)."""
    if len(paths) == 1 and all(isinstance(part, int) for part in paths[0]):
        return ["output"]
    return [_name(path) for path in paths]


def _name(path: OutputPath) -> str:
    parts = [*(["output"] if not path or isinstance(path[0], int) else []), *map(str, path)]
    name = _OTHER_LETTERS.sub("_", "_".join(parts)).lstrip("._-")
    return name or "output"


def check_distinct(names: Sequence[str], paths: Sequence[OutputPath]) -> None:
    """Raises ModelError where two of the model's own names are one."""
    for name in names:
        same = [".".join(map(str, path)) for path, other in zip(paths, names, strict=True) if other == name]
        if len(same) > 1:
            raise ModelError(
                f"outputs {' and '.join(same)} of forward() would both be called {name!r}",
                f"name all {len(names)} of them in their order: model.outputs = [{', '.join(map(repr, names))}] with "
                "other words",
            )


@contextlib.contextmanager
def flat(module: nn.Module, paths: list[OutputPath]) -> Iterator[nn.Module]:
    """Within it the module's forward() answers a tuple of tensors where its answer is not plain.

    The module stays itself, so layers and weights keep their names. paths: filled at a call, one a tensor.
    """
    inner = module.forward
    had = vars(module).get("forward")

    @functools.wraps(inner)
    def forward(*args: object, **kwargs: object) -> object:
        answer = inner(*args, **kwargs)
        found = leaves(answer)
        if not found:
            raise ModelError("forward() answers no tensor", "return the logits")
        paths[:] = [leaf.path for leaf in found]
        return answer if is_plain(answer) else tuple(leaf.value for leaf in found)

    module.forward = forward
    try:
        yield module
    finally:
        del module.forward
        if had is not None:
            module.forward = had
