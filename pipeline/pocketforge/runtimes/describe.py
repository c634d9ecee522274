"""What is inside a model file: its operators, tensors, weights and delegates.

The format is recognised by content, then by extension (registries.FileFormat says how); its parser is imported on use,
so that no toolchain is loaded for a file that does not need it. Nothing here runs a model.

What counts as a parameter: the elements of every stored constant tensor, zeros included, each stored tensor once (two
layers that share their bytes count once). Not parameters: quantization scales and zero points, unquantized integer
and boolean constants (shapes, axes, permutations) and rank-0 constants (an epsilon, a clamp's limit). Their bytes are
in `metadata` under "quantization_bytes" and "other_constant_bytes".
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import hashlib
import importlib
import json
import math
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar, cast

from pocketforge.errors import ModelError, PocketforgeError, ToolMissing
from pocketforge.files import refuse_special
from pocketforge.registries import RUNTIMES, FileFormat, file_formats, nearest_formats

JSON_VERSION = 1
Item = TypeVar("Item")

BITS: dict[str, int] = (
    {"bool": 8, "bfloat16": 16, "complex64": 64, "complex128": 128}
    | {f"float{bits}": bits for bits in (16, 32, 64)}
    | {f"{sign}int{bits}": bits for sign in ("", "u") for bits in (2, 4, 8, 16, 32, 64)}
    | {f"float8_{kind}": 8 for kind in ("e4m3fn", "e4m3fnuz", "e5m2", "e5m2fnuz", "e8m0")}
)
"""Bits of one element, by dtype, in the names every format is translated to (PyTorch's and NumPy's)."""

_FOREIGN: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "a zip archive (a PyTorch checkpoint or .pt2?)"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file that it stands for"),
    (b"\x1f\x8b", "gzip-compressed"),
    (b"ET01", "a bundled program or trace, not a .pte"),
)
# The readers that FlatBuffers generates for Python do not verify a buffer: a wrong offset shows as one of these,
# anywhere. They are listed, not `Exception`, so that an interrupt or a failing import stays what it is.
_DAMAGE = (
    *(ValueError, LookupError, TypeError, AttributeError, ArithmeticError),
    *(RecursionError, MemoryError, EOFError, struct.error),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Quantization:
    """Affine quantization of one tensor: real = scale * (stored - zero_point).

    Attributes:
        scales: One, or one for each place of `axis`.
        zero_points: As many as scales.
        axis: None for one scale for the whole tensor.
    """

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class TensorInfo:
    """An input or output.

    Attributes:
        name: The file's own.
        shape: A dynamic dimension is its symbol or "?".
        dtype: PyTorch's and NumPy's name.
        quantization: None where values are real.
        bounded: Whether sizes are upper bounds (.pte).
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: str
    quantization: Quantization | None = None
    bounded: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class WeightInfo:
    """A stored weight tensor.

    Attributes:
        name: The file's own.
        shape: As the file holds it.
        dtype: PyTorch's and NumPy's name.
        parameters: How many elements it has.
        size_bytes: What it takes in the file.
        layer: The operator that reads it, e.g. "CONV_2D_0" (its place among its kind); empty where none is known to.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    parameters: int
    size_bytes: int
    layer: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class DelegateInfo:
    """One delegated partition.

    Attributes:
        name: The backend's.
        ops: Operator → how often it is in there; empty where the blob is opaque to us.
    """

    name: str
    ops: dict[str, int]


@dataclasses.dataclass(slots=True)
class OtherBytes:
    """Bytes of a file's constants that are no parameters (see above).

    Attributes:
        quantization_bytes: Of scales and zero points.
        other_constant_bytes: Of shapes, axes, limits.
        opaque_delegate_bytes: Of delegates that cannot be looked into: weights, or what else.
    """

    quantization_bytes: int = 0
    other_constant_bytes: int = 0
    opaque_delegate_bytes: int = 0

    def metadata(self, dynamic: int) -> dict[str, str]:
        """As a description's metadata has them. dynamic: operators on activations that are quantized at run time."""
        about = {name: str(size) for name, size in dataclasses.asdict(self).items() if size}
        return about | ({"dynamically_quantized_ops": str(dynamic)} if dynamic else {})


@dataclasses.dataclass(frozen=True, slots=True)
class Contents:
    """What a format's parser reads out of the bytes.

    Attributes:
        inputs: In the order of the file.
        outputs: In the order of the file.
        ops: Operator → how often, those inside of delegates included.
        weights: Each stored tensor once.
        metadata: What else the file says of itself, by name, as text.
        delegation: Partitions that a backend runs; none where the runtime delegates when it loads the file.
        undelegated_ops: Operators left to kernels, where there is delegation.
    """

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    ops: dict[str, int]
    weights: tuple[WeightInfo, ...]
    metadata: dict[str, str]
    delegation: tuple[DelegateInfo, ...] = ()
    undelegated_ops: dict[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Description:
    """A model file, described.

    Attributes:
        format: As in `pte`.
        name: The file's.
        sha256: Of its bytes, in hexadecimal.
        size_bytes: Of the file.
        gzip_bytes: What it takes in a download.
        inputs: As of Contents.
        outputs: As of Contents.
        ops: As of Contents, most frequent first.
        dtypes: A weight's dtype → its bytes; they add up to those of `weights`.
        weights: As of Contents.
        parameters: Elements of all weights.
        delegation: As of Contents; empty for .tflite, .onnx and .ort.
        undelegated_ops: As of Contents, most frequent first.
        metadata: As of Contents.
    """

    format: str
    name: str
    sha256: str
    size_bytes: int
    gzip_bytes: int
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    ops: dict[str, int]
    dtypes: dict[str, int]
    weights: tuple[WeightInfo, ...]
    parameters: int
    delegation: tuple[DelegateInfo, ...]
    undelegated_ops: dict[str, int]
    metadata: dict[str, str]


class Parser(Protocol):
    """A module that reads a format. Damage shows as one of the exceptions a reader raises on wrong bytes."""

    def parse(self, data: bytes, file_format: str) -> Contents: ...


def format_of(path: Path) -> str:
    """The format of a model file by its content, unparsed. Raises ModelError as `describe` does."""
    return detect(_read(path), path)


def contents_of(path: Path) -> Contents:
    """What a model file holds: it is whole. Raises as `describe`."""
    data = _read(path)
    return _parsed(data, *_detected(data, path), path)


def _parsed(data: bytes, runtime: str, known: FileFormat, path: Path) -> Contents:
    file_format = known.name
    if not known.parser:
        raise ModelError(
            f"{path}: what is in a .{file_format} file is not told: runtime {runtime} has no parser for it",
            "give its row in RUNTIMES one (pocketforge docs extending)",
        )
    with reading(ModelFile(path, data, runtime, known), known.parser):
        parser = cast(Parser, importlib.import_module(known.parser))
        return parser.parse(data, file_format)


@dataclasses.dataclass(frozen=True, slots=True)
class ModelFile:
    """A file that is known to be of a runtime's format, and may be damaged.

    Attributes:
        path: Where it lies.
        data: All of it.
        runtime: Name in RUNTIMES.
        format: Which of the runtime's.
    """

    path: Path
    data: bytes
    runtime: str
    format: FileFormat


def open_file(path: Path) -> ModelFile:
    """A model file by its content, unparsed. Raises ModelError as `describe` does."""
    data = _read(path)
    return ModelFile(path, data, *_detected(data, path))


@contextlib.contextmanager
def reading(file: ModelFile, module: str) -> Iterator[None]:
    """What a module reads of a file within. Raises ToolMissing without its package, ModelError for a damaged file."""
    known = file.format
    try:
        with RUNTIMES.calling(file.runtime, module, ours=(*_DAMAGE, ImportError, PocketforgeError)):
            yield
    except ImportError as error:
        hint = f"pip install {known.package}"
        raise ToolMissing(f"reading .{known.name} files needs {known.package}: {error}", hint) from error
    except _DAMAGE as error:
        raise ModelError(
            f"{file.path}: wanted a whole .{known.name} file, found one that is truncated or damaged "
            f"({type(error).__name__}: {_short(error)}; {len(file.data)} bytes)",
            "Copy or download it again and compare the SHA-256, or export it again.",
        ) from error


def describe(path: Path) -> Description:
    """Describe the model file at `path`; raise ModelError for anything else, ToolMissing without its package."""
    data = _read(path)
    runtime, known = _detected(data, path)
    contents = _parsed(data, runtime, known, path)
    dtypes: dict[str, int] = {}
    for weight in contents.weights:
        dtypes[weight.dtype] = dtypes.get(weight.dtype, 0) + weight.size_bytes
    return Description(
        format=known.name,
        name=path.name,
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        gzip_bytes=len(gzip.compress(data, compresslevel=9, mtime=0)),
        inputs=contents.inputs,
        outputs=contents.outputs,
        ops=by_count(contents.ops),
        dtypes=by_count(dtypes),
        weights=contents.weights,
        parameters=sum(weight.parameters for weight in contents.weights),
        delegation=contents.delegation,
        undelegated_ops=by_count(contents.undelegated_ops),
        metadata=contents.metadata,
    )


def detect(data: bytes, path: Path) -> str:
    """The format of `data`: by its identifier, then by what such files start with, then by its extension."""
    return _detected(data, path)[1].name


def _detected(data: bytes, path: Path) -> tuple[str, FileFormat]:
    """Its runtime and its format. Packages are asked for theirs where the file is of no runtime that is known so far,
    or has an ending that none of these has."""
    near = nearest_formats()
    known, ending = _by_content(data, near, path), near.get(path.suffix.lower())
    if known is not None and (ending or known[1].identifier):
        return known
    if ending and not ending[1].identifier and not ending[1].start:
        return ending
    every = file_formats()
    known = _by_content(data, every, path)
    if known is not None:
        return known
    formats = [each for _, each in every.values()]
    any_of_them = f"a model file ({', '.join(each.suffix for each in formats)})"
    broken = RUNTIMES.broken()
    for start, what in _FOREIGN:
        if data.startswith(start):
            hint = "; ".join(["Give the exported model file itself.", *broken])
            raise ModelError(f"{path}: wanted {any_of_them}, found {what}", hint)
    runtime, named = every.get(path.suffix.lower(), ("", None))
    if named is not None and not named.identifier:
        return runtime, named
    detail = f"the identifier {named.example} at byte 4" if named is not None else any_of_them
    raise ModelError(
        f"{path}: wanted {detail}, found bytes {data[:8]!r} ({len(data)} bytes)",
        "; ".join(
            ["Check that the download or the export finished, and that this is the exported model itself.", *broken]
        ),
    )


def _by_content(
    data: bytes, formats: Mapping[str, tuple[str, FileFormat]], path: Path
) -> tuple[str, FileFormat] | None:
    """By its identifier, then by what such files start with; of several that start so, by its ending."""
    for each in formats.values():
        if _has_identifier(data, each[1]):
            return each
    fits = [each for each in formats.values() if each[1].start and re.match(each[1].start, data, re.DOTALL)]
    return next((each for each in fits if each[1].suffix == path.suffix.lower()), fits[0] if fits else None)


def _has_identifier(data: bytes, file_format: FileFormat) -> bool:
    stated, identifier = data[4:8], file_format.identifier
    rest = stated[len(identifier) :]
    return bool(identifier) and stated.startswith(identifier) and (not rest or rest.isdigit())


def to_json(description: Description) -> dict[str, object]:
    """The description as plain JSON types, with a version."""
    plain: dict[str, object] = json.loads(json.dumps(dataclasses.asdict(description)))
    return {"version": JSON_VERSION, **plain}


def elements(shape: Sequence[int]) -> int:
    """The number of elements of a stored tensor."""
    if any(dimension < 0 for dimension in shape):
        raise ValueError(f"a stored tensor has the shape {list(shape)}")
    return math.prod(shape)


def stored_bytes(dtype: str, shape: Sequence[int]) -> int | None:
    """The bytes of a dense, packed tensor; None where the dtype has no fixed width."""
    return (elements(shape) * BITS[dtype] + 7) // 8 if dtype in BITS else None


def is_parameter(dtype: str, shape: Sequence[int], *, quantized: bool) -> bool:
    """Whether a constant is a weight: see the module's docstring."""
    return len(shape) > 0 and (quantized or dtype not in ("int32", "int64", "bool", "string"))


def item_at(items: Sequence[Item], index: int) -> Item:
    """Of a list that a file names places of. Raises IndexError: Python would read a negative one from its end."""
    if index < 0:
        raise IndexError(f"negative index {index}")
    return items[index]


def by_count(counts: Mapping[str, int]) -> dict[str, int]:
    """Largest first, then by name, so that a description reads well and is the same each time."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _read(path: Path) -> bytes:
    try:
        refuse_special(path)
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"{path}: wanted a model file, found {error.strerror or error}", "Check the path and its permissions."
        ) from error
    if not data:
        raise ModelError(f"{path}: wanted a model file, found an empty file", "Export or download it again.")
    return data


def _short(error: BaseException, limit: int = 160) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
