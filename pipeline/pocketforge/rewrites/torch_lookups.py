"""What torch looks up anew each time, though the answer is the same, looked up once in a process.

- Its reader of graphs works out the annotations of a schema's class for every value of that class: 8,000 times for a
  graph of twenty layers. The annotations of a class stay as they are.
- Each decomposition, of which an export makes up to five, asks its dispatcher for all operators that are made of
  others, and gets every one of them as a Python object, once for each of forty namespaces. They are there from the
  first time on, unless another was registered since: that is still looked at, once for all namespaces.
- Each pass over a graph notes for each node of which it was made, with a copy of all that was noted before: the more
  passes, the longer. A note is not changed by anybody once it is written: the list is copied, its notes are not.
- Its writer of graphs makes a canonical form of a copy of each, and throws it away. It is not made.

A torch that does not do so in these places fails here, at import: then there is nothing to remember.
"""

from __future__ import annotations

import functools
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from types import SimpleNamespace

import torch
from torch._export import utils  # noqa: PLC2701 - no public name
from torch._export.serde import schema, serialize  # noqa: PLC2701 - no public name
from torch.export import decomp_utils, exported_program
from torch.fx.traceback import NodeSource

MADE_OF_OTHERS = "CompositeImplicitAutograd"


@functools.cache
def hints_of(schema_class: type) -> Mapping[str, object]:
    """The annotations of a class of torch's schema of graphs, as typing.get_type_hints gives them."""
    return typing.get_type_hints(schema_class, globalns=vars(schema))


def _get_type_hints(schema_class: type, globalns: Mapping[str, object]) -> Mapping[str, object]:
    """typing's, for the one module that reads graphs. Raises TypeError where it asks for more than it does in 2.13."""
    if globalns is not vars(schema):
        raise TypeError("torch's reader of graphs looks for annotations elsewhere than in its schema")
    return hints_of(schema_class)


def once_for_all_registered(
    materialize: Callable[[], None], registered: Callable[[], Sequence[str]]
) -> Callable[[], None]:
    """`materialize`, but nothing where what is registered is what it was when it was called last."""
    known: Sequence[str] | None = None

    @functools.wraps(materialize)
    def once() -> None:
        nonlocal known
        now = registered()
        if now != known:
            materialize()
            known = now

    return once


def materialized_once(
    collect: Callable[[], set[torch._ops.OperatorBase]],
) -> Callable[[], set[torch._ops.OperatorBase]]:
    """`collect`, which has operators materialized before it looks into the first namespace, and not before each."""

    @functools.wraps(collect)
    def collected() -> set[torch._ops.OperatorBase]:
        materialize = utils._materialize_cpp_cia_ops
        materialize()
        utils._materialize_cpp_cia_ops = lambda: None
        try:
            return collect()
        finally:
            utils._materialize_cpp_cia_ops = materialize

    return collected


if serialize.typing is not typing:
    raise ImportError("torch._export.serde.serialize has no typing of its own: see rewrites/torch_lookups.py")
serialize.typing = SimpleNamespace(**{**vars(typing), "get_type_hints": _get_type_hints})
utils._materialize_cpp_cia_ops = once_for_all_registered(
    utils._materialize_cpp_cia_ops,
    functools.partial(torch._C._dispatch_get_registrations_for_dispatch_key, MADE_OF_OTHERS),
)
_collect = materialized_once(utils._collect_all_valid_cia_ops)
for _module in (decomp_utils, exported_program, utils):
    if _module._collect_all_valid_cia_ops is not _collect.__wrapped__:  # type: ignore[attr-defined]
        raise ImportError(f"{_module.__name__} collects operators otherwise: see rewrites/torch_lookups.py")
    _module._collect_all_valid_cia_ops = _collect


def _itself(note: NodeSource, _memo: dict[int, object]) -> NodeSource:
    return note


NodeSource.__deepcopy__ = _itself


def _not_made(program: schema.ExportedProgram, constants: Collection[str] | None = None) -> schema.ExportedProgram:
    """Stands for `canonicalize` where what it gives is not read."""
    return program


if "canonicalize" not in serialize.ExportedProgramSerializer.serialize.__code__.co_names:
    raise ImportError("torch's writer of graphs makes no canonical form: see rewrites/torch_lookups.py")
serialize.canonicalize = functools.wraps(serialize.canonicalize)(_not_made)
