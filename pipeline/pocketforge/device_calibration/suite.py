"""A suite of micro-models for calibrating a phone: .tflite files and a manifest to fill with what they took there.

Sizes are chosen so that a core's first cache, its second, the shared one and memory all decide some of them, float32
and int8 alike: the eight parameters of a core type need points that tell them apart.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from pocketforge.device_calibration.micro_models import mobilenet_v1, operator
from pocketforge.device_calibration.tflite_graph import Graph, Precision
from pocketforge.errors import StoreError
from pocketforge.files import refuse_special

MANIFEST = "manifest.csv"
SEED = 1
RUNTIME = "LiteRT (XNNPACK)"

# (family, hw, input channels, output channels, kernel, stride)
_OPERATORS = (
    ("conv-bn-relu", 112, 16, 32, 1, 1),
    ("conv-bn-relu", 56, 64, 64, 1, 1),
    ("conv-bn-relu", 28, 128, 128, 1, 1),
    ("conv-bn-relu", 14, 384, 96, 1, 1),
    ("conv-bn-relu", 7, 640, 640, 1, 1),
    ("conv-bn-relu", 112, 3, 32, 3, 2),
    ("conv-bn-relu", 28, 64, 64, 3, 1),
    ("conv-bn-relu", 7, 256, 256, 3, 1),
    ("dwconv-bn-relu", 112, 32, 32, 3, 1),
    ("dwconv-bn-relu", 56, 96, 96, 3, 2),
    ("dwconv-bn-relu", 28, 192, 192, 5, 1),
    ("dwconv-bn-relu", 14, 512, 512, 3, 1),
    ("add", 56, 64, 64, 1, 1),
    ("add", 28, 256, 256, 1, 1),
)
_DENSE = ((512, 512), (1024, 1000), (2048, 4096))
_SHORT = {"conv-bn-relu": "conv", "dwconv-bn-relu": "dwconv", "add": "add"}


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """A row of the manifest, as it is written.

    Attributes:
        file: Beside the manifest.
        sha256: Of the file.
        input: dtype and shape of its input: `float32 1x512`.
        runtime: That the file is for.
        device: Where it was measured; empty until it is, as core, clock_ghz and latency_ms.
        core: The core type that it was pinned to.
        clock_ghz: Of the core; column GHz.
        threads: That ran.
        latency_ms: Of one inference.
    """

    file: str
    sha256: str
    input: str
    runtime: str = RUNTIME
    device: str = ""
    core: str = ""
    clock_ghz: str = ""
    threads: str = "1"
    latency_ms: str = ""


COLUMNS = tuple("GHz" if each.name == "clock_ghz" else each.name for each in fields(ManifestRow))


@dataclass(frozen=True, slots=True)
class MicroModel:
    """One file of the suite.

    Attributes:
        name: Starts with its family; a fit is tested by leaving families out.
        data: The .tflite file.
        input: dtype and shape: `float32 1x512`.
    """

    name: str
    data: bytes
    input: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


def micro_models() -> Iterator[MicroModel]:
    """Every file of the suite: the same bytes on every machine."""
    for precision in ("fp32", "int8"):
        dtype = "float32" if precision == "fp32" else "int8"
        for kind, hw, cin, cout, kernel, stride in _OPERATORS:
            name = f"{_SHORT[kind]}-{hw}x{cin}-{cout}-k{kernel}s{stride}-{precision}"
            data = operator(kind, hw, cin, cout, kernel, stride, precision=precision, seed=SEED)
            yield MicroModel(name, data, f"{dtype} 1x{hw}x{hw}x{cin}")
        for features, units in _DENSE:
            data = _dense(features, units, precision)
            yield MicroModel(f"dense-{features}-{units}-{precision}", data, f"{dtype} 1x{features}")
        data = mobilenet_v1(precision, size=128, width=0.5, seed=SEED)
        yield MicroModel(f"mobilenet-128-050-{precision}", data, f"{dtype} 1x128x128x3")


def write_suite(folder: Path) -> list[MicroModel]:
    """Write the files and the manifest into a new folder, all or nothing.

    Raises StoreError when the folder is there and not empty, or cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StoreError(f"{folder} is there already, and a filled manifest is worth keeping", "name a new folder")
    models = list(micro_models())
    try:
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".suite-", dir=folder.absolute().parent) as scratch:
            part = Path(scratch, "suite")
            part.mkdir()
            for model in models:
                Path(part, f"{model.name}.tflite").write_bytes(model.data)
            Path(part, MANIFEST).write_text(manifest(models), encoding="utf-8")
            os.replace(part, folder)
    except OSError as fault:
        raise StoreError(f"cannot write the suite to {folder}: {fault.strerror}") from None
    return models


def manifest(models: Iterable[MicroModel]) -> str:
    """The CSV text: a row a file; device, core, GHz and latency_ms are for whoever measures."""
    return manifest_text(ManifestRow(f"{model.name}.tflite", model.sha256, model.input) for model in models)


def manifest_text(rows: Iterable[ManifestRow]) -> str:
    """The CSV text."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(astuple(row) for row in rows)
    return text.getvalue()


def read_manifest(path: Path) -> list[ManifestRow]:
    """The rows, in the file's order; its columns may have another one. Raises StoreError for what is no manifest."""
    try:
        refuse_special(path)
        with path.open(encoding="utf-8", newline="") as file:
            cells = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"cannot read {path}: {error}") from None
    if not cells or set(cells[0]) != set(COLUMNS):
        raise StoreError(f"{path} is not a manifest of `pocketforge device calibrate --suite`", "name a new folder")
    return [ManifestRow(*(row[column] or "" for column in COLUMNS)) for row in cells]


def _dense(features: int, units: int, precision: Precision) -> bytes:
    graph = Graph(f"dense_{features}_{units}", precision, SEED)
    return graph.finish(graph.fully_connected(graph.input(1, features), units, activation="relu"))
