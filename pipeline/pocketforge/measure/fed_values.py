"""Whether the samples' values can be fed to a model file's inputs as these take them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pocketforge.errors import ModelError
from pocketforge.metrics import Array
from pocketforge.outcomes.tensors import TensorSpec

# More of the values beyond an input's range than quantizing a few outliers away explains.
_MOST_CLIPPED = 0.01
_ROWS = 256


def check_kind(file: str, side: str, tensor: TensorSpec) -> None:
    """Raises ModelError for an input or an output that is no array of numbers."""
    kind = np.dtype(tensor.dtype) if tensor.dtype in np.sctypeDict else None
    if kind is None or kind.kind not in "fiub":
        raise ModelError(
            f"{file}: {side} {tensor.name} is {tensor.dtype}, and arrays of numbers are fed and compared",
            "export it with plain tensors (of scikit-learn's classifiers: options zipmap = False)",
        )


def check_values(file: str, tensor: TensorSpec, samples: Array) -> str:
    """What a user should know of the values in words; empty for nothing. samples: of that input, all of them.

    Raises ModelError for a type that is not fed, and where the type would cut off what the samples hold.
    """
    check_kind(file, "input", tensor)
    kind = np.dtype(tensor.dtype)
    if kind.kind == "f":
        return ""
    if tensor.scale:
        if tensor.dtype not in ("int8", "uint8"):
            raise ModelError(f"{file}: input {tensor.name} takes levels in {tensor.dtype}; int8 and uint8 are fed")
        return _clipped(tensor, samples)
    least, most = (0, 1) if kind.kind == "b" else (np.iinfo(kind).min, np.iinfo(kind).max)
    for rows in _chunks(samples):
        whole = rows.dtype.kind in "iub" or bool(np.equal(np.floor(rows), rows).all())
        if not whole or rows.min() < least or rows.max() > most:
            raise ModelError(
                f"{file}: input {tensor.name} takes {tensor.dtype} from {least} to {most}, and nothing in the file "
                f"says what a level stands for; the samples hold {samples.dtype} such as "
                f"{_example(rows, least, most):.6g}",
                "make samples of whole numbers in that range (data.preprocess: scale = 0 leaves an image's as they "
                "are), or export the file with float inputs, or with a scale in its metadata",
            )
    return ""


def _clipped(tensor: TensorSpec, samples: Array) -> str:
    assert tensor.scale is not None
    limits, zero = np.iinfo(tensor.dtype), tensor.zero_point or 0
    low, high = ((limit - zero) * tensor.scale for limit in (limits.min, limits.max))
    # Half a level beyond is rounded into it.
    margin = tensor.scale / 2
    beyond = sum(int(((rows < low - margin) | (rows > high + margin)).sum()) for rows in _chunks(samples))
    share = beyond / max(1, samples.size)
    if share <= _MOST_CLIPPED:
        return ""
    return (
        f"{share:.1%} of the samples' values lie outside of what input {tensor.name} can take ({low:.4g} to "
        f"{high:.4g}) and are cut off: is data.preprocess (mean, std, scale) what the file was made for?"
    )


def _example(rows: Array, least: float, most: float) -> float:
    wrong = rows[(rows < least) | (rows > most) | (np.floor(rows) != rows)]
    return float(wrong[0])


def _chunks(samples: Array) -> Iterator[Array]:
    for start in range(0, len(samples), _ROWS):
        yield np.asarray(samples[start : start + _ROWS])
