"""Steps of generated code as one loop over the given values, for languages without arrays' arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

from pocketforge.errors import ModelError
from pocketforge.package.model import AppInput
from pocketforge.package.steps import Divide, Normalize, Quantize, ReverseChannels, ToFloat, Transpose

Arithmetic = Divide | Normalize | Quantize


@dataclass(frozen=True, slots=True)
class Loop:
    """Each given value, in the order in which they lie in memory, becomes one value of the tensor.

    Attributes:
        channels: Length of the last axis of what is given.
        pixels: How many values lie along the other axes.
        reverses: Whether channel c comes from channel `channels - 1 - c`.
        planes: Whether channels come first in the tensor: a value's place is channel * pixels + pixel.
        arithmetic: What is done to the value, in order, in float32; means and deviations are by the channel that it
            becomes.
    """

    channels: int
    pixels: int
    reverses: bool
    planes: bool
    arithmetic: tuple[Arithmetic, ...]

    @property
    def by_channel(self) -> bool:
        """Whether the loop has to know a value's channel."""
        several = any(isinstance(step, Normalize) and len(step.mean) > 1 for step in self.arithmetic)
        return self.reverses or self.planes or several


def loop_of(given: AppInput) -> Loop:
    """Raises ModelError for an order of axes that is none of images."""
    channels = given.shape[-1] if given.shape else 1
    reverses = planes = False
    arithmetic: list[Arithmetic] = []
    for step in given.steps:
        if isinstance(step, ReverseChannels):
            if planes:
                raise ModelError(f"{given.tensor}: its last axis, which is no channels', is reversed; use --for python")
            reverses = not reverses
            arithmetic = [_reversed(each) for each in arithmetic]
        elif isinstance(step, Transpose):
            planes = planes or _makes_planes(step, given)
        elif not isinstance(step, ToFloat):
            if planes and isinstance(step, Normalize) and len(step.mean) > 1:
                raise ModelError(f"{given.tensor}: means are along the width, not by channel; use --for python")
            arithmetic.append(step)
    return Loop(channels, given.size // channels, reverses, planes, tuple(arithmetic))


def _reversed(step: Arithmetic) -> Arithmetic:
    """By the channel that a value becomes when channels change places behind it."""
    if not isinstance(step, Normalize):
        return step
    return Normalize(step.mean[::-1], step.std[::-1])


def _makes_planes(step: Transpose, given: AppInput) -> bool:
    moved = [axis for axis in step.axes if given.shape[axis] > 1]
    if moved == sorted(moved):  # only axes of one value change places
        return False
    if step.axes == (2, 0, 1):
        return True
    raise ModelError(f"{given.tensor}: axes {step.axes} are no order of an image's; use --for python")
