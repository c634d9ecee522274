"""One run of the example through a model without a block: does every layer get what it got before?"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from pocketforge.pruning.block_importance import shape_text
from pocketforge.pruning.blocks import Call


class BreaksError(Exception):
    """The model does not run without the block, or gives another shape; says what breaks."""


def output_shape(module: nn.Module, example: Sequence[Tensor]) -> tuple[int, ...] | None:
    """Of the model's answer; None where that is no single tensor."""
    with torch.no_grad():
        # Copies: in-place operations at the model's beginning would write into the example.
        output = module(*(value.clone() for value in example))
    return tuple(output.shape) if isinstance(output, Tensor) else None


class BlockRun:
    """Watches the layers of a model, some of whose modules are replaced, while the example runs through it.

    width: what the classifier then gets, where that is another width than it takes; else None.
    """

    def __init__(self, module: nn.Module, calls: Mapping[str, Call], classifier: str) -> None:
        """calls: how modules ran before anything was replaced. classifier: may get another width than before."""
        self.width: int | None = None
        self._module, self._calls, self._classifier = module, calls, classifier
        # The modules that are running, the innermost last.
        self._running: list[str] = []

    def check(
        self,
        example: Sequence[Tensor],
        wanted: tuple[int, ...] | None,
        old: Sequence[nn.Module],
        replaced: Collection[str],
    ) -> None:
        """Run the example.

        wanted: the shape of the model's answer. old: what was just taken out. replaced: names of all that is not the
        original any more, whose inputs may be others.

        Raises BreaksError when a layer with weights, other than the classifier, gets another shape than before, when
        the model gives another shape, or when it reaches a replaced module in another way than by its name.
        """
        with self._hooked(old, replaced):
            try:
                shape = output_shape(self._module, example)
            except BreaksError:
                raise
            except Exception as error:  # the user's own forward, which may raise anything when its shapes change
                first = (str(error).strip() or "no message").splitlines()[0]
                where = self._running[-1] if self._running else "the model"
                raise BreaksError(f"{where} then raises {type(error).__name__}: {first}") from error
        if shape is not None and shape != wanted:
            raise BreaksError(f"the model then gives output {shape_text(shape)} instead of {shape_text(wanted)}")

    @contextmanager
    def _hooked(self, old: Sequence[nn.Module], replaced: Collection[str]) -> Iterator[None]:
        handles = [layer.register_forward_pre_hook(_still_used) for layer in old]
        for name, layer in self._module.named_modules():
            if name:
                checked = name == self._classifier or name not in replaced
                handles.append(layer.register_forward_pre_hook(self._entering(name, checked)))
                handles.append(layer.register_forward_hook(self._leave))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _entering(self, name: str, checked: bool) -> Callable[[nn.Module, tuple[object, ...]], object]:
        def enter(layer: nn.Module, args: tuple[object, ...]) -> object:
            self._running.append(name)
            has_weights = any(True for _ in layer.parameters(recurse=False))
            call = self._calls.get(name)
            if checked and has_weights and call is not None and call.times == 1:
                return self._checked(call, layer, args)
            return None

        return enter

    def _leave(self, _layer: nn.Module, _args: object, _result: object) -> None:
        self._running.pop()

    def _checked(self, call: Call, layer: nn.Module, args: tuple[object, ...]) -> tuple[object, ...] | None:
        """What the layer is given instead of `args`; None: just those."""
        first = args[0] if args else None
        shape = tuple(first.shape) if isinstance(first, Tensor) else None
        if call.name == self._classifier and shape and call.input and shape[:-1] == call.input[:-1]:
            assert isinstance(layer, nn.Linear) and isinstance(first, Tensor)
            if shape[-1] == layer.in_features:
                return None
            self.width = self.width or shape[-1]
            # The rest of the model is tried too: what the layer says does not matter, its shape does.
            return (first.new_zeros(*shape[:-1], layer.in_features), *args[1:])
        if shape != call.input:
            raise BreaksError(f"{call.name} then gets input {shape_text(shape)} instead of {shape_text(call.input)}")
        return None


def _still_used(_layer: nn.Module, _args: object) -> None:
    raise BreaksError("the model keeps it in another place too, and calls it there")
