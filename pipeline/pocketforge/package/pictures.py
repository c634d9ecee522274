"""Steps that make a picture of any size fit the model, as generated code does them: to the bit of the data stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pocketforge.errors import ModelError
from pocketforge.package.steps import changes_values

Words = Mapping[str, Any]
ValueType = Literal["uint8", "float32"]
# Whose arithmetic is written → its filters that are. Lanczos needs sines, which are each language's own library's.
WRITTEN: Mapping[str, tuple[str, ...]] = {
    "pil": ("nearest", "bilinear", "bicubic", "area"),
    "opencv": ("nearest", "bilinear"),
    "tf": ("nearest", "bilinear", "bicubic", "area"),
    "align_corners": ("bilinear",),
    "mediapipe": ("bilinear",),
}
_FLOATS = ("tf", "align_corners")


@dataclass(frozen=True, slots=True)
class Resize:
    """Another size, in one of three ways.

    Attributes:
        way: size: stretched to height and width. shorter: the shorter side becomes `height`, the other follows.
            within: as large as fits into height and width.
        height: In pixels.
        width: In pixels; 0 with shorter.
        nearest: Whether the side that follows is rounded to the nearest number, half to even; else down.
        filter: How pixels between pixels are made.
        like: Whose arithmetic.
        smooths: Whether it smooths when it shrinks.
    """

    way: Literal["size", "shorter", "within"]
    height: int
    width: int
    nearest: bool
    filter: str
    like: str
    smooths: bool

    @property
    def is_float(self) -> bool:
        """Whether float32 comes out of bytes."""
        return self.like in _FLOATS and self.filter != "nearest"


@dataclass(frozen=True, slots=True)
class Crop:
    """The middle.

    Attributes:
        height: In pixels.
        width: In pixels.
        half_even: Whether half a pixel above and on the left goes to the even number; else down.
    """

    height: int
    width: int
    half_even: bool


@dataclass(frozen=True, slots=True)
class Pad:
    """More pixels around, by so many or up to a size.

    Attributes:
        mode: constant, edge or reflect.
        value: Of constant: one, or one a channel.
        by: Left, top, right, bottom; empty with a size.
        height: Of the result; 0 with `by`.
        width: Of the result; 0 with `by`.
        center: Whether the picture is in the middle of the size; else it is at the top on the left.
    """

    mode: str
    value: tuple[float, ...]
    by: tuple[int, ...]
    height: int
    width: int
    center: bool


@dataclass(frozen=True, slots=True)
class Reverse:
    """RGB to BGR, or back."""


@dataclass(frozen=True, slots=True)
class Gray:
    """One channel of RGB in bytes: Pillow's integers."""


@dataclass(frozen=True, slots=True)
class Round:
    """Bytes of floats, half to even; what does not fit is refused."""


PictureStep = Resize | Crop | Pad | Reverse | Gray | Round


@dataclass(frozen=True, slots=True)
class Fitting:
    """What is done to a picture of any size, in bytes, height × width × channels.

    Attributes:
        channels: Of the picture that is given: 3 are RGB.
        words: What is done, in the sidecar's words.
        steps: The same as code has it, in order.
        types: What each step gives, bytes or floats; the last is what the class's own steps take.
        shape: Of what has to come out: (height, width, channels).
        drops_alpha_first: Whether transparency is dropped before anything else is done, of samples that have some.
    """

    channels: int
    words: tuple[Words, ...]
    steps: tuple[PictureStep, ...]
    types: tuple[ValueType, ...]
    shape: tuple[int, int, int]
    drops_alpha_first: bool = True

    @property
    def dtype(self) -> ValueType:
        """Of what comes out."""
        return self.types[-1]

    @property
    def placed(self) -> list[Placed]:
        """Each step with what it is given."""
        found: list[Placed] = []
        channels = self.channels
        before: ValueType = "uint8"
        for step, after in zip(self.steps, self.types, strict=True):
            found.append(Placed(type(step).__name__, step, channels, before, after))
            channels, before = (1 if isinstance(step, Gray) else channels), after
        return found

    @property
    def needs(self) -> frozenset[str]:
        """Parts of the code that its steps call."""
        found = {type(step).__name__ for step in self.steps}
        resizes = [step for step in self.steps if isinstance(step, Resize)]
        found |= {f"way_{step.way}" for step in resizes} | {f"{step.like}_{step.filter}" for step in resizes}
        found |= {"rint" for step in resizes if step.way != "size" and step.nearest}
        found |= {"rint" for step in self.steps if isinstance(step, Crop) and step.half_even}
        found |= {need for each in self.placed if each.rounds for need in ("rint", "rounded_float32")}
        kinds = {"pil": "pillow", "tf": "tensorflow", "opencv": "opencv", "mediapipe": "mediapipe"}
        found |= {kinds.get(step.like, step.like) for step in resizes if step.filter != "nearest"}
        found |= {f"pad_{step.mode}" for step in self.steps if isinstance(step, Pad)}
        for each in self.placed:
            if each.picks:
                found.add(f"picked_{each.before}")
            elif isinstance(each.step, Resize) and each.step.is_float:
                found |= {f"weighted_{each.before}", "weighted_float32"}  # of the first pass, and of the second
            elif isinstance(each.step, Reverse):
                found.add(f"reversed_{each.before}")
        return frozenset(found)


@dataclass(frozen=True, slots=True)
class Placed:
    """A step with what it is given.

    Attributes:
        kind: Name of the step's class.
        step: Its settings.
        channels: Of what it is given.
        before: Type of what it is given.
        after: Type of what it gives.
    """

    kind: str
    step: PictureStep
    channels: int
    before: ValueType
    after: ValueType

    @property
    def rounds(self) -> bool:
        """Whether values change: bytes stay what they are."""
        return isinstance(self.step, Round) and self.before == "float32"

    @property
    def picks(self) -> bool:
        """Whether each pixel of the result is one of the picture's, or the padding's."""
        return isinstance(self.step, Crop | Pad) or (isinstance(self.step, Resize) and self.step.filter == "nearest")


def fitting(left: Sequence[Words], shape: Sequence[int]) -> tuple[tuple[Words, ...], Fitting | None]:
    """What is still left to the app of the steps before the class's own, and the rest as code; None without any.

    shape: of what the class's own steps take. Left are what made the picture of its file. Raises ModelError for a step
    that no code is written for, with its name.
    """
    first = next((place for place, words in enumerate(left) if words["step"] in _MADE), len(left))
    asked = left[first:]
    if not any(words["step"] in ("resize", "center_crop", "pad") for words in asked) or len(shape) != 3:
        return tuple(left), None
    for words in left:
        if words["step"] not in _MADE and (changes_values(words) or words in asked):
            raise ModelError(f"{words['step']} among the steps of pictures")
    names = [words["step"] for words in asked]
    if "grayscale" in names and "rgb" in names[names.index("grayscale") :]:
        raise ModelError("rgb of a picture made gray")
    steps = tuple(step for words in asked for step in _MADE[str(words["step"])](words))
    colours = any(words["step"] in ("rgb", "grayscale") for words in asked)
    channels = 3 if colours else shape[-1]
    if channels not in (1, 3):
        raise ModelError(f"pictures of {channels} channels, which libraries weigh by the last of them")
    sides = (shape[0], shape[1], shape[2])
    drops = asked[0]["step"] in ("rgb", "grayscale")
    return tuple(left[:first]), Fitting(channels, tuple(asked), steps, _types(steps), sides, drops)


def _types(steps: Sequence[PictureStep]) -> tuple[ValueType, ...]:
    """What each step gives. Raises ModelError where one is given what it is not written for."""
    types: list[ValueType] = []
    now: ValueType = "uint8"
    for step in steps:
        if isinstance(step, Gray) and now == "float32":
            raise ModelError("grayscale of floats, whose sums' order hangs on the processor")
        if isinstance(step, Resize):
            if now == "float32" and not (step.is_float or step.filter == "nearest"):
                raise ModelError(f"resize of floats like {step.like}")
            now = "float32" if step.is_float else now
        elif isinstance(step, Round):
            now = "uint8"
        elif isinstance(step, Pad) and now == "uint8" and any(not _is_byte(value) for value in step.value):
            raise ModelError(f"pad of bytes with {list(step.value)}")
        types.append(now)
    return tuple(types)


def _is_byte(value: float) -> bool:
    return 0 <= value <= 255 and value == int(value)


def _resize(words: Words) -> Sequence[PictureStep]:
    like, name = str(words.get("like", "pil")), str(words["filter"])
    if name not in WRITTEN.get(like, ()):
        raise ModelError(f"resize with filter {name} like {like}")
    nearest, smooths = words.get("rounding") == "nearest", bool(words["antialias"])
    if "shorter" in words:
        return (Resize("shorter", int(words["shorter"]), 0, nearest, name, like, smooths),)
    if "fit_height" in words:
        box = (int(words["fit_height"]), int(words["fit_width"]))
        return (Resize("within", *box, nearest, name, like, smooths),)
    return (Resize("size", int(words["height"]), int(words["width"]), nearest, name, like, smooths),)


def _pad(words: Words) -> Sequence[PictureStep]:
    value = tuple(float(each) for each in words.get("value", ()))
    mode = str(words["mode"])
    if "place" in words:
        return (Pad(mode, value, (), int(words["height"]), int(words["width"]), words["place"] == "center"),)
    sides = tuple(int(words[side]) for side in ("left", "top", "right", "bottom"))
    return (Pad(mode, value, sides, 0, 0, center=False),)


def _crop(words: Words) -> Sequence[PictureStep]:
    return (Crop(int(words["height"]), int(words["width"]), words["rounding"] == "half_even"),)


def _cast(words: Words) -> Sequence[PictureStep]:
    if words["dtype"] != "uint8":
        raise ModelError(f"cast of pictures to {words['dtype']}")
    return (Round(),)


_MADE: dict[str, Callable[[Words], Sequence[PictureStep]]] = {
    "resize": _resize,
    "center_crop": _crop,
    "pad": _pad,
    "rgb": lambda words: (),
    "reverse_channels": lambda words: (Reverse(),),
    "grayscale": lambda words: (Gray(),),
    "cast": _cast,
}
