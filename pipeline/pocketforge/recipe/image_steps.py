"""Steps of preprocessing that are done to images, and those that are done to any numbers: what each may say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from pocketforge.recipe.faults import Fault, WrongTable
from pocketforge.recipe.ranges import Range, range_faults

# Of one sample: 200 MB as float32 RGB. Anything larger is a slip, and would fill memory in the middle of a build.
MOST_PIXELS = 4096 * 4096
SIDE = Range(1, 65_536, unit="pixels")
SIDE_OR_NONE = Range(0, 65_536, unit="pixels")
MEAN, STD = Range(-1e6, 1e6), Range(1e-6, 1e6)
Like = Literal["pil", "opencv", "tf", "align_corners", "mediapipe"]
Filter = Literal["nearest", "bilinear", "bicubic", "area", "lanczos"]
# Whether each smooths by itself when an image shrinks; None: as the recipe says, and not unless it does.
SMOOTHS: Mapping[str, bool | None] = {
    "pil": True,
    "opencv": False,
    "tf": None,
    "align_corners": False,
    "mediapipe": False,
}
# They are one arithmetic each.
_BILINEAR_ONLY = ("align_corners", "mediapipe")


def size_faults(size: tuple[int, ...], what: str) -> list[Fault]:
    """What is wrong with [height, width]; nothing with an empty one."""
    if size and (len(size) != 2 or min(size) < 1):
        return [Fault(f"{what} must be [height, width], found {list(size)}")]
    if size and size[0] * size[1] > MOST_PIXELS:
        most = f"of at most {MOST_PIXELS:,} pixels in all"
        return [Fault(f"{what} must be [height, width] {most}, found {list(size)}")]
    return []


@dataclass(frozen=True, slots=True)
class Resize:
    """Another size, in one of four ways: stretched to `size`, or with its aspect kept.

    Attributes:
        type: Of the step.
        size: [height, width] in pixels, whatever the aspect was.
        shorter: The shorter side, in pixels; the other follows. 0: not this way.
        longest: The longest side, in pixels; the other follows. 0: not this way.
        fit: [height, width] that the whole image fits into, as large as may be; a `pad` after it makes a letterbox.
        filter: How pixels between pixels are made.
        like: Whose arithmetic: Pillow's, OpenCV's, TensorFlow's (tf.image.resize), that of `align_corners = True`
            (PyTorch's interpolate, TensorFlow 1), or what MediaPipe Tasks does on the CPU.
        antialias: Whether it smooths when it shrinks; None: as `like` does by itself.
        rounding: Of the side that follows; None: down for shorter (torchvision), nearest for longest and fit
            (Ultralytics' letterbox).
    """

    type: Literal["resize"] = "resize"
    size: tuple[int, ...] = ()
    shorter: int = 0
    longest: int = 0
    fit: tuple[int, ...] = ()
    filter: Filter = "bilinear"
    like: Like = "pil"
    antialias: bool | None = None
    rounding: Literal["down", "nearest"] | None = None

    KIND: ClassVar[str] = "image"
    RANGES: ClassVar[Mapping[str, Range]] = {
        "size": SIDE,
        "shorter": SIDE_OR_NONE,
        "longest": SIDE_OR_NONE,
        "fit": SIDE,
    }

    def __post_init__(self) -> None:
        faults = [Fault(fault) for fault in range_faults(self)]
        faults += [*size_faults(self.size, "size"), *size_faults(self.fit, "fit")]
        ways = [name for name in ("size", "shorter", "longest", "fit") if getattr(self, name)]
        if len(ways) != 1:
            found = " and ".join(ways) or "none"
            faults.append(Fault(f"wanted one of size, shorter, longest and fit, found {found}"))
        elif self.size and self.rounding:
            faults.append(Fault("rounding is of the side that follows: with size none does", "rounding"))
        if max(self.shorter, self.longest) ** 2 > MOST_PIXELS:
            faults.append(Fault(f"wanted sides of at most {int(MOST_PIXELS**0.5):,} pixels, found {ways[0]}"))
        smooths = SMOOTHS[self.like]
        if self.like in _BILINEAR_ONLY and self.filter != "bilinear":
            faults.append(Fault(f"like {self.like} is bilinear, found filter {self.filter}", "filter"))
        if self.like == "mediapipe" and not self.size:
            faults.append(Fault("like mediapipe stretches to size, found another way", "like"))
        if self.antialias is not None and self.filter in ("nearest", "area"):
            faults.append(Fault(f"filter {self.filter} has no antialias to choose", "antialias"))
        elif smooths is not None and self.antialias not in (None, smooths):
            does = "always" if smooths else "never"
            other = 'like = "tf" can do without' if smooths else 'like = "pil" and like = "tf" can'
            faults.append(Fault(f"like {self.like} {does} smooths when it shrinks: {other}", "antialias"))
        if faults:
            raise WrongTable(*faults)

    @property
    def smooths(self) -> bool:
        """Whether it smooths when it shrinks."""
        if self.filter == "nearest":
            return False
        return bool(SMOOTHS[self.like] if self.antialias is None else self.antialias) or self.filter == "area"

    @property
    def rounds(self) -> str:
        """How the side that follows is rounded."""
        return self.rounding or ("down" if self.shorter else "nearest")

    @property
    def libraries(self) -> tuple[str, ...]:
        return ("opencv-python-headless",) if self.like == "opencv" else ()


@dataclass(frozen=True, slots=True)
class CenterCrop:
    """The middle of the image. One that is smaller is refused.

    Attributes:
        type: Of the step.
        size: [height, width] in pixels.
        rounding: Of half a pixel above and on the left: half_even is torchvision's, down is TensorFlow's.
    """

    size: tuple[int, ...]
    type: Literal["center_crop"] = "center_crop"
    rounding: Literal["half_even", "down"] = "half_even"

    KIND: ClassVar[str] = "image"
    RANGES: ClassVar[Mapping[str, Range]] = {"size": SIDE}

    def __post_init__(self) -> None:
        faults = [Fault(fault) for fault in range_faults(self)] + size_faults(self.size, "size")
        if not self.size:
            faults.append(Fault("size must be [height, width], found []"))
        if faults:
            raise WrongTable(*faults)


@dataclass(frozen=True, slots=True)
class Pad:
    """More pixels around the image, up to a size or by so many.

    Attributes:
        type: Of the step.
        size: [height, width] of the result; an image that is larger is refused.
        by: [left, top, right, bottom] in pixels, as torchvision's Pad takes them.
        place: Where the image is in `size`; of an odd pixel, center puts one more below and on the right.
        mode: With `value`, with the pixels at the edge, or mirrored without them.
        value: In the image's units as they are then: one, or one a channel.
    """

    type: Literal["pad"] = "pad"
    size: tuple[int, ...] = ()
    by: tuple[int, ...] = ()
    place: Literal["center", "top_left"] = "center"
    mode: Literal["constant", "edge", "reflect"] = "constant"
    value: tuple[float, ...] = (0.0,)

    KIND: ClassVar[str] = "image"
    RANGES: ClassVar[Mapping[str, Range]] = {"size": SIDE, "by": SIDE_OR_NONE, "value": MEAN}

    def __post_init__(self) -> None:
        faults = [Fault(fault) for fault in range_faults(self)] + size_faults(self.size, "size")
        if bool(self.size) == bool(self.by):
            faults.append(Fault("wanted size or by, one of them"))
        if self.by and len(self.by) != 4:
            faults.append(Fault(f"by must be [left, top, right, bottom], found {list(self.by)}"))
        if not self.value:
            faults.append(Fault("wanted one value, or one a channel, found none", "value"))
        if faults:
            raise WrongTable(*faults)


@dataclass(frozen=True, slots=True)
class Color:
    """Which channels an image has, and their order. Transparency is dropped, gray is repeated.

    Attributes:
        to: The channels; grayscale is 0.299 R + 0.587 G + 0.114 B, in Pillow's integers where values are 8-bit.
        type: Of the step.
    """

    to: Literal["rgb", "bgr", "grayscale"]
    type: Literal["color"] = "color"

    KIND: ClassVar[str] = "image"

    @property
    def channels(self) -> int:
        return 1 if self.to == "grayscale" else 3


@dataclass(frozen=True, slots=True)
class Scale:
    """Divided by a value, in float32.

    Attributes:
        type: Of the step.
        by: The value that becomes 1.0; None: the largest of the source's images, where it says one.
    """

    type: Literal["scale"] = "scale"
    by: float | None = None

    KIND: ClassVar[str] = ""
    RANGES: ClassVar[Mapping[str, Range]] = {"by": Range(0, 1e9, open_low=True)}

    def __post_init__(self) -> None:
        faults = range_faults(self)
        if faults:
            raise WrongTable(*map(Fault, faults))


@dataclass(frozen=True, slots=True)
class Normalize:
    """(values - mean) / std, in float32.

    Attributes:
        mean: One value, or one a channel; of a vector, one a value.
        std: As long as `mean`.
        type: Of the step.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    type: Literal["normalize"] = "normalize"

    KIND: ClassVar[str] = ""
    RANGES: ClassVar[Mapping[str, Range]] = {"mean": MEAN, "std": STD}

    def __post_init__(self) -> None:
        faults = [Fault(fault) for fault in range_faults(self)]
        if len(self.mean) != len(self.std) or not self.mean:
            long = f"found {len(self.mean)} and {len(self.std)}"
            faults.append(Fault(f"mean and std must be equally long, and not empty, {long}"))
        if faults:
            raise WrongTable(*faults)


@dataclass(frozen=True, slots=True)
class Cast:
    """Values of another type. Into integers: rounded, half to even; what does not fit is refused.

    Attributes:
        to: The type.
        type: Of the step.
    """

    to: Literal["float32", "uint8", "int8", "int16", "int32", "int64"]
    type: Literal["cast"] = "cast"

    KIND: ClassVar[str] = ""


ImageLayout = Literal["NCHW", "NHWC"]


@dataclass(frozen=True, slots=True)
class Layout:
    """The order of the model input's dimensions, with the batch N that samples have not; always the last step.

    Attributes:
        to: Of images; of sound: T is time, F are bands or coefficients, C is 1.
        type: Of the step.
    """

    to: Literal["NCHW", "NHWC", "NT", "NCT", "NTF", "NFT", "NCTF", "NCFT"]
    type: Literal["layout"] = "layout"

    @property
    def KIND(self) -> str:  # noqa: N802  # a constant of the other steps
        return "image" if "H" in self.to else "sound"
