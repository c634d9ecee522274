"""A graph's code is compiled when it is run, not each time that torch writes it.

torch writes a Python function for a graph whenever a pass has changed or copied it, some hundred times in an export,
and has Python compile each: a sixteenth of all the time. Most are never called. Here the text is written as before, at
the same moment and under the same name; only Python's compiler waits until somebody asks for the function.

A torch that does not do so in this place fails here, at import.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

from torch.fx import graph_module


class Forward:
    """What stands in a graph module's class for its `forward` until that is asked for."""

    def __init__(self, source: str, names: Mapping[str, Any], filename: str) -> None:
        self._written = source, dict(names), filename
        self._function: FunctionType | None = None

    def compiled(self) -> FunctionType:
        if self._function is None:
            source, names, filename = self._written
            exec(compile(source, filename, "exec", dont_inherit=True), names)  # noqa: S102  as torch does
            self._function = names.pop("forward")
        return self._function

    def __get__(self, module: object, owner: type) -> Callable[..., Any]:
        function = self.compiled()
        for each in owner.__mro__:
            if vars(each).get("forward") is self:  # from now on all is as without us
                each.forward = function  # type: ignore[attr-defined]
        return function if module is None else function.__get__(module, owner)

    def __getattr__(self, name: str) -> Any:
        """A function's own, for who has it by other ways than its class."""
        return getattr(self.compiled(), name)


def _forward_from_src(source: str, names: dict[str, Any], co_fields: dict[str, Any] | None = None) -> Forward:
    # The name by which tracebacks and notes of nodes have it is given now: torch counts them.
    return Forward(source, names, graph_module._loader.cache(source, names, co_fields))


TORCHS = graph_module._forward_from_src


def take_over() -> None:
    """Raises ImportError where torch does not make a graph's forward by that function."""
    if "_forward_from_src" not in graph_module.GraphModule.recompile.__code__.co_names:
        raise ImportError("torch makes a graph's forward elsewhere: see rewrites/graph_code.py")
    graph_module._forward_from_src = _forward_from_src


take_over()
