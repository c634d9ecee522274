"""export.json: which files an export wrote, and what they promise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from pocketforge.outcomes.tensors import TensorSpec


@dataclass(frozen=True, slots=True)
class Exported:
    """What stage `export` wrote.

    Attributes:
        files: Role → name of the file in the step's folder; `model` is the one that an app ships.
        inputs: What the files take, in order.
        outputs: What they give, in order.
        gzip_bytes: Role → the file's bytes packed by gzip -9: some 15 CPU s of 300 MB, so it is done once.
        facts: What the runtime's exporter has to say for reports: its own words, by name.
        warnings: What a user should know of it, in words.
    """

    FILE: ClassVar[str] = "export.json"

    files: Mapping[str, str]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    gzip_bytes: Mapping[str, int] = field(default_factory=dict)
    facts: Mapping[str, object] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if "model" not in self.files:
            raise ValueError(f"files must name the model, found {', '.join(self.files) or 'none'}")

    def model_in(self, folder: Path) -> Path:
        """The file that an app ships, in the export's folder."""
        return folder / self.files["model"]
