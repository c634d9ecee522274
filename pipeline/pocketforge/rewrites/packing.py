"""A traced graph with something of the app's side before its inputs and behind an output, on the graph itself: layers
and weights keep their names, as a module around the model would not let them.

Before a float graph stands the arithmetic of the recipe's steps, one op a step, as NumPy does it for the samples.
Before a graph whose input is quantized to int8 at once stands one 1 × 1 convolution on the bytes themselves: a byte
less 128 is a level of scale 1, so that nothing is computed in float and nothing is rounded that was not before.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node

from pocketforge.recipe.affine import affine
from pocketforge.recipe.image_steps import Cast, Normalize, Scale
from pocketforge.recipe.packed import Inside
from pocketforge.rewrites.graph import is_guard, op_name

aten = torch.ops.aten
# Of the constants that are put before a graph.
NAME = "packed_input"
# In a node's `custom`: it is none of the model's.
PACKED = "pocketforge_packed"
_LOW, _HIGH = -127, 127
# What a byte is as an int8 level: value = level + 128.
BYTE_LEVELS = (1.0, -128)


def packed_program(
    program: ExportedProgram,
    insides: Sequence[Inside],
    raw: Sequence[Tensor],
    answer: Callable[[GraphModule, Node], Node] | None = None,
    place: int = 0,
    *,
    stored: bool = True,
) -> ExportedProgram:
    """The program that takes `raw` (one sample of each input, batch 1) and does what `insides` say first.

    insides: one an input, or none where inputs stay as they are. answer: makes the node of output `place` another.
    stored: of a quantized graph, whether its weights are int8 already or are float behind their quantize ops.
    """
    module = program.module()
    graph = module.graph
    for node in [node for node in graph.nodes if is_guard(node)]:
        graph.erase_node(node)  # they are of the old inputs
    before = set(graph.nodes)
    if insides:
        given = [node for node in graph.nodes if node.op == "placeholder"]
        for number, (node, inside, sample) in enumerate(zip(given, insides, raw, strict=True)):
            _Before(module, node, inside, sample, f"{NAME}_{number}", stored=stored).put()
    if answer is not None:
        output = graph.output_node()
        values = list(output.args[0])
        with graph.inserting_before(output):
            values[place] = answer(module, values[place])
        output.args = (tuple(values),)
    for node in graph.nodes:
        if node not in before:
            node.meta["custom"] = {PACKED: True}  # it is kept with the graph in its file
    graph.lint()
    module.recompile()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own internals, nothing the user could act on
        return torch.export.export(module, tuple(raw), strict=False)


def softmax(module: GraphModule, value: Node) -> Node:
    """Shares of classes that exclude each other."""
    return module.graph.call_function(aten.softmax.int, (value, 1))


def sigmoid(module: GraphModule, value: Node) -> Node:
    """A probability for each label."""
    return module.graph.call_function(aten.sigmoid.default, (value,))


def argmax(module: GraphModule, value: Node) -> Node:
    """The number of the class with the largest score; the first of equal ones."""
    return module.graph.call_function(aten.argmax.default, (value, 1))


def masks(module: GraphModule, value: Node) -> Node:
    """Shares of classes in each pixel, classes last."""
    return module.graph.call_function(aten.permute.default, (softmax(module, value), [0, 2, 3, 1]))


def is_packed(node: Node) -> bool:
    """Whether a node was put around the model."""
    return PACKED in (node.meta.get("custom") or {})


ANSWERS = {"softmax": softmax, "sigmoid": sigmoid, "argmax": argmax, "masks": masks}


class _Before:
    """What is put before one input."""

    def __init__(
        self, module: GraphModule, node: Node, inside: Inside, sample: Tensor, name: str, *, stored: bool
    ) -> None:
        self.module, self.node, self.inside, self.sample, self.name, self.stored = (
            *(module, node, inside, sample, name, stored),
        )
        self.value = node
        self.layout = inside.layout  # of an image, as it is then
        self.readers = list(node.users)

    def put(self) -> None:
        """Into the graph, between the input and all that read it."""
        if not self.readers:
            return
        order = {node: place for place, node in enumerate(self.module.graph.nodes)}
        with self.module.graph.inserting_before(min(self.readers, key=order.__getitem__)):
            if self._is_levels():
                self._in_levels()
            else:
                self._in_float()
        for reader in self.readers:
            reader.replace_input_with(self.node, self.value)

    def _call(self, target: Callable[..., object], *args: object) -> None:
        """What was made so far is the op's first argument."""
        self.value = self.module.graph.call_function(target, (self.value, *args))  # type: ignore[arg-type]

    def _constant(self, value: Tensor, what: str) -> Node:
        name = f"{self.name}_{what}"
        if value.is_floating_point() and what == "weight":
            self.module.register_parameter(name, torch.nn.Parameter(value, requires_grad=False))
        else:
            self.module.register_buffer(name, value)
        return self.module.graph.get_attr(name)

    def _is_levels(self) -> bool:
        """Whether bytes of an image go to quantize ops and nowhere else."""
        image = self.inside.kind == "image" and self.sample.dtype == torch.uint8 and self.sample.dim() == 4
        return image and all(op_name(reader) == "quantize_per_tensor" for reader in self.readers)

    def _in_float(self) -> None:
        inside = self.inside
        # A model may take bytes as they are: these are only moved.
        wanted, given = self.node.meta["val"].dtype, self.sample.dtype
        if given != torch.float32 and (inside.steps or inside.reverses_channels or wanted == torch.float32):
            self._call(aten.to.dtype, torch.float32)
            given = torch.float32
        if inside.reverses_channels:
            self._planes_first()
            self._reverse()
        for number, step in enumerate(inside.steps):
            if isinstance(step, Scale):
                assert step.by, "the stage says by what"
                self._call(aten.div.Tensor, step.by)
            elif isinstance(step, Normalize):
                for op, what in ((aten.sub.Tensor, "mean"), (aten.div.Tensor, "std")):
                    values = getattr(step, what)
                    several = len(values) > 1
                    self._call(
                        op, self._constant(self._by_channel(values), f"{what}_{number}") if several else values[0]
                    )
            else:
                assert isinstance(step, Cast), step
        if given != wanted:
            self._call(aten.to.dtype, wanted)
        if inside.model_layout == "NCHW":
            self._planes_first()
        elif inside.model_layout == "NHWC":
            self._planes_last()
        elif inside.model_layout == "NCT":
            self._call(*((aten.unsqueeze.default, 1) if self.sample.dim() == 2 else (aten.permute.default, [0, 2, 1])))

    def _by_channel(self, values: Sequence[float]) -> Tensor:
        given = torch.tensor(values, dtype=torch.float32)
        return given.reshape(-1, 1, 1) if self.layout == "NCHW" else given

    def _reverse(self) -> None:
        """A convolution that gives each channel in another's place: to the bit, as the others count nothing, and by the
        runtimes' quickest kernels, where a slice a channel goes value by value."""
        channels = self.sample.shape[3 if self.inside.layout == "NHWC" else 1]
        weight = torch.eye(channels).flip(1).reshape(channels, channels, 1, 1)
        self._call(aten.conv2d.default, self._constant(weight, "weight"))

    def _planes_first(self) -> None:
        if self.layout == "NHWC":
            self._call(aten.permute.default, [0, 3, 1, 2])
            self.layout = "NCHW"

    def _planes_last(self) -> None:
        if self.layout == "NCHW":
            self._call(aten.permute.default, [0, 2, 3, 1])
            self.layout = "NHWC"

    def _in_levels(self) -> None:
        """Bytes as levels of scale 1, through a convolution that scales and shifts each channel."""
        inside = self.inside
        # In this order: ExecuTorch's own permute of bytes takes 140 instructions a value, XNNPACK has one of floats.
        self._call(aten.to.dtype, torch.float32)
        self._planes_first()
        levels = (*BYTE_LEVELS, -128, 127, torch.int8)
        self._call(torch.ops.quantized_decomposed.quantize_per_tensor.default, *levels)
        self._call(torch.ops.quantized_decomposed.dequantize_per_tensor.default, *levels)
        channels = self.sample.shape[3 if inside.layout == "NHWC" else 1]
        arithmetic = [step for step in inside.steps if isinstance(step, Scale | Normalize)]
        factor, shift = (torch.tensor(each, dtype=torch.float64).expand(channels) for each in affine(arithmetic))
        weight = torch.diag(factor)
        weight = weight.flip(1) if inside.reverses_channels else weight
        self._call(aten.conv2d.default, self._weight(weight, factor), self._constant(shift.float(), "bias"))
        if inside.model_layout == "NHWC":
            self._planes_last()

    def _weight(self, weight: Tensor, factor: Tensor) -> Node:
        """int8 by output channel: the one number that is not 0 is the highest level, so it is exact."""
        ops = torch.ops.quantized_decomposed
        scale = (factor / _HIGH).float()
        channels = len(scale)
        levels = (
            self._constant(scale, "scale"),
            self._constant(torch.zeros(channels, dtype=torch.int64), "zero_point"),
            *(0, _LOW, _HIGH, torch.int8),
        )
        shape = (channels, channels, 1, 1)
        if self.stored:
            whole = torch.round(weight / factor[:, None] * _HIGH).to(torch.int8).reshape(shape)
            kept = self._constant(whole, "weight_levels")
        else:
            real = self._constant(
                (scale[:, None] * torch.round(weight / factor[:, None] * _HIGH)).float().reshape(shape), "weight"
            )
            kept = self.module.graph.call_function(ops.quantize_per_channel.default, (real, *levels))
        return self.module.graph.call_function(ops.dequantize_per_channel.default, (kept, *levels))
