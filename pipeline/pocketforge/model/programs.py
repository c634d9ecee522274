"""Traced programs of the user's as the rest takes them: called by position, answering a tensor or a tuple of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.graph import CodeGen

from pocketforge.errors import ModelError
from pocketforge.model.structure import OutputPath, is_plain, leaves


def call_of(program: torch.export.ExportedProgram) -> tuple[tuple[Tensor, ...], tuple[str, ...]] | None:
    """What a program was traced with, and the arguments: by position, then by name; () where all went by position.

    None where it does not say it, or was given something else than tensors.
    """
    if not program.example_inputs:
        return None
    args, kwargs = program.example_inputs
    named = dict(named_values(kwargs))
    tensors = (*args, *named.values())
    if not tensors or not all(isinstance(value, Tensor) for value in tensors):
        return None
    return tensors, ("",) * len(args) + tuple(named) if named else ()


def named_values(given: Mapping[str, object], tables: str = "") -> Iterator[tuple[str, object]]:
    """The values of a dict, and of dicts in it under both keys with a dot between."""
    for key, value in given.items():
        if isinstance(value, Mapping):
            yield from named_values(value, f"{tables}{key}.")
        else:
            yield f"{tables}{key}", value


@dataclass(frozen=True, slots=True)
class ByPlace:
    """A program's graph.

    Attributes:
        module: Called by position.
        outputs: The way to each output in what the program answers.
        changed: Whether the graph's call or answer was another before.
    """

    module: GraphModule
    outputs: tuple[OutputPath, ...] = ()
    changed: bool = False


def by_place(program: torch.export.ExportedProgram) -> ByPlace:
    """The program's graph, its inputs by position and its outputs flat. Raises ModelError for one that answers what is
    no tensor.
    """
    module: GraphModule = program.module()
    called = call_of(program)
    if called is None:
        return ByPlace(module)
    args, kwargs = program.example_inputs
    with torch.no_grad():
        answer = module(*args, **kwargs)
    wanted = leaves(answer)
    paths = tuple(leaf.path for leaf in wanted)
    if is_plain(answer) and not called[1]:
        return ByPlace(module, paths)
    # Its call and its answer are the code generator's affair: the graph itself knows neither names nor dicts.
    output = module.graph.output_node()
    output.args = (tuple(given for given in _given(output.args[0]) if isinstance(given, Node)),)
    module.graph.set_codegen(CodeGen())
    # They hold each call against the one of the trace, with its names, before forward() is reached.
    module._forward_pre_hooks.clear()
    module.recompile()
    with torch.no_grad():
        found = module(*called[0])
    same = len(found) == len(wanted) and all(torch.equal(a, b.value) for a, b in zip(found, wanted, strict=True))
    if not same:
        raise ModelError(
            "model.definition: the .pt2's answer cannot be taken apart: flat, it answers something else",
            "trace it with tensors by position, and let forward() return a tuple of tensors",
        )
    return ByPlace(module, paths, changed=True)


def _given(value: object) -> list[object]:
    return list(value) if isinstance(value, tuple | list) else [value]
