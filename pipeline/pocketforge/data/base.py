"""What every data source offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
else:
    Array = Any  # numpy is not imported for a name: this module has to stay light

SplitName = Literal["train", "eval"]


class Source(Protocol):
    """Labelled samples, read one at a time.

    ids: a stable name a sample (its index, or its relative path): the split goes by these.
    split: the official split of each sample, where the source has one.
    labels: class names in label order, () when unknown.
    value_max: the raw value that preprocessing scales to 1.0; 0 leaves values as they are.
    as_images: samples are images, scaled and laid out even when the recipe asks for no preprocessing.
    reading: what was done to make a raw sample from its file, as steps of the sidecar's preprocessing.
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
    def reading(self) -> Sequence[Mapping[str, Any]]: ...

    def __len__(self) -> int: ...

    def sample(self, index: int) -> tuple[tuple[Array, ...], Any]:
        """The raw inputs (one H×W×C array for an image) and the target: an int label, else a float or an array."""
        ...

    def digest(self, index: int) -> str:
        """A hash of the sample's inputs: equal digests mean equal content. The label does not count."""
        ...

    def notes(self) -> Sequence[str]:
        """What the user should hear of the samples that were read so far."""
        ...


class PlainSource:
    """What most sources say of the rest: arrays that are not read from images."""

    as_images = False
    reading: Sequence[Mapping[str, Any]] = ()

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


def plain_target(value: Any) -> Any:
    """A target as the Source protocol wants it: int for whole-number scalars, float for others, else an array.

    What is no number stays as it is: who takes the target says so, with the sample's name.
    """
    import numpy as np

    try:
        array = np.asarray(value)
    except (ValueError, TypeError):  # lists of unequal lengths
        return value
    if array.ndim:
        return array
    if array.dtype.kind in "iub":
        return int(array)
    return float(array) if array.dtype.kind == "f" else value
