"""From a raw sample to the model's input: a list of steps an input, or a short table for the usual ones of an image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from pocketforge.recipe.faults import Fault, WrongTable
from pocketforge.recipe.image_steps import (
    MEAN,
    STD,
    Cast,
    CenterCrop,
    Color,
    Layout,
    Normalize,
    Pad,
    Resize,
    Scale,
    size_faults,
)
from pocketforge.recipe.names import Layout as ImageLayout
from pocketforge.recipe.names import check_name, suggest
from pocketforge.recipe.preprocess_rules import list_faults
from pocketforge.recipe.ranges import Range, range_faults
from pocketforge.recipe.sound_steps import LogMel, Mfcc, Mono, PadOrTrim, Pcm, Resample, Tokenize

Step: TypeAlias = (
    Resize
    | CenterCrop
    | Pad
    | Color
    | Scale
    | Normalize
    | Cast
    | Layout
    | Resample
    | Mono
    | PadOrTrim
    | Pcm
    | LogMel
    | Mfcc
    | Tokenize
)
STEPS: dict[str, type[Step]] = {
    "resize": Resize,
    "center_crop": CenterCrop,
    "pad": Pad,
    "color": Color,
    "scale": Scale,
    "normalize": Normalize,
    "cast": Cast,
    "layout": Layout,
    "resample": Resample,
    "mono": Mono,
    "pad_or_trim": PadOrTrim,
    "log_mel": LogMel,
    "mfcc": Mfcc,
    "tokenize": Tokenize,
}
# Distributions that some step calls, besides what every build needs.
STEP_LIBRARIES = ("opencv-python-headless", "soxr", "transformers", "scipy", "tokenizers")
# The largest list that anybody needs; each is done to every sample.
_MOST_STEPS = 50


@dataclass(frozen=True, slots=True)
class Preprocess:
    """The usual steps of one image (H×W×C, the source's own range), in the order that they stand here.

    Attributes:
        resize: [height, width] in pixels, bilinear as Pillow does it; empty leaves the size.
        color: Channels: as they are, 3 or 1. It comes before resize.
        scale: The raw value that becomes 1.0; 0 leaves values as they are, None is the source's own maximum.
        mean: Subtracted after scaling: one value, or one a channel; empty for none.
        std: Divided by after that; as long as `mean`.
        layout: Of the PyTorch model's input.
    """

    resize: tuple[int, ...] = ()
    color: Literal["as_is", "rgb", "grayscale"] = "as_is"
    scale: float | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    layout: ImageLayout = "NCHW"

    RANGES: ClassVar[Mapping[str, Range]] = {"scale": Range(0, 1e9), "mean": MEAN, "std": STD}

    def __post_init__(self) -> None:
        faults = size_faults(self.resize, "resize")
        if len(self.mean) != len(self.std):
            faults.append(Fault(f"mean and std must be equally long, found {len(self.mean)} and {len(self.std)}"))
        if any(value <= 0 for value in self.std):
            faults.append(Fault(f"std must be more than 0, found {list(self.std)}"))
        if self.scale is not None and self.scale < 0:
            faults.append(Fault(f"scale must be 0 (leave as is) or more, found {self.scale}"))
        if not faults:
            faults = [Fault(fault) for fault in range_faults(self)]
        if faults:
            raise WrongTable(*faults)

    def steps(self, value_max: float) -> tuple[Step, ...]:
        """The same as a list. value_max: the source's own maximum; 0 where nothing says one."""
        scale = value_max if self.scale is None else self.scale
        found: list[Step] = []
        if self.color != "as_is":
            found.append(Color(self.color))
        if self.resize:
            found.append(Resize(size=self.resize))
        found.append(Cast("float32"))
        if scale:
            found.append(Scale(by=float(scale)))
        if self.mean:
            found.append(Normalize(self.mean, self.std))
        return (*found, Layout(self.layout))


@dataclass(frozen=True, slots=True)
class InputSteps:
    """What is done to one of a sample's inputs, in order; nothing is done besides.

    Attributes:
        step: The steps; none feeds the input as it is.
        input: The model's input that it makes, or the first of several (tokenize); empty where there is one list.
    """

    step: tuple[Step, ...] = ()
    input: str = ""

    def __post_init__(self) -> None:
        if self.input:
            check_name(self.input, "an input's name")
        if len(self.step) > _MOST_STEPS:
            raise WrongTable(Fault(f"wanted at most {_MOST_STEPS} steps, found {len(self.step)}", "step"))
        faults = list_faults(self.step)
        if faults:
            raise WrongTable(*faults)

    @property
    def kind(self) -> str:
        """What it is done to: image, sound or text; empty where its steps are for any numbers."""
        return next((kind for step in self.step if (kind := step.KIND)), "")

    @property
    def layout(self) -> str:
        """Of the model's input, as the last step says; empty where none does."""
        return next((step.to for step in self.step if isinstance(step, Layout)), "")

    @property
    def gives(self) -> int:
        """How many inputs of the model it makes."""
        return next((len(step.gives) for step in self.step if isinstance(step, Tokenize)), 1)

    @property
    def files(self) -> Iterator[tuple[str, str]]:
        """Place of a key in the list → the file that it names."""
        for index, step in enumerate(self.step):
            if isinstance(step, Tokenize):
                yield f"step[{index}].file", step.file

    @property
    def libraries(self) -> tuple[str, ...]:
        """Distributions that its steps call, besides what every build needs."""
        return tuple(sorted({name for step in self.step for name in getattr(step, "libraries", ())}))


# As `data.preprocess` is written; None leaves samples as they are, and scales images.
Preprocessing: TypeAlias = Preprocess | tuple[InputSteps, ...] | None


def lists_of(preprocess: Preprocessing) -> tuple[InputSteps, ...]:
    """The lists, where the recipe writes lists."""
    return preprocess if isinstance(preprocess, tuple) else ()


def preprocessing_faults(lists: tuple[InputSteps, ...]) -> list[Fault]:
    """What is wrong with several lists as such."""
    faults = []
    names = [each.input for each in lists]
    if len(lists) > 1 and "" in names:
        at = f"[{names.index('')}].input"
        faults.append(Fault("with several lists each needs input: the name of the model's input that it makes", at))
    for name in sorted({name for name in names if name and names.count(name) > 1}):
        faults.append(Fault(f"wanted one list for each input, found {names.count(name)} for {name!r}"))
    layouts = {each.layout for each in lists if each.kind == "image"}
    if len(layouts) > 1:
        found = " and ".join(sorted(layout or "none" for layout in layouts))
        faults.append(Fault(f"wanted one layout for all images of a model, found {found}"))
    return faults


def name_faults(lists: tuple[InputSteps, ...], names: tuple[str, ...]) -> list[Fault]:
    """Where lists are not of the model's inputs, in their order. names: those that the recipe gives; () for none."""
    if not lists or not names:
        return []
    faults = []
    made = sum(each.gives for each in lists)
    if made != len(names):
        faults.append(Fault(f"its lists make {made} inputs, the model takes {len(names)}: {', '.join(names)}"))
    position = 0
    for number, each in enumerate(lists):
        at = f"[{number}].input" if len(lists) > 1 else "input"
        if each.input and each.input not in names:
            faults.append(Fault(f"no input of the model is named {each.input!r}{suggest(each.input, names)}", at))
        elif each.input and not faults and each.input != names[position]:
            faults.append(Fault(f"lists stand in the order of the model's inputs: wanted {names[position]!r} here", at))
        position += each.gives
    return faults
