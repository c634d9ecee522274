"""The exporter's table of operators, made once in a process; also imported by the fork server before exports to ONNX.

For each export torch asks onnxscript for its functions, and onnxscript parses the source of nearly each of the five
hundred to say in which domain it is, which is its opset's. That was a fifth of an export of the shipped digits model,
and importing the functions a tenth. An export has a process of its own, so they are asked for here at once.

It also works out each function's signature from its annotations for each table, a tenth of an export: functions stay as
they are, and nobody changes a signature.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, TypeVar

from onnxscript import TracedOnnxFunction
from torch.onnx._internal.exporter import _registration, _schemas  # noqa: PLC2701 - no public name

Item = TypeVar("Item")


def made_once(make: Callable[[], list[Item]]) -> Callable[[], list[Item]]:
    """`make`, called once; each caller gets a list of its own."""

    @functools.cache
    def made() -> tuple[Item, ...]:
        return tuple(make())

    @functools.wraps(make)
    def copied() -> list[Item]:
        return list(made())

    return copied


def without_parsing(make: Callable[[], list[Item]]) -> Callable[[], list[Item]]:
    """`make`, which asks traced functions for nothing but their domain; AttributeError where it asks for more."""
    signature = property(lambda function: SimpleNamespace(domain=function.opset.domain))

    @functools.wraps(make)
    def quick() -> list[Item]:
        kind: Any = TracedOnnxFunction
        parsed = kind.function_ir
        kind.function_ir = signature
        try:
            return make()
        finally:
            kind.function_ir = parsed

    return quick


# The only one of onnxscript's functions that the registry calls; another would be missed there by its name.
_registration.onnxscript_apis = SimpleNamespace(
    get_torchlib_ops=made_once(without_parsing(_registration.onnxscript_apis.get_torchlib_ops))
)
_schemas.op_signature_from_function = functools.cache(_schemas.op_signature_from_function)
_registration.ONNXRegistry.from_torchlib()
