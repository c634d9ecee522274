"""Which columns of a table of samples are what."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from pocketforge.recipe.ranges import check_path

# What a cell can be made to; a target may be named by one of these, or end with it: `age_label`, `left_mask`.
TARGET_KINDS: Final = (
    "label", "labels", "mask", "boxes", "classes", "crowd", "keypoints", "areas", "tags", "text", "image", "waveform",
    "value",
)  # fmt: skip


def kind_of_target(name: str) -> str:
    """`mask` of `mask` and of `left_mask`; empty for a name that says none."""
    last = name.rpartition("_")[2]
    return last if last in TARGET_KINDS else ""


@dataclass(frozen=True, slots=True)
class Columns:
    """What the columns of a table are. None are needed where a table's own names say it (docs/data.md).

    Attributes:
        inputs: One for each of the model's inputs: paths of images, sound or .npy files, texts, or numbers.
        features: Columns of numbers that are one more input, a vector; `acc_*` stands for all that begin so.
        targets: Name of a target → its column.
        id: What samples are known by; empty for the file's name and the record's number.
        split: Says of each sample which split it is of, in the usual words; empty where none does.
        slices: Further columns by which results are told apart: device, light.
        folder: What paths in the table are relative to; empty for the table's own folder.
    """

    inputs: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    targets: dict[str, str] = field(default_factory=dict)
    id: str = ""
    split: str = ""
    slices: tuple[str, ...] = ()
    folder: str = ""

    def __post_init__(self) -> None:
        for name, column in self.targets.items():
            if not name.isidentifier() or not kind_of_target(name):
                raise ValueError(
                    f"target: {name!r} is no target: wanted {', '.join(TARGET_KINDS)}, or a name that ends with one, "
                    "as age_label"
                )
            if not column:
                raise ValueError(f"target.{name} names no column")
        for key in ("inputs", "features", "slices"):
            names, key = getattr(self, key), "input" if key == "inputs" else key  # as a recipe has it
            if "" in names:
                raise ValueError(f"{key} names no column: found ''")
            if len(set(names)) != len(names):
                raise ValueError(f"{key} names a column twice: {', '.join(names)}")
        check_path(self.folder, "folder")
