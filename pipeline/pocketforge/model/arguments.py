"""How a model's inputs, which come in an order, reach forward()'s arguments: by position, by name, in a dict."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from pocketforge.errors import ModelError


def arguments_for(module: nn.Module, names: Sequence[str], given: Sequence[str]) -> list[str]:
    """The argument that each input goes to; none where all go by position.

    names: the inputs' names, empty for none. given: their arguments as the recipe or example_inputs() say, empty where
    they say nothing. Inputs whose names are all forward()'s own arguments go by name. Raises ModelError for arguments
    that forward() does not have, and where some names are those of arguments at other places.
    """
    parameters = inspect.signature(module.forward).parameters
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    if any(given):
        for argument in filter(None, given):
            if argument.partition(".")[0] not in parameters and not open_ended:
                raise ModelError(
                    f"model.input: forward() has no argument {argument.partition('.')[0]!r}",
                    f"its arguments: {', '.join(parameters)}",
                )
        if "" in given and any(given[: given.index("")]):
            raise ModelError(
                "model.input: an input without argument comes after one with",
                "inputs by position come first, as in a call of forward(); or give every input its argument",
            )
        return list(given)
    own = [name for name, p in parameters.items() if p.kind not in _OPEN]
    if names and all(name in own for name in names):
        # What is in its own place goes as before: a graph is then the same with and without names.
        return [] if list(names) == own[: len(names)] and _positional(parameters, names) else list(names)
    for number, name in enumerate(names):
        if name in own and own.index(name) != number:
            raise ModelError(
                f"model.input: input {number} is named {name!r}, which forward() takes at place {own.index(name)}",
                f'give every input the name of its argument ({", ".join(own)}), or write argument = "…" for each',
            )
    return []


_OPEN = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


def _positional(parameters: Mapping[str, inspect.Parameter], names: Sequence[str]) -> bool:
    return all(parameters[name].kind is not inspect.Parameter.KEYWORD_ONLY for name in names)


def bind(module: nn.Module, arguments: Sequence[str]) -> nn.Module:
    """Let the module take its inputs by position, each going to its argument. Returns the module.

    Its class is changed for one of the same name that differs in this alone: what copies the module copies that too.
    An argument `batch.image` is the key `image` of a dict that is argument `batch`.
    """
    if not any(arguments):
        return module
    if "forward" in vars(module):
        raise ModelError(
            "model.input: arguments by name need a forward() of the model's class, found one set on the object",
            "write the model's forward() as a method",
        )
    cls = type(module)
    order = tuple(arguments)

    def forward(self: nn.Module, *inputs: Tensor) -> object:
        if len(inputs) != len(order):
            raise ModelError(f"the model takes {len(order)} inputs ({', '.join(order)}), {len(inputs)} were given")
        args, kwargs = arranged(order, inputs)
        return cls.forward(self, *args, **kwargs)

    described = {"forward": forward, "__module__": cls.__module__, "__qualname__": cls.__qualname__}
    module.__class__ = type(cls.__name__, (cls,), described)
    return module


def arranged(arguments: Sequence[str], inputs: Sequence[Tensor]) -> tuple[list[Tensor], dict[str, object]]:
    """Positional and keyword arguments of a call."""
    args: list[Tensor] = []
    kwargs: dict[str, object] = {}
    for argument, value in zip(arguments, inputs, strict=True):
        *tables, last = argument.split(".")
        if not last:
            args.append(value)
            continue
        place = kwargs
        for table in tables:
            inner = place.setdefault(table, {})
            if not isinstance(inner, dict):
                raise ModelError(f"model.input: argument {table!r} is both a tensor and a dict")
            place = inner
        if last in place:
            raise ModelError(f"model.input: two inputs are for argument {argument!r}")
        place[last] = value
    return args, kwargs
