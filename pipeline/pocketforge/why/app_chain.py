"""From a raw sample to the bytes that an app hands to a file: the recipe's own steps, each of which can be changed.

What is computed is data/'s own arithmetic and the runner's; a mistake is another list of steps, another raw sample, or
another use of the finished numbers (app_mistakes.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pocketforge.data.base import Array
from pocketforge.data.preprocess import About, effective, through
from pocketforge.errors import ModelError
from pocketforge.outcomes.tensors import TensorSpec
from pocketforge.recipe.preprocess import Preprocess, Preprocessing, Step

Change = Callable[[Array], Array]


@dataclass(frozen=True, slots=True)
class Chain:
    """What is done to one of a sample's inputs.

    Attributes:
        kind: image, sound, or empty for any other numbers.
        steps: The recipe's, in order.
        about: What the source says of its raw samples.
        taken: The file's input, as its exporter promises it.
        before: What is done to the raw sample first.
        to_numbers: From real values to the file's own (levels of a scale, where it has one); None: as it should be.
        buffer: What is done to the file's numbers: their order in memory.
    """

    kind: str
    steps: tuple[Step, ...]
    about: About
    taken: TensorSpec
    before: tuple[Change, ...] = ()
    to_numbers: Change | None = None
    buffer: tuple[Change, ...] = ()

    @property
    def channels_last(self) -> bool:
        """Whether an image's channels are the file's last axis."""
        return _channels_last(self.taken)

    def with_steps(self, steps: tuple[Step, ...]) -> Chain:
        return dataclasses.replace(self, steps=steps)

    def values(self, raw: Array) -> Array:
        """Real values as the file takes them, with its layout and without a batch. Raises ModelError."""
        for change in self.before:
            raw = change(raw)
        return _laid_out(through(self.steps, self.kind, raw, self.about), self.taken)

    def numbers(self, raw: Array) -> Array:
        """The file's own numbers, in the order that they lie in memory: one row. Raises ModelError."""
        values = self.values(raw)
        found = self.to_numbers(values) if self.to_numbers else levels(values, self.taken)
        if found.size != size_of(self.taken):
            raise ModelError(f"{found.size} values, the file takes {size_of(self.taken)}")
        found = found.reshape(self.taken.shape[1:])
        for change in self.buffer:
            found = change(found).reshape(found.shape)
        flat: Array = np.ascontiguousarray(found).reshape(-1)
        return flat


def chain_of(preprocess: Preprocessing, number: int, about: About, taken: TensorSpec) -> Chain:
    """The recipe's own. number: of the raw input. Raises ModelError for texts, whose tokens no list here changes."""
    plan = effective(preprocess, about.value_max)
    if isinstance(plan, Preprocess):
        return Chain("image", plan.steps(about.value_max), about, taken)
    if plan is None:
        return Chain("", (), about, taken)
    listed = plan[number]
    about = about if len(plan) == 1 else dataclasses.replace(about, as_images=False)
    kind = about.kind(listed)
    if kind == "text":
        raise ModelError(
            "why --app looks at images, sound and plain numbers: this input is token ids",
            "compare the ids themselves with the sidecar's tokenizer: equal ones are right",
        )
    return Chain(kind, listed.step, about, taken)


def size_of(taken: TensorSpec) -> int:
    """How many numbers the file takes."""
    return int(np.prod(taken.shape))


def _channels_last(taken: TensorSpec) -> bool:
    shape = taken.shape
    if taken.layout:
        return taken.layout == "NHWC"
    return len(shape) == 4 and shape[3] in (1, 3, 4) and shape[1] not in (1, 3, 4)


def _laid_out(values: Array, taken: TensorSpec) -> Array:
    """Channels where the file has them: as the runner moves them."""
    shape = taken.shape[1:]
    if values.ndim == 3 and values.shape != shape and values.transpose(1, 2, 0).shape == shape:
        return values.transpose(1, 2, 0)
    return values


def levels(values: Array, taken: TensorSpec) -> Array:
    """A file's numbers of real values: levels of its scale, or cast to its type as an app's language does it."""
    kind = np.dtype(taken.dtype)
    if kind.kind not in "iu":
        return np.asarray(values, kind)
    if taken.scale:
        values = np.rint(values / taken.scale) + (taken.zero_point or 0)
    limits = np.iinfo(kind)
    return np.clip(np.trunc(values), limits.min, limits.max).astype(kind)


def real(numbers: Array, taken: TensorSpec) -> Array:
    """Real values of a file's numbers, in its shape with a batch of 1: its runner makes the same numbers of them."""
    values = numbers.reshape(taken.shape)
    if taken.scale and values.dtype.kind in "iu":
        return (values.astype(np.float64) - (taken.zero_point or 0)) * taken.scale
    return values
