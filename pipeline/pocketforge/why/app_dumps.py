"""What an app fed to a file, as it was written on the phone: .npy, .npz, or bytes."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pocketforge.data.base import Array
from pocketforge.errors import ModelError
from pocketforge.outcomes.tensors import TensorSpec
from pocketforge.why.app_chain import size_of

_ENDINGS = (".npy", ".npz", ".raw", ".bin")
# Each is searched for by itself.
MOST_DUMPS = 64
# A buffer that is so many times as large → what it usually is.
_TIMES = (
    (4 / 3, "pixels of four channels (RGBA) where the file takes three: take three of each four bytes"),
    (2.0, "two channels of sound where the file takes one, or 16-bit numbers counted as bytes"),
    (3.0, "three channels where the file takes one"),
    (1 / 3, "one channel where the file takes three"),
    (4.0, "a float32 buffer read as bytes: give --dtype float32"),
)


@dataclass(frozen=True, slots=True)
class Dump:
    """One tensor that an app fed to the file.

    Attributes:
        name: Of the file, and of the array in an .npz.
        stem: By which the eval sample may be known.
        numbers: In the order that they lay in memory: one row, in the type that was written.
        shape: As it was written.
    """

    name: str
    stem: str
    numbers: Array
    shape: tuple[int, ...]


def read_dumps(paths: Sequence[Path], taken: TensorSpec, dtype: str = "", shape: Sequence[int] = ()) -> list[Dump]:
    """paths: files, or folders of them. taken: the file's input. dtype, shape: of bytes, where they are not the file's
    own. Raises ModelError, each with the dump's name."""
    found = [each for path in paths for each in _files(path)]
    dumps = [dump for path in found for dump in _read(path, taken, dtype, tuple(shape))]
    if len(dumps) > MOST_DUMPS:
        raise ModelError(f"--app: wanted at most {MOST_DUMPS} tensors, found {len(dumps)}", "a few say it all")
    for dump in dumps:
        _check(dump, taken)
    return dumps


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    inside = sorted(each for each in path.iterdir() if each.suffix.lower() in _ENDINGS)
    if not inside:
        raise ModelError(f"--app: {path} holds no {', '.join(_ENDINGS)}", "give the files that the app wrote")
    return inside


def _read(path: Path, taken: TensorSpec, dtype: str, shape: tuple[int, ...]) -> list[Dump]:
    kind = path.suffix.lower()
    if kind not in _ENDINGS:
        raise ModelError(f"--app: {path}: wanted one of {', '.join(_ENDINGS)}, found {kind or 'no ending'}")
    try:
        if kind in (".raw", ".bin"):
            return [_bytes(path, taken, dtype, shape)]
        if kind == ".npy":
            return [_dump(path.name, path.stem, np.load(path, allow_pickle=False))]
        with np.load(path, allow_pickle=False) as arrays:
            names = arrays.files
            return [_dump(f"{path.name}:{n}", path.stem if len(names) == 1 else n, arrays[n]) for n in names]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ModelError(
            f"--app: {path} cannot be read: {error}", "write it with numpy.save, or as plain bytes"
        ) from error


def _bytes(path: Path, taken: TensorSpec, dtype: str, shape: tuple[int, ...]) -> Dump:
    data = path.read_bytes()
    kind = np.dtype(dtype or taken.dtype)
    if len(data) % kind.itemsize:
        raise ModelError(
            f"--app: {path.name} has {len(data)} bytes, and {kind} has {kind.itemsize} each",
            "give --dtype: the type of the app's buffer",
        )
    numbers = np.frombuffer(data, kind)
    if shape and int(np.prod(shape)) != numbers.size:
        raise ModelError(f"--app: {path.name} has {numbers.size} numbers of {kind}, --shape {list(shape)} has others")
    return Dump(path.name, path.stem, numbers, shape or (numbers.size,))


def _dump(name: str, stem: str, array: Array) -> Dump:
    if array.dtype.kind not in "fiu":
        raise ModelError(f"--app: {name} holds {array.dtype}, wanted numbers")
    # As it lay in memory: an array in Fortran's order was written so by NumPy, not by an app.
    numbers = np.ascontiguousarray(array, array.dtype.newbyteorder("=")).reshape(-1)
    return Dump(name, stem, numbers, array.shape)


def _check(dump: Dump, taken: TensorSpec) -> None:
    wanted, found = size_of(taken), dump.numbers.size
    if found != wanted:
        likely = next((words for times, words in _TIMES if found == round(wanted * times)), "")
        raise ModelError(
            f"--app: {dump.name} has {found} numbers ({dump.numbers.dtype} {list(dump.shape)}), wanted {wanted}: the "
            f"file takes {taken}",
            likely or "dump the tensor that goes into the interpreter, one sample a file",
        )


def finite(numbers: Array) -> bool:
    return numbers.dtype.kind != "f" or bool(np.isfinite(numbers).all())


def comparable(dump: Dump, taken: TensorSpec) -> Array:
    """A dump's numbers as the file sees them: bytes of its own type where both are integers of a size."""
    kind = np.dtype(taken.dtype)
    numbers = dump.numbers
    if numbers.dtype.kind in "iu" and kind.kind in "iu" and numbers.dtype.itemsize == kind.itemsize:
        return numbers.view(kind)
    return numbers
