"""What every data source offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pocketforge.files import Resolve

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
else:
    Array = Any  # numpy is not imported for a name: this module has to stay light

SplitName = Literal["train", "eval"]
# How a raw sample was made, or an input is made of it: {"step": "divide", "by": 255.0}, as sidecars have it.
PreprocessStep = Mapping[str, object]


class Source(Protocol):
    """Labelled samples, read one at a time.

    Attributes:
        ids: A stable name a sample (its index, or its relative path): the split goes by these.
        split: The official split of each sample, where the source has one.
        labels: Class names in label order, () when unknown.
        value_max: The raw value that preprocessing scales to 1.0; 0 leaves values as they are.
        as_images: Samples are images, scaled and laid out even when the recipe asks for no preprocessing.
        reading: What was done to make a raw sample from its file, as steps of the sidecar's preprocessing.
    """

    @property
    def ids(self) -> Sequence[str]: ...

    @property
    def split(self) -> Sequence[SplitName | None]: ...

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def value_max(self) -> float: ...

    @property
    def as_images(self) -> bool: ...

    @property
    def reading(self) -> Sequence[PreprocessStep]: ...

    def __len__(self) -> int: ...

    def sample(self, index: int) -> tuple[tuple[Array, ...], object]:
        """The raw inputs (one H×W×C array for an image) and the target: an int label, a float or an
        array, or several by name (data.targets.Targets)."""
        ...

    def digest(self, index: int) -> str:
        """A hash of the sample's inputs: equal digests mean equal content. The label does not count."""
        ...

    def notes(self) -> Sequence[str]:
        """What the user should hear of the samples that were read so far."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where a recipe says that its samples are.

    Attributes:
        written: What stands after the source's word and the colon: `photos` of `imagefolder:photos`.
        resolve: Makes a path written in the recipe absolute.
        split_folders: Split (`train`, `eval`) → its folders, as the recipe says; None where it says nothing.
    """

    written: str
    resolve: Resolve
    split_folders: Mapping[str, Sequence[str]] | None = None

    @property
    def path(self) -> Path:
        """For sources whose place is a file or a folder."""
        return self.resolve(self.written)


@dataclass(frozen=True, slots=True)
class SourceFiles:
    """The files whose content a source reads: they go into the keys of the steps that read the data.

    Attributes:
        paths: The files, sorted.
        notes: What was taken as what and what was passed over, for the user.
        layout: A digest of what the files' places say besides (split and class of each); empty where they say nothing.
    """

    paths: tuple[Path, ...]
    notes: tuple[str, ...] = ()
    layout: str = ""


class SourceModule(Protocol):
    """A module of `SOURCES`. It is imported before anything heavy is: NumPy comes inside its functions."""

    def files(self, place: Place) -> SourceFiles:
        """Raises ModelError when the data is not there, ToolMissing when the library that brings it is not."""
        ...

    def open_place(self, place: Place) -> Source:
        """Raises ModelError when the data is missing or malformed, ToolMissing without the source's library."""
        ...


class PlainSource:
    """What most sources say of the rest: arrays that are not read from images."""

    as_images = False
    reading: Sequence[PreprocessStep] = ()

    def notes(self) -> Sequence[str]:
        return ()


def array_digest(inputs: Sequence[Array]) -> str:
    """The digest for a source whose samples are already in memory."""
    import hashlib

    import numpy as np

    digest = hashlib.sha256()
    for array in inputs:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def plain_target(value: object) -> object:
    """A target as the Source protocol wants it: int for whole-number scalars, float for others, else an array.

    What is no number stays as it is: who takes the target says so, with the sample's name.
    """
    import numpy as np

    if isinstance(value, Mapping):  # targets by name
        return value
    try:
        array = np.asarray(value)
    except (ValueError, TypeError):  # lists of unequal lengths
        return value
    if array.ndim:
        return array
    if array.dtype.kind in "iub":
        return int(array)
    return float(array) if array.dtype.kind == "f" else value
