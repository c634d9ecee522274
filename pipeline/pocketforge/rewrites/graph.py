"""What every rewrite is made of: ops that are called, constants that are read, and where each comes from."""

from __future__ import annotations

import contextlib
import operator
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.node import Argument

from pocketforge.errors import StageFailed

CONVOLUTIONS = ("conv1d", "conv2d", "conv3d")
TRANSPOSED = ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
# A copy of a parameter for its second, third … reader lies below the module that it is of.
USE = "use_"
# Code that no user wrote. Models that come with us lie in none of these rooms.
_OURS = Path(__file__).parents[1]
_NO_USERS = (
    "<",
    str(torch.__path__[0]),
    *(str(_OURS / room) for room in ("model", "quantization", "rewrites", "runtimes")),
)
_FRAME = re.compile(r'File "([^"]+)", line (\d+)')


def op_name(node: object) -> str:
    """`conv2d` of a node that calls aten.conv2d.default; of one that calls nothing, its kind; else empty."""
    if not isinstance(node, Node):
        return ""
    if node.op != "call_function":
        return str(node.op)
    name = str(getattr(node.target, "__name__", node.target))
    # ExecuTorch's edge dialect puts the namespace before the name.
    for namespace in ("aten.", "quantized_decomposed.", "dim_order_ops."):
        name = name.removeprefix(namespace)
    return name.split(".")[0]


def is_guard(node: Node) -> bool:
    """Whether a node is torch.export's check of inputs: it reads each, and nothing of it is computed."""
    return node.op == "call_module" and str(node.target).startswith("_guards")


def overload(node: Node) -> str:
    """`padding` of a node that calls aten.conv1d.padding."""
    return getattr(node.target, "__name__", "").partition(".")[2] if node.op == "call_function" else ""


def full_arguments(node: Node) -> list[Argument]:
    """Every argument in the order of the op's schema, those left out with what they default to."""
    schema = node.target._schema  # type: ignore[union-attr]
    given = list(node.args)
    for argument in schema.arguments[len(given) :]:
        given.append(node.kwargs.get(argument.name, argument.default_value))
    return given


def first_input(node: Node) -> Node:
    """The node whose value an op takes first."""
    first = node.args[0]
    assert isinstance(first, Node)
    return first


def shape_of(node: object) -> tuple[int, ...]:
    """Of the tensor that a node gives, as tracing found it; empty where it gives none. Of a size that varies the one
    that was traced: `verify` runs the file at others."""
    return tuple(map(_length, getattr(node.meta.get("val"), "shape", ()))) if isinstance(node, Node) else ()


def has_open_sizes(node: object) -> bool:
    """Whether sizes of the tensor that a node gives vary: what is made of it may not hold them as numbers."""
    value = node.meta.get("val") if isinstance(node, Node) else None
    return any(isinstance(length, torch.SymInt) for length in getattr(value, "shape", ()))


def up_to(cut: int) -> int:
    """The end of a slice that leaves out `cut` values at the end, whatever the length: no number that was traced."""
    return -cut if cut else sys.maxsize


def refuse_open_sizes(node: Node, why: str) -> None:
    """Raises StageFailed, naming the layer, where sizes of the tensor that a node takes first vary. why: in words."""
    if has_open_sizes(node.args[0]):
        raise StageFailed(
            f"{where(node)} has no form for sizes that vary: {why}",
            "give the target sizes = [[…], […]]: a file of fixed shapes for each; or write the layer otherwise",
        )


def _length(length: int | torch.SymInt) -> int:
    # int() of a size that varies would fix it.
    return length if isinstance(length, int) else int(length.node.hint)


def per_axis(value: Argument, axes: int) -> list[int]:
    """A stride or padding as the op takes it: one number stands for all axes."""
    given = list(value) if isinstance(value, list | tuple) else [value]
    return [int(n) for n in (given * axes if len(given) == 1 else given)]


def where(node: Node) -> str:
    """The layer that a node is of, by its module's name and the line of the user's code; the op's name at least."""
    modules, lines = _origin(node)
    layer = f"{op_name(node)} of {modules[-1]!r}" if modules else f"{op_name(node)} ({node.name})"
    return f"{layer} (at {lines[-1]})" if lines else layer


def has_origin(node: Node) -> bool:
    """Whether a node's module or its line of the user's code is known."""
    return any(_origin(node))


def _origin(node: Node) -> tuple[list[str], list[str]]:
    """The names of the modules around a node, and the lines that are not torch's or ours; the innermost last."""
    modules = [name for name, _ in (node.meta.get("nn_module_stack") or {}).values() if name]
    frames = _FRAME.findall(node.meta.get("stack_trace") or "")
    return modules, [f"{file}:{line}" for file, line in frames if not file.startswith(_NO_USERS)]


class Editor:
    """Changes a graph in place. What is new has the origin (module, line of code) of the node that it stands for.

    example: inputs of the model, where the caller has some.
    """

    def __init__(self, module: GraphModule, example: tuple[object, ...] | None = None) -> None:
        self.module = module
        self.example = example
        self.changes = 0
        values = (node.meta.get("val") for node in module.graph.nodes)
        self._fake = next((v.fake_mode for v in values if hasattr(v, "fake_mode")), None)

    def nodes(self) -> list[Node]:
        """All nodes as they are now, so that the graph may be changed meanwhile."""
        return list(self.module.graph.nodes)

    def call(self, target: Callable[..., object], *args: Argument, like: Node) -> Node:
        """A new node before `like`."""
        with self.module.graph.inserting_before(like):
            return self._called(target, args, like)

    def after(self, place: Node, target: Callable[..., object], *args: Argument, like: Node) -> Node:
        """A new node behind `place`."""
        with self.module.graph.inserting_after(place):
            return self._called(target, args, like)

    def _called(self, target: Callable[..., object], args: tuple[Argument, ...], like: Node) -> Node:
        node: Node = self.module.graph.call_function(target, args)
        origin = ("nn_module_stack", "stack_trace", "torch_fn", "source_fn_stack")
        node.meta.update({key: like.meta[key] for key in origin if key in like.meta})
        self.retype(node)
        self.changes += 1
        return node

    def retype(self, node: Node) -> None:
        """Note the shape and type of what a node gives, as the quantizers ask for them."""
        given = [a.meta.get("val") for a in node.all_input_nodes]
        if self._fake is None or any(value is None for value in given):
            return
        args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), lambda n: n.meta["val"])
        with self._fake, torch.no_grad():
            node.meta["val"] = node.target(*args, **kwargs)  # type: ignore[operator]
        node.meta.pop("tensor_meta", None)

    def constant(self, name: str, value: Tensor, like: Node) -> Node:
        """Read a new constant before `like`; its name is `name`, or the next that is free.

        A name that only `like` reads is free: the constant is meant in place of it.
        """
        name = name if self._reads_alone(like, name) else self._free(name)
        place, _, last = name.rpartition(".")
        owner: torch.nn.Module = self.module
        for part in filter(None, place.split(".")):
            if not hasattr(owner, part):
                owner.add_module(part, torch.nn.Module())
            owner = getattr(owner, part)
        if hasattr(owner, last):
            delattr(owner, last)
        if value.is_floating_point():
            owner.register_parameter(last, torch.nn.Parameter(value.detach(), requires_grad=False))
        else:
            owner.register_buffer(last, value)
        with self.module.graph.inserting_before(like):
            node: Node = self.module.graph.get_attr(name)
        if self._fake is not None:
            node.meta["val"] = self._fake.from_tensor(value.detach(), static_shapes=True)
        self.changes += 1
        return node

    def sizes(self, node: Node, like: Node) -> list[Argument]:
        """The shape of a node's tensor for a reshape before `like`: what varies is asked for as the file runs."""
        lengths = getattr(node.meta.get("val"), "shape", ())
        return [
            length if isinstance(length, int) else self.call(torch.ops.aten.sym_size.int, node, axis, like=like)
            for axis, length in enumerate(lengths)
        ]

    def value(self, node: Argument) -> Tensor:
        """The constant that a node reads."""
        assert isinstance(node, Node)
        value: Tensor = operator.attrgetter(str(node.target))(self.module)
        return value

    def replace(self, old: Node, new: Node) -> None:
        """Let all readers of `old` read `new`, and remove it."""
        old.replace_all_uses_with(new)
        self.module.graph.erase_node(old)
        self.changes += 1

    def arguments(self, node: Node, args: Sequence[Argument]) -> None:
        """Give a node other arguments."""
        node.args, node.kwargs = tuple(args), {}
        self.changes += 1

    def _reads_alone(self, node: Node, name: str) -> bool:
        reading = [n for n in self.module.graph.nodes if n.op == "get_attr" and n.target == name]
        return bool(reading) and all(set(n.users) <= {node} for n in reading)

    def _free(self, name: str) -> str:
        place, _, last = name.rpartition(".")
        number = 2
        candidate = name
        while self._taken(candidate):
            candidate = ".".join(filter(None, (place, f"{USE}{number}", last)))
            number += 1
        return candidate

    def _taken(self, name: str) -> bool:
        with contextlib.suppress(AttributeError):
            operator.attrgetter(name)(self.module)
            return True
        return False


def is_constant(node: object) -> bool:
    """Whether a node reads a parameter, a buffer or a constant of the model."""
    return isinstance(node, Node) and node.op == "get_attr"
