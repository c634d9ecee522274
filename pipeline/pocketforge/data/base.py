"""What every data source offers."""

from __future__ import annotations

from collections.abc import Sequence
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
    """

    @property
    def ids(self) -> Sequence[str]: ...

    @property
    def split(self) -> Sequence[SplitName | None]: ...

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def value_max(self) -> float: ...

    def __len__(self) -> int: ...

    def sample(self, index: int) -> tuple[tuple[Array, ...], Any]:
        """The raw inputs (one H×W×C array for an image) and the target: an int label, else a float or an array."""
        ...

    def digest(self, index: int) -> str:
        """A hash of the sample's inputs: equal digests mean equal content. The label does not count."""
        ...


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
    """A target as the Source protocol wants it: int for whole-number scalars, float for others, else an array."""
    import numpy as np

    array = np.asarray(value)
    if array.ndim:
        return array
    return int(array) if array.dtype.kind in "iub" else float(array)
