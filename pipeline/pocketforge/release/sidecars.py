"""What a release's sidecars say, for comparing two releases. Keys that no comparison is of are passed over."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pocketforge.errors import ReleaseError
from pocketforge.outcomes import files
from pocketforge.outcomes.package import Packed
from pocketforge.outcomes.tensors import TensorSpec
from pocketforge.release.manifest import Manifest, ShippedFile
from pocketforge.release.reading import UnfitFile, read_regular

_MOST_BYTES = 2**26


@dataclass(frozen=True, slots=True)
class Sidecar:
    """One file, as an app has to know it.

    Attributes:
        file: What the manifest says of it.
        gzip_bytes: Its size, packed.
        task: What its first output is.
        scheme: How its weights and activations are stored; fp32: as they were trained.
        inputs: What it takes.
        outputs: What it gives.
        output_roles: What each output is, and what was done to it before it was judged.
        labels: Of its classes.
        preprocessing: From a raw sample to its inputs.
        package: What the file does of the app's side; None for nothing.
        sizes: The range of each size of its inputs that varies.
        size_axes: Of each input: size → its axis.
        accuracy: Metric → value, on the eval samples.
        runtimes: Runtime with its version → how the file ended there.
        versions: Library → version.
        export: What the exporter says of the file (an opset …).
    """

    file: ShippedFile
    gzip_bytes: int
    task: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    labels: tuple[str, ...]
    preprocessing: Mapping[str, object]
    package: Packed | None = None
    accuracy: Mapping[str, float] = field(default_factory=dict)
    output_roles: tuple[Mapping[str, object], ...] = ()
    sizes: Mapping[str, object] = field(default_factory=dict)
    size_axes: tuple[Mapping[str, object], ...] = ()
    runtimes: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    export: Mapping[str, object] = field(default_factory=dict)
    scheme: str = "fp32"


def read_manifest(folder: Path) -> Manifest:
    """Of a release that is whole. Raises ReleaseError."""
    manifest: Manifest = _structured(_json(folder / Manifest.FILE), Manifest, folder / Manifest.FILE)
    return manifest


def read_sidecars(folder: Path, manifest: Manifest) -> dict[str, Sidecar]:
    """Target and role, as `net ort` (of the model file: the target alone) → its sidecar. Raises ReleaseError."""
    found = {}
    for file in manifest.files:
        path = folder / file.sidecar
        said = _json(path)
        measured = said.get("measured", {})
        wanted = {
            "file": files.to_json(file),
            "accuracy": measured.get("accuracy", {}) if isinstance(measured, dict) else {},
            **{name: said[name] for name in _TAKEN if name in said},
        }
        name = file.target if file.role == "model" else f"{file.target} {file.role}"
        found[name] = _structured(wanted, Sidecar, path)
    return found


_TAKEN = (
    "gzip_bytes", "task", "inputs", "outputs", "labels", "preprocessing", "package", "output_roles", "sizes",
    "size_axes", "runtimes", "versions", "export", "scheme",
)  # fmt: skip


def _json(path: Path) -> dict[str, Any]:
    try:
        said = json.loads(read_regular(path, _MOST_BYTES))
    except UnfitFile as error:
        raise ReleaseError(f"{path}: {error.words}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ReleaseError(f"cannot read {path}: {error}") from None
    if not isinstance(said, dict):
        raise ReleaseError(f"{path}: wanted a table, found {type(said).__name__}")
    return said


def _structured(said: object, kind: type[Any], path: Path) -> Any:
    try:
        return files.from_json(said, kind)
    except (ValueError, LookupError) as error:
        raise ReleaseError(f"{path} does not hold what a build writes: {error}") from None
