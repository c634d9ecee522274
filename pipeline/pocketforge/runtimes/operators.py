"""Which kernels a build of a runtime needs for a model file: its operators by domain, version and types, delegates,
and what the runtime's own build is told so that it holds these and no others.

Nothing runs here: operators are read from the file, in its own words.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from pocketforge.errors import ModelError
from pocketforge.runtimes.describe import ModelFile, contents_of, open_file, reading

# Where a file's metadata says that data of it lies in another one.
_BESIDE = "external_data"


@dataclass(frozen=True, slots=True)
class UsedOperator:
    """An operator that the runtime runs, outside of delegates.

    Attributes:
        domain: As ai.onnx or aten; `builtin`, `custom` or `flex` in .tflite.
        name: The file's own, as Conv or CONV_2D; of .pte with the overload, as add.out.
        version: The operator's: of ONNX the opset since which it is so, of .tflite the kernel's; None in .pte.
        types: Each combination of its tensors' types, as `float32, float32 -> float32`.
        count: How often the file has it.
        kernels: The part of the runtime that has its kernel, where there are several; empty where nobody says.
    """

    domain: str
    name: str
    version: int | None
    types: tuple[str, ...]
    count: int
    kernels: str = ""


@dataclass(frozen=True, slots=True)
class UsedOperators:
    """What a build of the runtime needs for a file.

    Attributes:
        operators: By domain, name and version.
        delegates: Backends that must be linked in: the file has parts that no kernel runs.
        notes: What else to know before a smaller build is made, in words.
    """

    operators: tuple[UsedOperator, ...]
    delegates: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BuildFile:
    """What a runtime's own build reads, to hold these operators and no others.

    Attributes:
        name: Of the file, as the runtime's tools call it.
        text: Its content.
        use: How the build is told of it.
    """

    name: str
    text: str
    use: str


class Reader(Protocol):
    """A module that `FileFormat.operators` names. Damage shows as one of the exceptions a reader raises."""

    def read(self, file: ModelFile) -> UsedOperators: ...

    def build_files(self, paths: Sequence[Path]) -> tuple[BuildFile, ...]:
        """For a build that runs all of these files, which are of this runtime's formats."""
        ...


class Calls:
    """Operators as they are met."""

    def __init__(self) -> None:
        self._types: dict[tuple[str, str, int | None, str], Counter[str]] = {}

    def add(
        self,
        domain: str,
        name: str,
        version: int | None,
        inputs: Iterable[str],
        outputs: Iterable[str],
        kernels: str = "",
    ) -> None:
        types = f"{', '.join(inputs) or 'nothing'} -> {', '.join(outputs) or 'nothing'}"
        self._types.setdefault((domain, name, version, kernels), Counter())[types] += 1

    def operators(self) -> tuple[UsedOperator, ...]:
        """In one order, however they were met."""
        found = sorted(self._types.items(), key=lambda item: (item[0][0], item[0][1], item[0][2] or 0))
        return tuple(
            UsedOperator(domain, name, version, tuple(sorted(types)), types.total(), kernels)
            for (domain, name, version, kernels), types in found
        )


def operators_of(path: Path) -> UsedOperators:
    """Raises ModelError for what is no whole model file, or has data in another; ToolMissing without its package."""
    file = open_file(path)
    beside = contents_of(path).metadata.get(_BESIDE)
    if beside:
        raise ModelError(
            f"{path}: wanted a file that holds its weights, found that data of it lies beside it: {beside}",
            "An app would carry these files too: export it with its weights inside.",
        )
    with reading(file, file.format.operators):
        return _reader(file).read(file)


def build_files(paths: Sequence[Path]) -> tuple[BuildFile, ...]:
    """Of all files together, by runtime. Raises as `operators_of`."""
    found: list[BuildFile] = []
    files = [open_file(path) for path in paths]
    for runtime in dict.fromkeys(file.runtime for file in files):
        of_runtime = [file for file in files if file.runtime == runtime]
        with reading(of_runtime[0], of_runtime[0].format.operators):
            found += _reader(of_runtime[0]).build_files([file.path for file in of_runtime])
    return tuple(found)


def _reader(file: ModelFile) -> Reader:
    if not file.format.operators:
        raise ModelError(
            f"{file.path}: which kernels a {file.format.suffix} file needs is not told: runtime {file.runtime} has no "
            "module for it",
            "give its row in RUNTIMES one (pocketforge docs extending)",
        )
    return cast(Reader, importlib.import_module(file.format.operators))
