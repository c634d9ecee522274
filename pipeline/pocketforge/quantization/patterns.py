"""The patterns that torchao and XNNPACK's quantizer look for, traced once in a process.

They trace each of them anew for every graph: 12 for calibration, more for training, 2 to 5 s whatever the model. What a
pattern gives depends on its code, on what it closes over and on its example inputs: with these equal, it is the same.
They are traced without Dynamo, which took most of that time: a pattern is a few calls of torch, and its graph the same.

Of a graph in which any batch norm is left (one with no layer before it) torchao also traces 96 patterns of graphs that
were trained, 17 s: they are looked for only where one can be.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Hashable, Iterator
from types import FunctionType
from typing import Any
from unittest import mock

import torch
from executorch.backends.xnnpack.quantizer import xnnpack_quantizer_utils
from torchao.quantization.pt2e import qat_utils, quantize_pt2e

from pocketforge.quantization.fold import deep_copy
from pocketforge.rewrites.graph import op_name

NAME = "_get_aten_graph_module_for_pattern"


def trace_once(trace: Callable[..., torch.fx.GraphModule]) -> Callable[..., torch.fx.GraphModule]:
    """`trace`, with its answers remembered; each caller gets a copy of its own."""
    traced: dict[Hashable, torch.fx.GraphModule] = {}

    @functools.wraps(trace)
    def once(
        pattern: torch.nn.Module, example_inputs: tuple[object, ...], *args: object, **kwargs: object
    ) -> torch.fx.GraphModule:
        given = [*example_inputs, *args, *(value for _, value in sorted(kwargs.items()))]
        try:
            key = (_identity(pattern.fn), *sorted(kwargs), *map(_identity, given))
            known = traced.get(key)
        except (AttributeError, TypeError):  # not one of their wrapped functions, or it closes over what has no hash
            return trace(pattern, example_inputs, *args, **kwargs)
        if known is None:
            with _export_without_dynamo():
                known = traced[key] = trace(pattern, example_inputs, *args, **kwargs)
        return deep_copy(known)

    return once


@contextlib.contextmanager
def _export_without_dynamo() -> Iterator[None]:
    """torchao asks for strict=True, and has no way to ask for another."""
    export = torch.export.export

    def plainly(*args: Any, **kwargs: Any) -> torch.export.ExportedProgram:
        return export(*args, **{**kwargs, "strict": False})

    with mock.patch.object(torch.export, "export", plainly):
        yield


def _identity(value: object) -> Hashable:
    """What tells a pattern's function, or one of its example inputs, from another."""
    if isinstance(value, torch.Tensor):
        return value.dtype, tuple(value.shape), value.device
    if isinstance(value, FunctionType):
        closed = tuple(_identity(cell.cell_contents) for cell in value.__closure__ or ())
        return value.__code__, closed, value.__defaults__
    hash(value)
    return type(value), value  # 1 is not True


def fold_only_where_trained(fold: Callable[[torch.fx.GraphModule], torch.fx.GraphModule]) -> Callable[..., object]:
    """`fold`, which takes what training added to a convolution and its batch norm, for graphs that have that."""

    @functools.wraps(fold)
    def quick(graph: torch.fx.GraphModule) -> torch.fx.GraphModule:
        return fold(graph) if any(map(_behind_a_quotient, graph.graph.nodes)) else graph

    return quick


def _behind_a_quotient(node: torch.fx.Node) -> bool:
    """Whether a batch norm takes what was divided by the norm's own factor, as all patterns of training have it."""
    if op_name(node) not in ("batch_norm", "_native_batch_norm_legit", "cudnn_batch_norm"):
        return False
    source = node.args[0]
    if op_name(source) == "add":  # of the convolution's bias
        source = source.args[0]  # type: ignore[union-attr]
    return op_name(source) == "div"


for _module in (xnnpack_quantizer_utils, qat_utils):
    setattr(_module, NAME, trace_once(getattr(_module, NAME)))
quantize_pt2e._fold_conv_bn_qat = fold_only_where_trained(quantize_pt2e._fold_conv_bn_qat)
