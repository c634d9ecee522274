"""Which parts of a model can be dropped: one observed forward pass, and the candidates it shows.

Without patterns the candidates are the residual blocks. A module is one when, in the observed pass,

- it runs once, its first positional argument is a floating-point tensor, and its output (or the first element of the
  tuple it returns, as in transformers) has the same shape and dtype;
- it multiplies by weights (a convolution or a matrix product runs inside it);
- it adds its input to what those products gave: the *dataflow* is followed operation by operation, and an addition
  must have the input itself on one side (perhaps normalized, or through relu, never through a product) and a product's
  result on the other; and the output must still be reachable from the input without a product.

So `relu(x + f(x))`, `x + gamma * f(norm(x))` and `norm(x + f(x))` count; a gate `x * f(x)`, a projection shortcut
`g(x) + f(x)` and `h(x + f(x))` with a convolution h do not. Of nested ones the outermost is taken, except that a
*stage*, whose products all lie in residual blocks inside it, is not a block itself: its blocks are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: PLC2701 - upstream gives it no public name
from torch.utils._pytree import tree_leaves  # noqa: PLC2701 - upstream gives it no public name

from pocketforge.errors import ModelError
from pocketforge.model.macs import counter as macs_counter
from pocketforge.pruning.costs import check_patterns, matches

# Operations that multiply activations by weights or by each other; matched by the start of their names.
_PRODUCTS = (
    "convolution",
    "_convolution",
    "mkldnn_",
    "mm",
    "addmm",
    "bmm",
    "baddbmm",
    "mv",
    "addmv",
    "dot",
    "linear",
    "_scaled_dot_product",
    "scaled_dot_product",
    "_flash_attention",
    "lstm",
    "gru",
)


@dataclass(frozen=True, slots=True)
class Call:
    """How a module ran in the observed pass. Shapes are of its first argument and its (first) output, as batch-1.

    Attributes:
        name: The module's.
        order: How many modules had ended before it.
        times: How often it ran.
        input: The shape that it got; None where that is no tensor.
        output: The shape that it gave; None where that is no tensor.
        same_dtype: Both are of one floating-point type.
        as_tuple: It answered a tuple or a list, whose first element counts.
        simple: Exactly one argument, and the output is a bare tensor.
        adds_input: Its input is added to what its products gave.
        inside: Products that ran in it, all children included.
        macs: Multiply-accumulates.
        source: Of its input: equal to `result` of a module whose very output that is.
        result: Of its output.
    """

    name: str
    order: int
    times: int = 1
    input: tuple[int, ...] | None = None
    output: tuple[int, ...] | None = None
    same_dtype: bool = False
    as_tuple: bool = False
    simple: bool = False
    adds_input: bool = False
    inside: int = 0
    macs: int = 0
    source: tuple[int, int] | None = None
    result: tuple[int, int] | None = None

    @property
    def keeps_shape(self) -> bool:
        return self.input is not None and self.input == self.output and self.same_dtype


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is dropped together: one module, or a group of the user's ("conv2+bn2").

    Attributes:
        name: The module's, or the group's.
        calls: How its modules ran, in that order.
        parameters: How many numbers their parameters are.
    """

    name: str
    calls: tuple[Call, ...]
    parameters: int

    @property
    def input(self) -> tuple[int, ...] | None:
        return self.calls[0].input

    @property
    def output(self) -> tuple[int, ...] | None:
        return self.calls[-1].output

    @property
    def macs(self) -> int:
        return sum(call.macs for call in self.calls)

    @property
    def keeps_shape(self) -> bool:
        return self.input is not None and self.input == self.output

    @property
    def is_chain(self) -> bool:
        """Whether each module takes the very output of the one before it, so that one map can stand for all."""
        pairs = zip(self.calls, self.calls[1:], strict=False)
        return all(call.simple for call in self.calls) and all(a.result == b.source for a, b in pairs)


class _Frame:
    """Of one running module: the tensors that come from its input without a product, and those that come from one."""

    def __init__(self, source: Tensor | None, products: int, macs: int) -> None:
        self.size = source.numel() if source is not None else -1
        self.direct = set() if source is None else {id(source)}
        self.computed: set[int] = set()
        self.added = False
        self.products, self.macs = products, macs
        self.source = source
        # The input may be written over in place; what it was at the beginning is what counts.
        self.shape = None if source is None else tuple(source.shape)
        self.version = 0 if source is None else source._version

    def see(self, name: str, product: bool, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        ids = [id(tensor) for tensor in inputs]
        direct = any(i in self.direct for i in ids)
        computed = any(i in self.computed for i in ids)
        if name in ("add", "add_") and len(ids) == 2:
            for one, other in ((0, 1), (1, 0)):
                pure = ids[one] in self.direct and ids[one] not in self.computed
                self.added |= pure and ids[other] in self.computed and inputs[one].numel() == self.size
        if (direct or computed) and product:
            self.computed.update(map(id, outputs))
        else:
            if direct:
                self.direct.update(map(id, outputs))
            if computed:
                self.computed.update(map(id, outputs))


class _Dataflow(TorchDispatchMode):  # type: ignore[misc]  # torch gives it no types
    def __init__(self) -> None:
        super().__init__()
        self.frames: list[_Frame] = []
        self.products = 0
        # A freed tensor's id may be given to another: all live until the pass is over (it is a batch of 1).
        self.alive: list[Tensor] = []

    def __torch_dispatch__(
        self,
        func: OpOverload[..., object],
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        result = func(*args, **(kwargs or {}))
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self.alive += [*inputs, *outputs]
        name = func.overloadpacket.__name__
        product = name.startswith(_PRODUCTS)
        self.products += product
        for frame in self.frames:
            frame.see(name, product, inputs, outputs)
        return result


def observe(module: nn.Module, example: tuple[Tensor, ...]) -> dict[str, Call]:
    """Run `example` (batch 1) once; returns how each named submodule ran. One that did not run is left out.

    MACs of a module are those counted while it ran (convolutions and matrix products, as `models.count_macs`).
    """
    flow, counter = _Dataflow(), macs_counter()
    stack: list[_Frame] = []
    calls: dict[str, Call] = {}

    def enter(_module: nn.Module, args: tuple[object, ...], _kwargs: dict[str, object]) -> None:
        first = args[0] if args and isinstance(args[0], Tensor) else None
        stack.append(_Frame(first, flow.products, counter.get_total_flops()))
        flow.frames = stack

    def leave(name: str) -> Callable[[nn.Module, tuple[object, ...], dict[str, object], object], None]:
        def hook(_module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object], result: object) -> None:
            frame = stack.pop()
            if name in calls:
                calls[name] = replace(calls[name], times=calls[name].times + 1)
                return
            output = result[0] if isinstance(result, tuple | list) and result else result
            tensor = output if isinstance(output, Tensor) else None
            if tensor is not None:
                flow.alive.append(tensor)
            calls[name] = replace(
                _call(name, frame, tensor),
                order=len(calls),
                as_tuple=isinstance(result, tuple | list),
                simple=frame.source is not None and len(args) == 1 and not kwargs and isinstance(result, Tensor),
                inside=flow.products - frame.products,
                macs=(counter.get_total_flops() - frame.macs) // 2,
            )

        return hook

    handles = []
    for name, child in module.named_modules():
        if name:
            handles.append(child.register_forward_pre_hook(enter, with_kwargs=True))
            handles.append(child.register_forward_hook(leave(name), with_kwargs=True))
    try:
        with torch.no_grad(), slow_attention(), counter, flow:
            module(*example)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _call(name: str, frame: _Frame, output: Tensor | None) -> Call:
    """What is known of a call from its first argument and its output alone."""
    source = frame.source
    both = source is not None and output is not None and source.dtype == output.dtype
    return Call(
        name,
        order=0,
        input=frame.shape,
        output=None if output is None else tuple(output.shape),
        same_dtype=both and source is not None and source.is_floating_point(),
        adds_input=frame.added and output is not None and id(output) in frame.direct,
        source=None if source is None else (id(source), frame.version),
        result=None if output is None else (id(output), output._version),
    )


@contextmanager
def slow_attention() -> Iterator[None]:
    """Without torch's fused transformer layer, which is one opaque operation and skips the modules in it."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def residual_blocks(calls: Mapping[str, Call]) -> list[str]:
    """Names of the residual blocks (see the module's docstring), in the order in which they run."""
    adding = [
        call.name for call in calls.values() if call.times == 1 and call.keeps_shape and call.inside and call.adds_input
    ]

    def chosen(names: list[str]) -> Iterator[str]:
        for name in _outermost(names):
            nested = [other for other in names if other.startswith(f"{name}.")]
            if nested and sum(calls[other].inside for other in _outermost(nested)) == calls[name].inside:
                yield from chosen(nested)
            else:
                yield name

    return sorted(chosen(adding), key=lambda name: calls[name].order)


def _outermost(names: Iterable[str]) -> list[str]:
    known = list(names)
    return [n for n in known if not any(n.startswith(f"{other}.") for other in known)]


def find_candidates(
    module: nn.Module, calls: Mapping[str, Call], blocks: Sequence[str] = (), protect: Sequence[str] = ()
) -> list[Candidate]:
    """Candidates in the order in which they run.

    blocks: each pattern's outermost matching modules are candidates of their own; "conv2+bn2" is one candidate of
    several modules that go together. Without blocks: the residual blocks. A candidate that is, lies in or holds a
    protected module is left out.
    Raises ModelError: a pattern that fits nothing, a module that does not run exactly once, candidates that overlap, or
    no candidate at all.
    """
    names = [name for name, _ in module.named_modules() if name]
    check_patterns(protect, names, "drop_layers.protect")
    check_patterns((part for pattern in blocks for part in pattern.split("+")), names, "drop_layers.blocks")
    groups = [group for pattern in blocks for group in _named(pattern, names)]
    if not blocks:
        groups = [(name, [name]) for name in residual_blocks(calls)]
    if not groups:
        raise ModelError(
            "drop_layers: the model has no residual block that keeps its input's shape",
            'name the modules that may go: blocks = ["layer2.1"], or ["conv2+bn2"] for several that go together',
        )
    groups = [(name, parts) for name, parts in groups if not any(_is_protected(part, protect, names) for part in parts)]
    if not groups:
        raise ModelError("drop_layers: every candidate is protected", "protect fewer layers")
    _check_overlap(groups)
    candidates = []
    for name, parts in groups:
        for part in parts:
            times = calls[part].times if part in calls else 0
            if times != 1:
                raise ModelError(
                    f"block {part} cannot be dropped: it runs {times} times in a forward pass, not once",
                    "name modules that the model calls exactly once"
                    + (" (a container such as ModuleList is not called itself)" if not times else ""),
                )
        ordered = tuple(sorted((calls[part] for part in parts), key=lambda call: call.order))
        weights = {id(p): p.numel() for part in parts for p in module.get_submodule(part).parameters()}
        candidates.append(Candidate(name, ordered, sum(weights.values())))
    return sorted(candidates, key=lambda candidate: candidate.calls[0].order)


def _named(pattern: str, names: Sequence[str]) -> list[tuple[str, list[str]]]:
    """What one entry of `blocks` names: [(candidate's name, its modules)]."""
    matching = [_outermost([n for n in names if fnmatchcase(n, part)]) for part in pattern.split("+")]
    if len(matching) == 1:
        return [(name, [name]) for name in matching[0]]
    return [(pattern, [name for part in matching for name in part])]


def _is_protected(name: str, protect: Sequence[str], names: Sequence[str]) -> bool:
    inside = [other for other in names if other == name or other.startswith(f"{name}.")]
    return any(matches(other, protect) for other in inside)


def _check_overlap(groups: Sequence[tuple[str, Sequence[str]]]) -> None:
    parts = [(part, name) for name, group in groups for part in group]
    for i, (one, of_one) in enumerate(parts):
        for other, of_other in parts[i + 1 :]:
            if one == other or one.startswith(f"{other}.") or other.startswith(f"{one}."):
                raise ModelError(
                    f"drop_layers.blocks: {of_one!r} and {of_other!r} overlap (both hold {max(one, other, key=len)})",
                    "name each module once",
                )
