"""A recipe's preprocessing and post-processing, cut in two: what an app has to do, and what a file does itself.

Outside stays what makes pixels (or samples of sound) of the right number: an app has to do it. Inside goes all
arithmetic after that, as it stands in the recipe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pocketforge.recipe.faults import Fault, WrongTable
from pocketforge.recipe.image_steps import Cast, Color, Layout, Normalize, Pad, Scale
from pocketforge.recipe.output import Output, Post
from pocketforge.recipe.package import Package
from pocketforge.recipe.preprocess import InputSteps, Preprocess, Preprocessing, Step
from pocketforge.recipe.sound_steps import LogMel, Pcm, Tokenize

# What each can be done to, by the output's role.
ROLES_OF: dict[str, tuple[str, ...]] = {
    "softmax": ("logits",),
    "sigmoid": ("multilabel", "binary"),
    "argmax": ("logits", "segmentation"),
    "masks": ("segmentation",),
}
# Metrics that class numbers alone give.
OF_NUMBERS = frozenset({"accuracy_top1", "macro_f1", "micro_f1", "f1_worst_class"})
_ARITHMETIC = (Scale, Normalize, Layout)
_FEATURES = "it makes other numbers than an app decodes, and no runtime has it as an operator"
# Step → why it cannot go inside, and the way out.
_REFUSED: tuple[tuple[type, str], ...] = (
    (LogMel, f"{_FEATURES}: compute it in forward() from the waveform, or leave preprocess outside"),
    (Tokenize, "no runtime reads texts: leave preprocess outside"),
)


@dataclass(frozen=True, slots=True)
class Inside:
    """What a file does to one of its inputs.

    Attributes:
        kind: image, sound, or empty for any numbers.
        steps: In order; of an image's only the values, its planes are moved by `layout`.
        reverses_channels: Whether the channels are turned round first, RGB to BGR.
        layout: Of the file's input, NCHW or NHWC of images; else empty.
        model_layout: Of the model's input: of images, and of sound (NT, NCT); else empty.
    """

    kind: str
    steps: tuple[Step, ...] = ()
    reverses_channels: bool = False
    layout: str = ""
    model_layout: str = ""


@dataclass(frozen=True, slots=True)
class Cut:
    """A recipe's preprocessing in two parts.

    Attributes:
        outside: What makes the file's inputs.
        inside: What the file does to each.
    """

    outside: tuple[InputSteps, ...]
    inside: tuple[Inside, ...]


def cut(preprocess: Preprocessing, layout: str, *, images: bool) -> Cut:
    """Cut a recipe's preprocessing. layout: of images, as the file takes them. images: whether the source's samples
    are. Raises WrongTable, each fault with its place in `preprocess`."""
    if isinstance(preprocess, Preprocess) or (preprocess is None and images):
        short = preprocess or Preprocess()
        lists: tuple[InputSteps, ...] = (InputSteps(written_out(short)),)
        images = True
    else:
        lists = preprocess or ()
    if not lists:
        raise WrongTable(Fault("there is nothing to put inside: write [data.preprocess], or leave preprocess outside"))
    several = len(lists) > 1
    faults: list[Fault] = []
    parts = []
    for number, each in enumerate(lists):
        kind = each.kind or ("image" if images and not several else "")
        found = [fault.inside(f"[{number}]" if several else "") for fault in _faults(each.step)]
        faults += found
        if not found:
            parts.append(_cut_list(each, kind, layout))
    if faults:
        raise WrongTable(*faults)
    return Cut(tuple(each for each, _ in parts), tuple(inside for _, inside in parts))


def written_out(short: Preprocess) -> tuple[Step, ...]:
    """The steps of a short table; one without a scale is left in, for the source's own maximum."""
    asked = short.steps(0.0)
    if short.scale is not None:
        return asked
    place = next(index for index, step in enumerate(asked) if isinstance(step, Cast))
    return (*asked[: place + 1], Scale(), *asked[place + 1 :])


def _is_inside(step: Step) -> bool:
    return isinstance(step, _ARITHMETIC) or (isinstance(step, Cast) and step.to == "float32")


def _faults(steps: Sequence[Step]) -> list[Fault]:
    """What cannot be cut: steps that no file does, and those that an app would have to do after the file's."""
    faults = []
    first = next((index for index, step in enumerate(steps) if _is_inside(step)), len(steps))
    for index, step in enumerate(steps):
        why = next((words for kind, words in _REFUSED if isinstance(step, kind)), "")
        if why:
            faults.append(Fault(f"{step.type} cannot go inside: {why}", f"step[{index}]"))
        elif index > first and not _is_inside(step):
            faults.append(
                Fault(
                    f"{step.type} cannot go inside (an app does it: runtimes do it otherwise), and it comes after "
                    f"{steps[first].type}, which does: put {step.type} before it, or leave preprocess outside",
                    f"step[{index}]",
                )
            )
    return faults


def _cut_list(each: InputSteps, kind: str, layout: str) -> tuple[InputSteps, Inside]:
    first = next((index for index, step in enumerate(each.step) if _is_inside(step)), len(each.step))
    before, after = each.step[:first], each.step[first:]
    values = tuple(step for step in after if not isinstance(step, Layout))
    if kind == "sound":
        pcm = Pcm()
        inside = Inside(kind, (Scale(by=float(pcm.full_scale)), *values), model_layout=each.layout or "NT")
        return replace(each, step=(*before, pcm)), inside
    if kind != "image":
        return replace(each, step=before), Inside(kind, values)
    model = each.layout or "NHWC"
    taken = "NHWC" if model == "NHWC" else layout
    plain, reverses = _in_rgb(before)
    return replace(each, step=(*plain, Layout(_image(taken)))), Inside(kind, values, reverses, taken, model)


def _image(layout: str) -> Literal["NCHW", "NHWC"]:
    return "NHWC" if layout == "NHWC" else "NCHW"


def _in_rgb(steps: Sequence[Step]) -> tuple[list[Step], bool]:
    """The steps in the order of channels that apps decode, and whether they ended in BGR: that is the file's to do."""
    found: list[Step] = []
    reverses = False
    for step in steps:
        if isinstance(step, Color):
            reverses = step.to == "bgr"
            found.append(Color("rgb") if reverses else step)
        elif isinstance(step, Pad) and reverses:
            found.append(replace(step, value=step.value[::-1]))
        else:
            found.append(step)
    return found, reverses


def packed_output(package: Package, judged: Sequence[Output]) -> Output | None:
    """The recipe's output that postprocess is done to; None without one, or where none fits."""
    able = ROLES_OF.get(package.postprocess, ())
    return next((each for each in judged if each.role in able and package.output in ("", each.name)), None)


def judged_as_packed(package: Package, judged: Sequence[Output]) -> tuple[Output, ...]:
    """By what a file's outputs are judged: what it does itself is not done again."""
    packed = packed_output(package, judged)
    return tuple(_done(package, each) if each is packed else each for each in judged)


def _done(package: Package, output: Output) -> Output:
    if package.postprocess == "masks":
        return output  # the largest share is the largest score's
    left = output.taken
    if package.postprocess == "argmax" and output.role == "logits":
        left = tuple(name for name in left if name in OF_NUMBERS)
    return replace(output, post=Post("none"), metrics=left)
