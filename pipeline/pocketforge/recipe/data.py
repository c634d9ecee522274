"""Real samples: where they come from, how they are split and preprocessed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from pocketforge.recipe.columns import Columns
from pocketforge.recipe.names import Layout
from pocketforge.recipe.ranges import COUNT, INNER_SHARE, Range, check_path, check_ranges
from pocketforge.registries import SOURCES, SourceInfo

# Of one sample: 200 MB as float32 RGB. Anything larger is a slip, and would fill memory in the middle of a build.
_MOST_PIXELS = 4096 * 4096
# A mean of 124 is of 0 to 255, not of what is scaled to 0 to 1.
_SLACK = 2.0
# The source that has no word of its own: a file of the user's code begins it.
FUNCTION = "function"


def parse_source(source: str) -> tuple[str, str]:
    """A source's kind (a name of SOURCES) and its place: `npz:a.npz` → ("npz", "a.npz")."""
    word, _, place = source.partition(":")
    return (word, place) if word != FUNCTION and word in SOURCES else (FUNCTION, source)


def written_sources() -> list[str]:
    """How each source is written in a recipe."""
    named = [f"{name}:{info.place}".rstrip(":") for name, info in SOURCES.items() if name != FUNCTION]
    return [*named, SOURCES[FUNCTION].place]


@dataclass(frozen=True, slots=True)
class Preprocess:
    """From a raw sample (H×W×C, the source's own range) to the model's input.

    Attributes:
        resize: [height, width] in pixels, bilinear; empty leaves the size.
        color: Channels: as they are, 3 or 1.
        scale: The raw value that becomes 1.0; 0 leaves values as they are, None is the source's own maximum.
        mean: Subtracted after scaling: one value, or one a channel; empty for none.
        std: Divided by after that; as long as `mean`.
        layout: Of the PyTorch model's input.
    """

    resize: tuple[int, ...] = ()
    color: Literal["as_is", "rgb", "grayscale"] = "as_is"
    scale: float | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    layout: Layout = "NCHW"

    RANGES: ClassVar[Mapping[str, Range]] = {
        "scale": Range(0, 1e9),
        "mean": Range(-1e6, 1e6),
        "std": Range(1e-6, 1e6),
    }

    def __post_init__(self) -> None:
        if self.resize and (len(self.resize) != 2 or min(self.resize) < 1):
            raise ValueError(f"resize must be [height, width], found {list(self.resize)}")
        if self.resize and self.resize[0] * self.resize[1] > _MOST_PIXELS:
            raise ValueError(
                f"resize must be [height, width] of at most {_MOST_PIXELS:,} pixels in all, found {list(self.resize)}"
            )
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean and std must be equally long, found {len(self.mean)} and {len(self.std)}")
        if any(value <= 0 for value in self.std):
            raise ValueError(f"std must be more than 0, found {list(self.std)}")
        if self.scale is not None and self.scale < 0:
            raise ValueError(f"scale must be 0 (leave as is) or more, found {self.scale}")
        check_ranges(self)


@dataclass(frozen=True, slots=True)
class SplitFolders:
    """Which parts of a source are its splits, where their names do not say so: folders, files, lists, or the words of a
    table's split column (docs/data.md says which of them a source has). None: all is to be split.

    Attributes:
        train: Parts that are trained on and calibrate.
        eval: Parts that are evaluated; empty: a share of `train` is.
    """

    train: tuple[str, ...] = ()
    eval: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = (*self.train, *self.eval)
        if self.eval and not self.train:
            raise ValueError(f"eval without train: name the folders that are trained on beside {list(self.eval)}")
        for name in names:
            if not name or name.startswith("/") or {"", ".", ".."} & set(name.split("/")):
                raise ValueError(f"wanted names of folders in the source's folder, found {name!r}")
        if len(set(names)) != len(names):
            raise ValueError(f"wanted each folder once, found train = {list(self.train)}, eval = {list(self.eval)}")


@dataclass(frozen=True, slots=True)
class Data:
    """Real samples.

    Attributes:
        source: A row of SOURCES, `WORD:PLACE` (docs/data.md), or `module.py:function`.
        labels: Text file, one class name a line; empty for the source's own names.
        eval_fraction: Share held out to evaluate, between 0 and 1, where the source has no official split.
        eval_samples: At most so many are evaluated.
        calibration_samples: So many fix the int8 ranges; none is an eval sample.
        preprocess: What happens to a raw sample; None feeds arrays as they are, and scales images.
        split_folders: Which parts of the source are splits; None goes by their names.
        columns: Of tables: which columns are what; None goes by their names.
        mask_values: Of masks: the value of each class, by class number; empty where values are the numbers. [0, 255]
            makes 255 class 1, which else is ignored.
    """

    source: str
    labels: str = ""
    eval_fraction: float = 0.3
    eval_samples: int = 1000
    calibration_samples: int = 100
    preprocess: Preprocess | None = None
    split_folders: SplitFolders | None = None
    columns: Columns | None = None
    mask_values: tuple[int, ...] = ()

    RANGES: ClassVar[Mapping[str, Range]] = {
        "eval_fraction": INNER_SHARE,
        "eval_samples": COUNT,
        "calibration_samples": COUNT,
        "mask_values": Range(0, 65_535),
    }

    def __post_init__(self) -> None:
        kind, _ = parse_source(self.source)
        info = SOURCES[kind]
        word, _, after = self.source.partition(":")
        if kind == FUNCTION and not word.endswith(".py"):
            *others, last = written_sources()
            raise ValueError(f"source must be {', '.join(others)} or {last}, found {self.source!r}")
        if info.place and not after:
            raise ValueError(f"source {word!r} needs a place after a colon, as in {word}:NAME")
        if self.split_folders is not None and not info.split_folders:
            able = " or ".join(f"{name}:{row.place}" for name, row in SOURCES.items() if row.split_folders)
            raise ValueError(f"split_folders is for source {able}, found {self.source!r}")
        if self.columns is not None and not info.columns:
            able = " or ".join(f"{name}:{row.place}" for name, row in SOURCES.items() if row.columns)
            raise ValueError(f"columns is for source {able}, found {self.source!r}")
        if self.mask_values and "mask" not in info.targets:
            able = " or ".join(f"{name}:{row.place}" for name, row in SOURCES.items() if "mask" in row.targets)
            raise ValueError(f"mask_values is for source {able}, found {self.source!r}")
        if len(set(self.mask_values)) != len(self.mask_values):
            raise ValueError(f"mask_values: wanted another value for each class, found {list(self.mask_values)}")
        check_path(self.source, "source")
        check_path(self.labels, "labels")
        check_ranges(self)
        self._check_units(info)

    def named_files(self) -> dict[str, str]:
        kind, place = parse_source(self.source)
        if kind == FUNCTION:
            place = place.partition(":")[0]
        elif SOURCES[kind].place not in ("DIR", "FILE", "PATH"):
            place = ""
        return {"labels": self.labels, "source": place, "columns.folder": self.columns.folder if self.columns else ""}

    def _check_units(self, info: SourceInfo) -> None:
        """mean and std of images are of what they are scaled to: by default 0..1."""
        asked = self.preprocess
        if not info.largest or asked is None:
            return
        top = 1.0
        if asked.scale is not None:
            deep = info.largest_deep and asked.scale <= 1  # then images of 16 bits may be meant
            top = max((info.largest_deep if deep else info.largest) / (asked.scale or 1.0), 1.0)
        for name in ("mean", "std"):
            values = getattr(asked, name)
            if any(abs(value) > _SLACK * top for value in values):
                meant = [round(value / 255, 4) for value in values]
                hint = f"; did you mean {meant}? (scale = 0 leaves values as they are)" if asked.scale is None else ""
                raise ValueError(
                    f"preprocess.{name} must be of values scaled to 0..{top:g}, found {list(values)}{hint}"
                )
