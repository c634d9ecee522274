"""CIFAR-10's batches read, in both official formats; a pickle may name nothing but a dict with a uint8 array."""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pocketforge.data.base import Array, PlainSource, SplitName, array_digest
from pocketforge.data.labels import check_names, read_labels
from pocketforge.errors import ModelError

# The set is fixed, so a folder without its meta file still has names.
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PIXELS = 3 * 32 * 32


def _encode(text: str, encoding: str) -> bytes:
    # Python 3 pickles bytes in old protocols as _codecs.encode(text, "latin1"); no other codec is let in.
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"codec {encoding!r} is not allowed")
    return text.encode("latin1")


def _dtype(name: object, *args: object) -> np.dtype[np.uint8]:
    # Only plain bytes: an object dtype would let the file say what is built inside the array.
    if name not in ("u1", b"u1", "uint8"):
        raise pickle.UnpicklingError(f"array type {name!r} is not allowed (CIFAR-10 is uint8)")
    return np.dtype(np.uint8)


class _BatchUnpickler(pickle.Unpickler):  # noqa: S301 - it is the guard
    """A CIFAR-10 batch is a dict with a uint8 array: nothing else a pickle can name is let in."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) == ("numpy", "ndarray"):
            return np.ndarray
        if (module, name) == ("numpy", "dtype"):
            return _dtype
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return np._core.multiarray._reconstruct  # type: ignore[attr-defined]
        if module in ("numpy.core.numeric", "numpy._core.numeric") and name == "_frombuffer":
            return np._core.numeric._frombuffer  # type: ignore[attr-defined]
        if (module, name) == ("_codecs", "encode"):
            return _encode
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a data file")


def _read_pickle(path: Path) -> dict[object, object]:
    try:
        content = _BatchUnpickler(io.BytesIO(path.read_bytes()), encoding="bytes").load()
    except OSError as error:
        raise ModelError(f"data.source: {path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to ask for
        raise ModelError(f"data.source: {path} is not a CIFAR-10 batch: {error}", "unpack the archive again") from error
    if not isinstance(content, dict):
        raise ModelError(
            f"data.source: {path} is not a CIFAR-10 batch: it holds a {type(content).__name__}, not a dict"
        )
    return {key.decode() if isinstance(key, bytes) else key: value for key, value in content.items()}


def _read_batch(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pixels (N, 3072) and labels (N,)."""
    if path.suffix == ".bin":
        try:
            raw = np.fromfile(path, np.uint8)
        except OSError as error:
            raise ModelError(f"data.source: {path} cannot be read: {error.strerror or error}") from error
        if raw.size == 0 or raw.size % (PIXELS + 1):
            raise ModelError(
                f"data.source: {path} has {raw.size} bytes, not a whole number of CIFAR-10 records "
                f"({PIXELS + 1} bytes each)",
                "the download was cut short: unpack the archive again",
            )
        records = raw.reshape(-1, PIXELS + 1)
        return records[:, 1:], records[:, 0].astype(np.int64)
    batch = _read_pickle(path)
    data, labels = batch.get("data"), batch.get("labels")
    whole = isinstance(labels, list) and all(type(label) is int and 0 <= label < len(NAMES) for label in labels)
    if isinstance(labels, list) and not whole and "fine_labels" not in batch:
        odd = next(label for label in labels if type(label) is not int or not 0 <= label < len(NAMES))
        raise ModelError(f"data.source: {path} has the label {odd!r}: wanted 0 to {len(NAMES) - 1}")
    if not isinstance(data, np.ndarray) or not isinstance(labels, list) or data.shape != (len(labels), PIXELS):
        raise ModelError(
            f"data.source: {path} is not a CIFAR-10 batch: it needs data (N, {PIXELS}) and N labels"
            + (" (this looks like CIFAR-100)" if "fine_labels" in batch else "")
        )
    return data.astype(np.uint8, copy=False), np.asarray(labels, np.int64)


def _read_names(meta: Sequence[Path]) -> tuple[str, ...]:
    for path in meta:
        if path.suffix == ".txt":
            return read_labels(path, "data.source")
        names = _read_pickle(path).get("label_names", [])
        if not isinstance(names, list):
            raise ModelError(f"data.source: {path}: label_names must be a list, found a {type(names).__name__}")
        # Bytes that are no UTF-8 become what check_names refuses.
        texts = [name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else str(name) for name in names]
        return check_names(texts, str(path))
    return NAMES


class Cifar10(PlainSource):
    """60 000 images in memory (184 MB)."""

    value_max = 255.0
    as_images = True

    def __init__(self, batches: Sequence[tuple[Path, SplitName]], meta: Sequence[Path]) -> None:
        self.labels = _read_names(meta)
        self.ids: list[str] = []
        self.split: list[SplitName | None] = []
        pixels, targets = [], []
        for path, split in batches:
            data, labels = _read_batch(path)
            pixels.append(data)
            targets.append(labels)
            # The same id in both formats: a set downloaded in the other one splits the same.
            self.ids.extend(f"{path.name.removesuffix('.bin')}/{index}" for index in range(len(labels)))
            self.split.extend([split] * len(labels))
        self._pixels = np.concatenate(pixels)
        self._targets = np.concatenate(targets)

    def __len__(self) -> int:
        return len(self.ids)

    def sample(self, index: int) -> tuple[tuple[Array, ...], int]:
        # Stored as three 32×32 planes.
        return (self._pixels[index].reshape(3, 32, 32).transpose(1, 2, 0),), int(self._targets[index])

    def digest(self, index: int) -> str:
        return array_digest([self._pixels[index]])
