"""A model without the outputs that files shall not have (a recipe's `keep = false`)."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence

from torch import nn


@contextlib.contextmanager
def only_outputs(module: nn.Module, kept: Sequence[int]) -> Iterator[nn.Module]:
    """Within it the module answers these of its outputs, by position, as a tuple; a trace leaves out the others.

    The module stays itself, so layers and weights keep their names. It has to answer a tuple of tensors.
    """
    inner = module.forward
    had = vars(module).get("forward")

    @functools.wraps(inner)
    def forward(*args: object, **kwargs: object) -> object:
        answer = inner(*args, **kwargs)
        return tuple(answer[position] for position in kept)

    module.forward = forward
    try:
        yield module
    finally:
        del module.forward
        if had is not None:
            module.forward = had
