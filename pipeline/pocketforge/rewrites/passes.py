"""The one list of rewrites, in the order in which they are made, before any quantizer, folder or exporter.

Each keeps the function of the graph; what calls the list for a program compares the two.
"""

from __future__ import annotations

import contextlib
import copy
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.export import ExportedProgram
from torch.fx import GraphModule

import pocketforge.rewrites.composite_kernels  # noqa: F401  changes torch, as the next two do
import pocketforge.rewrites.graph_code  # noqa: F401
import pocketforge.rewrites.torch_lookups  # noqa: F401  changes torch: whoever traces or exports comes by here
from pocketforge.errors import StageFailed
from pocketforge.rewrites import (
    activations,
    centred,
    float_inputs,
    lacking,
    norms,
    outputs,
    plain_ops,
    pooling,
    quantized,
    transposed,
    weights,
    windows,
    written,
)
from pocketforge.rewrites.graph import Editor
from pocketforge.rewrites.shapes import shapes_of

# Who the graph is rewritten for: the quantizer, whose graph serves all runtimes; what folds batch norm into weights
# that are then rounded or clustered; the exporter of a runtime.
QUANTIZER, FOLDER, EXECUTORCH, TFLITE, ONNX = "quantizer", "folder", "executorch", "tflite", "onnx"
# An exporter of a graph that is quantized already; of a file whose inputs an app gives as floats.
EXECUTORCH_INT8 = "executorch, int8"
TFLITE_FLOAT_INPUTS = "tflite, float inputs"
EVERYONE = (QUANTIZER, FOLDER, EXECUTORCH, TFLITE, ONNX)
READERS = (*EVERYONE, EXECUTORCH_INT8, TFLITE_FLOAT_INPUTS)
# What is left of the two functions' equality in float32, whose sums are made in another order.
SAME_DB = 100.0


@dataclass(frozen=True, slots=True)
class Rewrite:
    """One of the list.

    Attributes:
        make: Changes a graph in place, and nothing where it was made before.
        readers: For whom.
    """

    make: Callable[[Editor], None]
    readers: tuple[str, ...]


REWRITES = (
    Rewrite(plain_ops.write_defaults, EVERYONE),
    Rewrite(written.as_new_tensors, EVERYONE),
    Rewrite(plain_ops.without_detaching, EVERYONE),
    Rewrite(plain_ops.without_alpha, EVERYONE),
    Rewrite(plain_ops.explicit_padding, EVERYONE),
    Rewrite(plain_ops.cut_by_slices, (QUANTIZER, EXECUTORCH)),
    Rewrite(plain_ops.integer_constants, (QUANTIZER,)),
    Rewrite(plain_ops.prelu_in_four_dimensions, (QUANTIZER, EXECUTORCH)),
    Rewrite(outputs.without_copies, (QUANTIZER, EXECUTORCH)),
    Rewrite(lacking.plain_max_pools, EVERYONE),
    Rewrite(lacking.with_a_batch, (QUANTIZER, EXECUTORCH, EXECUTORCH_INT8)),
    Rewrite(lacking.attention_with_heads, (ONNX,)),
    Rewrite(lacking.averages_of_slices, (QUANTIZER, EXECUTORCH)),
    Rewrite(lacking.plain_pixel_shuffles, (EXECUTORCH, EXECUTORCH_INT8)),
    Rewrite(activations.one_after_another, (EXECUTORCH, EXECUTORCH_INT8)),
    Rewrite(norms.of_levels, (EXECUTORCH_INT8,)),
    Rewrite(norms.of_several_lines, (EXECUTORCH,)),
    Rewrite(lacking.gelu_by_tanh, (EXECUTORCH,)),
    Rewrite(lacking.spreads_and_means, (EXECUTORCH, EXECUTORCH_INT8)),
    Rewrite(lacking.plain_prelus, (TFLITE,)),
    Rewrite(lacking.plain_subtractions, (TFLITE,)),
    Rewrite(lacking.powers_as_products, (TFLITE,)),
    Rewrite(lacking.expansions_of_fewer_axes, (TFLITE,)),
    Rewrite(lacking.plain_repeats, (TFLITE,)),
    Rewrite(lacking.unfolds_as_look_ups, (TFLITE,)),
    Rewrite(lacking.gathers_in_three_dimensions, (TFLITE,)),
    Rewrite(lacking.one_flip_after_another, (TFLITE,)),
    Rewrite(weights.compute_once, (QUANTIZER, FOLDER, EXECUTORCH)),
    # Float weights that nothing is folded into stay shared, and are stored once.
    Rewrite(weights.give_each_its_own, (QUANTIZER,)),
    Rewrite(weights.give_folded_ones_their_own, (FOLDER, EXECUTORCH)),
    Rewrite(weights.give_transposed_ones_their_own, (EXECUTORCH,)),
    Rewrite(norms.without_statistics, (QUANTIZER, FOLDER, EXECUTORCH)),
    Rewrite(norms.behind_shared_outputs, (QUANTIZER, FOLDER)),
    Rewrite(transposed.fold_norms, EVERYONE),
    Rewrite(transposed.in_two_dimensions, (QUANTIZER, TFLITE)),
    Rewrite(transposed.without_groups, (TFLITE,)),
    Rewrite(transposed.without_padding, (QUANTIZER, TFLITE)),
    Rewrite(pooling.nearest_by_index, (TFLITE,)),
    Rewrite(pooling.no_adaptive_windows, (ONNX,)),
    Rewrite(pooling.plain_average_pools, (ONNX,)),
    Rewrite(windows.one_axis_after_another, (TFLITE, ONNX)),
    Rewrite(windows.without_idle_ceil_mode, (TFLITE, ONNX)),
    Rewrite(quantized.keep_fixed_scales, (TFLITE,)),
    Rewrite(quantized.two_values_for_squares, (TFLITE,)),
    Rewrite(float_inputs.keep_joins_float, (TFLITE,)),
    Rewrite(float_inputs.keep_choices_float, (TFLITE,)),
    Rewrite(float_inputs.keep_fine_averages_float, (TFLITE,)),
    Rewrite(float_inputs.keep_floats_float, (TFLITE,)),
    Rewrite(float_inputs.keep_values_float, (TFLITE,)),
    Rewrite(float_inputs.keep_inputs_float, (TFLITE_FLOAT_INPUTS,)),
    Rewrite(centred.centre_large_means, (EXECUTORCH, EXECUTORCH_INT8)),
    Rewrite(centred.centre_larger_means, (TFLITE,)),
    Rewrite(quantized.linear_layers_of_rows, (EXECUTORCH_INT8,)),
    Rewrite(quantized.levels_before_other_axes, (EXECUTORCH_INT8,)),
    Rewrite(quantized.one_value_as_a_map, (EXECUTORCH_INT8,)),
    Rewrite(quantized.shared_weights_without_factors, (TFLITE,)),
    Rewrite(quantized.one_reader_each, (TFLITE,)),
)


def rewrite(module: GraphModule, reader: str, example: tuple[object, ...] | None = None) -> bool:
    """Make the list's rewrites for one reader, in place. Returns whether anything was changed.

    example: inputs of the model, a real sample where there is one: what is done only for some values goes by it.
    Raises ValueError for a reader that the list does not know: none of it would be made, and nobody told.
    """
    if reader not in READERS:
        raise ValueError(f"rewrites are for {', '.join(READERS)}, found {reader!r}")
    editor = Editor(module, example)
    for each in REWRITES:
        if reader in each.readers:
            each.make(editor)
    if editor.changes:
        module.graph.eliminate_dead_code()
        module.graph.lint()
        module.recompile()
    return bool(editor.changes)


def rewritten(program: ExportedProgram, reader: str) -> ExportedProgram:
    """The program after `rewrite`, traced again; itself where nothing is to be changed.

    Raises StageFailed when it would compute something else than the program.
    """
    module, shapes = program.module(), shapes_of(program)
    example = tuple(program.example_inputs[0])
    if not rewrite(module, reader, example):
        return program
    check_same(program.module(), module, example)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own internals, nothing the user could act on
        return torch.export.export(module, example, dynamic_shapes=shapes, strict=False)


def check_same(before: GraphModule, after: GraphModule, example: tuple[object, ...]) -> None:
    """Raises StageFailed unless both graphs answer the same to random inputs of the example's kind.

    Where float32 does not say so, double precision decides: a norm of values far from zero has few digits in either.
    """
    source = torch.Generator().manual_seed(0)
    inputs = [_like(x, source) for x in example]
    number, db = _worst(before, after, inputs)
    if not db >= SAME_DB:
        with contextlib.suppress(RuntimeError, AssertionError, ValueError):  # a graph that asks for float32 itself
            wide = [x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in inputs]
            number, db = _worst(copy.deepcopy(before).double(), copy.deepcopy(after).double(), wide)
    if not db >= SAME_DB:
        raise StageFailed(
            f"the graph computes something else after its rewrites: output {number} has {db:.1f} dB to the model's "
            f"own, wanted {SAME_DB:.0f}",
            "a fault of ours, not of your model: please report it, with the model's layers",
        )


def _worst(before: GraphModule, after: GraphModule, inputs: Sequence[object]) -> tuple[int, float]:
    """The output in which the graphs differ most, and its dB."""
    with torch.no_grad():
        was, now = (torch.utils._pytree.tree_leaves(graph(*inputs)) for graph in (before, after))
    found = [(0, SAME_DB)]
    for number, (a, b) in enumerate(zip(was, now, strict=True)):
        if not isinstance(a, torch.Tensor):
            continue
        if a.shape != b.shape:
            return number, -math.inf
        noise, signal = ((a.double() - b.double()) ** 2).sum(), (a.double() ** 2).sum()
        db = float(10 * torch.log10(signal / noise)) if noise > 0 else SAME_DB
        found.append((number, -math.inf if math.isnan(db) else db))
    return min(found, key=lambda each: each[1])


def _like(value: object, source: torch.Generator) -> object:
    """Random numbers of a float tensor's kind; of anything else itself."""
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        return value
    return torch.randn(value.shape, generator=source).to(value.dtype)
