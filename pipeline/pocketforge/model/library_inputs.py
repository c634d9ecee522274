"""What a library's own weights of a model were trained on: the input that a recipe for it begins with."""

from __future__ import annotations

from dataclasses import dataclass

from pocketforge.model.definitions import known_library


@dataclass(frozen=True, slots=True)
class LibraryInput:
    """What a model of torchvision or timm takes.

    Attributes:
        resize: (height, width) in pixels.
        mean: Subtracted from red, green and blue, scaled to 0..1.
        std: Divided by after that.
    """

    resize: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def library_input(library: str, name: str) -> LibraryInput | None:
    """Of the library's default weights, none of which are loaded; None where it says nothing of these figures.

    Raises ModelError for a name that the library does not have, ToolMissing where it is not there or does not import.
    """
    package = known_library(library, name)
    if library == "timm":
        known = package.get_pretrained_cfg(name)
        return known and _input(tuple(known.input_size[1:]), known.mean, known.std)
    from torchvision import models

    try:
        weights = models.get_model_weights(name)
    except ValueError:  # of a model of which none were ever trained
        return None
    preset = weights.DEFAULT.transforms()
    size = getattr(preset, "crop_size", None) or getattr(preset, "resize_size", None) or ()
    size = tuple(size) * 2 if len(size) == 1 else tuple(size)
    return _input(size, getattr(preset, "mean", ()), getattr(preset, "std", ()))


def _input(size: tuple[int, ...], mean: object, std: object) -> LibraryInput | None:
    if len(size) != 2 or not isinstance(mean, tuple | list) or not isinstance(std, tuple | list) or len(mean) != 3:
        return None
    height, width = size
    return LibraryInput((height, width), tuple(mean), tuple(std))
