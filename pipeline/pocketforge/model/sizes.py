"""Graphs for inputs whose sizes vary: what torch is told of them, and where a module cannot run at one of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from pocketforge.errors import ModelError, first_line
from pocketforge.model import load
from pocketforge.model.structure import leaves
from pocketforge.recipe.model import InputSpec
from pocketforge.recipe.sizes import SizeRange, Sizes, by_name, sizes_in_words, tried_sizes

# As torch.export takes it: of each input axis → what its length may be, None where all is fixed; None where all are.
DynamicShapes: TypeAlias = tuple[dict[int, object] | None, ...] | None


def shapes_told(inputs: Sequence[Sequence[SizeRange]]) -> DynamicShapes:
    """What torch.export is told of inputs, each with what of it varies."""
    # Dimensions of one name are one Dim; a step is what it is multiplied by.
    steps = {each.name: _steps(each) for each in by_name([r for ranges in inputs for r in ranges]).values()}
    if not steps:
        return None
    return tuple({each.axis: steps[each.name] for each in ranges} or None for ranges in inputs)


def _steps(size: SizeRange) -> object:
    if size.step == 1:
        return Dim(size.name, min=size.least, max=size.most)
    # Not the name itself: what has it is the product.
    return size.step * Dim(f"_{size.name}", min=size.least // size.step, max=size.most // size.step)


def for_call(module: Callable[..., object], shapes: DynamicShapes) -> object:
    """The same as torch.export wants it for a module: inputs that go through `*inputs` are one argument there."""
    function = module.forward if isinstance(module, nn.Module) else module
    kinds = [parameter.kind for parameter in inspect.signature(function).parameters.values()]
    return (shapes,) if shapes and kinds[:1] == [inspect.Parameter.VAR_POSITIONAL] else shapes


def open_axes(program: ExportedProgram) -> tuple[tuple[int, ...], ...]:
    """Of each output the axes whose lengths follow from the inputs'."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    return tuple(
        tuple(
            axis
            for axis, length in enumerate(getattr(values.get(str(name)), "shape", ()))
            if isinstance(length, torch.SymInt)
        )
        for name in program.graph_signature.user_outputs
    )


def check_runs(module: nn.Module, inputs: Sequence[Tensor], sizes: Sizes) -> object:
    """What the module answers at one size. Raises ModelError with the size and the layer that cannot."""
    entered: list[str] = []
    with ExitStack() as hooks:
        for name, layer in module.named_modules():
            for handle in _followed(name, layer, entered):
                hooks.callback(handle.remove)
        try:
            with torch.no_grad():
                return module(*inputs)
        except Exception as error:  # a layer raises whatever it likes
            inside = entered[-1] if entered else ""
            what = f" at layer {inside} ({type(module.get_submodule(inside)).__name__})" if inside else ""
            shapes = ", ".join(str(list(each.shape)) for each in inputs)
            raise ModelError(
                f"the model cannot run with {sizes_in_words(sizes)} (input {shapes}){what}: {first_line(error)}",
                "narrow the range in [[model.input]] or give it a step, or let the layer take any size "
                "(AdaptiveAvgPool2d before a Linear)",
            ) from error


def _followed(name: str, layer: nn.Module, entered: list[str]) -> Iterator[torch.utils.hooks.RemovableHandle]:
    """Hooks that keep in `entered` which layers were entered and not left."""
    yield layer.register_forward_pre_hook(lambda *_: entered.append(name))
    yield layer.register_forward_hook(lambda *_: entered.remove(name))


def traced_for_sizes(module: nn.Module, example: tuple[Tensor, ...], inputs: Sequence[InputSpec]) -> load.TracedGraph:
    """The module's graph for all sizes that its inputs may have, and held against the module at several of them.

    Raises ModelError where it cannot run at one, or is not traced for all.
    """
    ranges = [each.varying for each in inputs]
    if not any(ranges):
        return load.traced(module, example)
    tried = [(sizes, _at(example, inputs, sizes)) for sizes in tried_sizes([r for each in ranges for r in each])]
    wanted = [check_runs(module, given, sizes) for sizes, given in tried]
    traced = load.traced(module, example, dynamic_shapes=for_call(module, shapes_told(ranges)))
    graph = traced.program.module()
    for (sizes, given), answer in zip(tried, wanted, strict=True):
        check_traced(tensors_in(answer), tensors_in(_answer(graph, given, sizes)), sizes)
    return traced


def _answer(graph: nn.Module, given: tuple[Tensor, ...], sizes: Sizes) -> object:
    try:
        with torch.no_grad():
            return graph(*given)
    except (AssertionError, RuntimeError) as error:  # a guard that tracing left, or an operator of the traced size
        raise ModelError(
            f"the traced graph does not run with {sizes_in_words(sizes)}, at which the model does: {first_line(error)}",
            "an operator is traced for one size (AdaptiveMaxPool2d with None); write it otherwise, or give targets "
            "sizes = [[…], […]]: files of fixed shapes",
        ) from error


def _at(example: tuple[Tensor, ...], inputs: Sequence[InputSpec], sizes: Sizes) -> tuple[Tensor, ...]:
    """The example's values, repeated or cut to other lengths: real ones, which a graph of zeros might hide."""
    found = []
    for tensor, each in zip(example, inputs, strict=True):
        for axis, length in enumerate(each.at(sizes).shape):
            places = torch.arange(length) % tensor.shape[axis]
            tensor = tensor.index_select(axis, places)
        found.append(tensor)
    return tuple(found)


def tensors_in(answer: object) -> list[Tensor]:
    """Every tensor that forward() answered."""
    return [leaf.value for leaf in leaves(answer)]


def check_traced(wanted: Sequence[Tensor], found: Sequence[Tensor], sizes: Mapping[str, int]) -> None:
    """Raises ModelError unless a traced graph answers as the module does, at a size that it was not traced at."""
    for number, (one, other) in enumerate(zip(wanted, found, strict=True)):
        close = one.shape == other.shape and torch.allclose(
            one.double(), other.double(), rtol=1e-3, atol=1e-4 * max(1.0, float(one.double().abs().max()))
        )
        if not close:
            raise ModelError(
                f"output {number} of the traced graph is not forward()'s with {sizes_in_words(sizes)}: it keeps "
                "something of the size that it was traced at",
                "compute with sizes as forward() finds them (x.shape), not with numbers kept from before",
            )
