"""How a model file that we did not export fits the samples and the answers that it is held against.

By name where the names are the same, else by shape where only one fits, else not at all: a guess between two tensors of
one shape would judge a file by the wrong numbers. What differs is one error, with what to write. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pocketforge.errors import ModelError
from pocketforge.outcomes.tensors import TensorSpec

# What converters put before and behind a tensor's own name.
_ADDED = re.compile(r"\A(?:serving_default_|.*/)|:\d+\Z")
_NO_WORD = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Given:
    """What there is for one input, or is wanted of one output.

    Attributes:
        name: As the recipe or the reference has it; empty where nobody names it.
        shape: Of one sample, without a batch.
        dtype: NumPy's name of it.
        layout: NCHW or NHWC of images; empty of others.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    layout: str = ""

    def __str__(self) -> str:
        words = f"{self.dtype} {list(self.shape)}{f' ({self.layout})' if self.layout else ''}"
        return f"{self.name} {words}" if self.name else words


def fit_inputs(file: str, taken: Sequence[TensorSpec], given: Sequence[Given]) -> tuple[int, ...]:
    """The place of the samples that each of a file's inputs gets. Raises ModelError."""
    if len(taken) != len(given):
        raise _unfit(file, f"it takes {len(taken)} inputs ({_told(taken)})", given, "give a sample that many inputs")
    places = _by_name(taken, given) or _by_shape(taken, given)
    if places is None:
        raise _unfit(
            file,
            f"which of its inputs ({_told(taken)}) gets which is not told by names, nor by shapes that only one has",
            given,
            "name the inputs in [[data.preprocess]] (input = NAME) as the file does, or let their shapes differ"
            if all(each.name for each in taken)
            else "the file names no inputs: only shapes that differ tell them apart",
        )
    for tensor, place in zip(taken, places, strict=True):
        _check_shape(file, tensor, given[place])
    return places


def fit_outputs(file: str, gives: Sequence[TensorSpec], wanted: Sequence[Given]) -> tuple[int, ...]:
    """The place of the answer that each of a file's outputs is held against. Raises ModelError."""
    if len(gives) != len(wanted):
        raise ModelError(
            f"{file} gives {len(gives)} outputs ({_told(gives)}), and what it is held against {len(wanted)} "
            f"({', '.join(map(str, wanted))}): every output is compared",
            "leave outputs out of the model ([[output]] keep = false), or hold the file against nothing",
        )
    places = _by_name(gives, wanted) or _by_shape(gives, wanted)
    if places is None:
        raise ModelError(
            f"{file}: which of its outputs ({_told(gives)}) is which of {', '.join(map(str, wanted))} is not told by "
            "names, nor by shapes that only one has",
            "name the model's outputs as the file does (model.outputs)",
        )
    for tensor, place in zip(gives, places, strict=True):
        if not _fits((1, *wanted[place].shape), tensor.shape):
            raise ModelError(
                f"{file} gives {tensor}, and what it is held against {wanted[place]}, without the batch",
                "is it a file of this model? Outputs are compared as they are: other classes or another layout are not",
            )
    return places


def layout_in(tensor: TensorSpec, given: Given) -> str:
    """Of an image input as the file takes it; empty for what is no image."""
    if not given.layout or len(given.shape) != 3:
        return ""
    return given.layout if _fits((1, *given.shape), tensor.shape) else "NHWC"


def check_layout(file: str, tensor: TensorSpec, found: str, asked: str) -> None:
    """Raises ModelError where the recipe says another layout than the file has."""
    if asked and found and asked != found:
        raise ModelError(
            f'{file}: layout = "{asked}" is asked for, and {tensor} is {found}',
            f'write layout = "{found}", or leave it out: samples are fed as the file takes them',
        )


def plain_names(tensors: Sequence[TensorSpec]) -> list[str]:
    """Without what converters put before and behind."""
    return [_ADDED.sub("", each.name) for each in tensors]


def clean_names(gives: Sequence[TensorSpec]) -> tuple[str, ...]:
    """Names for outputs that are held against nothing: the file's own, of the letters that a budget can name."""
    names: list[str] = []
    for place, tensor in enumerate(gives):
        plain = "output" if len(gives) == 1 else f"output_{place}"
        name = _NO_WORD.sub("_", tensor.name).strip("._-") or plain
        names.append(name if name not in names else f"{name}_{place}")
    return tuple(names)


def _by_name(tensors: Sequence[TensorSpec], known: Sequence[Given]) -> tuple[int, ...] | None:
    names = [each.name for each in known]
    for found in ([each.name for each in tensors], plain_names(tensors)):
        if len(set(names)) == len(names) and sorted(found) == sorted(names):
            return tuple(names.index(name) for name in found)
    return None


def _by_shape(tensors: Sequence[TensorSpec], known: Sequence[Given]) -> tuple[int, ...] | None:
    if len(tensors) == len(known) == 1:
        return (0,)
    fitting = [[place for place, each in enumerate(known) if _takes(tensor, each)] for tensor in tensors]
    if any(len(places) != 1 for places in fitting):
        return None
    places = tuple(place for (place,) in fitting)
    return places if len(set(places)) == len(places) else None


def _takes(tensor: TensorSpec, given: Given) -> bool:
    return _fits((1, *given.shape), tensor.shape) or _fits(_moved(given.shape), tensor.shape)


def _moved(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Channels last, as the runner moves them where only that fits."""
    return (1, *shape[1:], shape[0]) if len(shape) == 3 else ()


def _fits(shape: tuple[int, ...], taken: tuple[int, ...]) -> bool:
    return len(shape) == len(taken) and all(t in (-1, n) for n, t in zip(shape, taken, strict=True))


def _check_shape(file: str, tensor: TensorSpec, given: Given) -> None:
    if not _takes(tensor, given):
        raise _unfit(file, f"its input is {tensor}", [given], _what_to_write(tensor.shape, given))


def _what_to_write(taken: tuple[int, ...], given: Given) -> str:
    """For an input whose samples have another shape."""
    if taken and taken[0] > 1:
        return (
            f"files are run on one sample at a time, this takes {taken[0]}: export it with a batch of 1, or an open one"
        )
    if len(taken) != 4 or len(given.shape) != 3:
        return "data.preprocess has to make samples of that shape"
    height, width, channels = given.shape
    if _fits((1, channels, height, width), taken):
        return 'write layout = "NCHW" in [data.preprocess]: samples have their channels last, the file has them first'
    if given.layout != "NHWC":
        channels, height, width = given.shape
    # The channels are where the fewest are.
    first = taken[1] <= taken[3] if taken[1] > 0 and taken[3] > 0 else taken[1] > 0
    size, planes = (taken[2:], taken[1]) if first else (taken[1:3], taken[3])
    words = [f"resize = {list(size)}"] if size != (height, width) and -1 not in size else []
    color = {1: "grayscale", 3: "rgb"}.get(planes, "")
    words += [f'color = "{color}"'] if color and planes != channels else []
    return (
        f"write in [data.preprocess]: {' and '.join(words)}"
        if words
        else "data.preprocess has to make samples of that shape"
    )


def _unfit(file: str, what: str, given: Sequence[Given], hint: str) -> ModelError:
    samples = "; ".join(map(str, given))
    return ModelError(f"{file} does not take these samples: {what}, a sample has {samples}", hint)


def _told(tensors: Sequence[TensorSpec]) -> str:
    return ", ".join(map(str, tensors))
