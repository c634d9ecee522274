"""`npz:FILE`: arrays `x` (or `x_0`, `x_1` …) and `y`, with optional `labels` and `x_eval`/`y_eval`; never pickles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pocketforge.data.base import Array, Place, SourceFiles, SplitName
from pocketforge.data.files import existing_file
from pocketforge.errors import ModelError

if TYPE_CHECKING:
    from pocketforge.data.arrays import ArraySource


def files(place: Place) -> SourceFiles:
    """Raises ModelError for a missing file."""
    return SourceFiles((existing_file(place.path, "npz"),))


def open_place(place: Place) -> ArraySource:
    """Reads the whole file into memory. Raises ModelError for a missing, damaged or incomplete file."""
    import numpy as np

    path = existing_file(place.path, "npz")
    reading = ""
    arrays: dict[str, Array] = {}
    try:
        # Opened here: of a damaged file numpy leaves its own open.
        with path.open("rb") as opened:
            file = np.load(opened, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ModelError(f"data.source: {path} is a single array (.npy)", "save with np.savez(file, x=x, y=y)")
            for name in file.files:
                reading = f"array {name!r}: "
                arrays[name] = np.asarray(file[name])
    except ModelError:
        raise
    except Exception as error:  # a damaged file raises whatever its bytes happen to ask for
        raise ModelError(
            f"data.source: {path} cannot be read as npz: {reading}{error or type(error).__name__}",
            "save plain number arrays with np.savez(file, x=x, y=y); object arrays (pickles) are not read",
        ) from error
    return _from_arrays(arrays, path)


def _from_arrays(arrays: dict[str, Array], path: Path) -> ArraySource:
    from pocketforge.data.arrays import ArraySource

    has_eval = any(name.startswith("x_eval") or name == "y_eval" for name in arrays)
    parts: list[tuple[SplitName | None, list[Array], Array]] = [
        ("train" if has_eval else None, _inputs(arrays, "x", path), _wanted(arrays, "y", path))
    ]
    if has_eval:
        parts.append(("eval", _inputs(arrays, "x_eval", path), _wanted(arrays, "y_eval", path)))
        if len(parts[0][1]) != len(parts[1][1]):
            raise ModelError(
                f"data.source: {path}: {len(parts[0][1])} inputs for training, {len(parts[1][1])} for evaluation"
            )
    _check_names(arrays, parts, path)
    labels = arrays.get("labels")
    if labels is not None and (labels.ndim != 1 or labels.dtype.kind != "U"):
        raise ModelError(f"data.source: {path}: labels must be a list of texts, found {labels.dtype} {labels.shape}")
    return ArraySource(parts, [] if labels is None else [str(label) for label in labels], str(path))


def _check_names(
    arrays: dict[str, Array], parts: list[tuple[SplitName | None, list[Array], Array]], path: Path
) -> None:
    """Arrays that are named as ours are, and would not be read: x_test, or x_2 without x_1."""
    used = [id(array) for _, inputs, targets in parts for array in (*inputs, targets)]
    left = [name for name, array in arrays.items() if id(array) not in used and name.startswith(("x", "y"))]
    if left:
        raise ModelError(
            f"data.source: {path}: arrays {', '.join(map(repr, sorted(left)[:8]))} would not be read",
            "x (or x_0, x_1 … without a gap) and y, x_eval (or x_eval_0 …) and y_eval, labels; leave others out",
        )


def _inputs(arrays: dict[str, Array], stem: str, path: Path) -> list[Array]:
    if stem in arrays:
        return [arrays[stem]]
    inputs: list[Array] = []
    while f"{stem}_{len(inputs)}" in arrays:
        inputs.append(arrays[f"{stem}_{len(inputs)}"])
    return inputs or [_wanted(arrays, stem, path)]


def _wanted(arrays: dict[str, Array], name: str, path: Path) -> Array:
    if name not in arrays:
        raise ModelError(
            f"data.source: {path} has no array {name!r}; it has: {', '.join(sorted(arrays)) or 'none'}",
            "np.savez(file, x=x, y=y), or x_0=…, x_1=… for several inputs",
        )
    return arrays[name]
