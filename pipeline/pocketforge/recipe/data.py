"""Real samples: where they come from, how they are split and preprocessed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from pocketforge.recipe.columns import Columns
from pocketforge.recipe.faults import Fault, WrongTable
from pocketforge.recipe.image_steps import Normalize, Scale
from pocketforge.recipe.preprocess import InputSteps, Preprocess, Preprocessing, lists_of, preprocessing_faults
from pocketforge.recipe.ranges import COUNT, INNER_SHARE, Range, check_path, check_ranges
from pocketforge.registries import SOURCES, SourceInfo

# A mean of 124 is of 0 to 255, not of what is scaled to 0 to 1.
_SLACK = 2.0
# The source that has no word of its own: a file of the user's code begins it.
FUNCTION = "function"


def parse_source(source: str) -> tuple[str, str]:
    """A source's kind (a name of SOURCES) and its place: `npz:a.npz` → ("npz", "a.npz")."""
    word, _, place = source.partition(":")
    if word == FUNCTION or word.endswith(".py"):  # no word of a package's: nothing is looked for
        return FUNCTION, source
    return (word, place) if word in SOURCES else (FUNCTION, source)


def written_sources() -> list[str]:
    """How each source is written in a recipe."""
    named = [f"{name}:{info.place}".rstrip(":") for name, info in SOURCES.usable().items() if name != FUNCTION]
    return [*named, SOURCES[FUNCTION].place]


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
        preprocess: What happens to a raw sample, in a short table or in lists, one for each of its inputs in their
            order; None feeds arrays as they are, and scales images.
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
    preprocess: Preprocessing = None
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
            able = " or ".join(f"{name}:{row.place}" for name, row in SOURCES.usable().items() if row.split_folders)
            raise ValueError(f"split_folders is for source {able}, found {self.source!r}")
        if self.columns is not None and not info.columns:
            able = " or ".join(f"{name}:{row.place}" for name, row in SOURCES.usable().items() if row.columns)
            raise ValueError(f"columns is for source {able}, found {self.source!r}")
        if self.mask_values and "mask" not in info.targets:
            rows = SOURCES.usable()
            able = " or ".join(f"{name}:{row.place}" for name, row in rows.items() if "mask" in row.targets)
            raise ValueError(f"mask_values is for source {able}, found {self.source!r}")
        if len(set(self.mask_values)) != len(self.mask_values):
            raise ValueError(f"mask_values: wanted another value for each class, found {list(self.mask_values)}")
        check_path(self.source, "source")
        check_path(self.labels, "labels")
        check_ranges(self)
        faults = [fault.inside("preprocess") for fault in preprocessing_faults(lists_of(self.preprocess))]
        if faults:
            raise WrongTable(*faults)
        self._check_units(info)

    def named_files(self) -> dict[str, str]:
        kind, place = parse_source(self.source)
        if kind == FUNCTION:
            place = place.partition(":")[0]
        elif SOURCES[kind].place not in ("DIR", "FILE", "PATH"):
            place = ""
        folder = self.columns.folder if self.columns else ""
        return {"labels": self.labels, "source": place, "columns.folder": folder, **self.preprocess_files()}

    def preprocess_files(self) -> dict[str, str]:
        """Key → file of each that a step of preprocessing reads."""
        return {f"{place}.{key}": file for place, each in self._lists() for key, file in each.files}

    def tokenizers(self) -> tuple[str, ...]:
        """Files of tokenizers, each once."""
        return tuple(dict.fromkeys(self.preprocess_files().values()))

    def _lists(self) -> Iterator[tuple[str, InputSteps]]:
        """Each list with its place, as faults name it."""
        lists = lists_of(self.preprocess)
        for number, each in enumerate(lists):
            yield (f"preprocess[{number}]" if len(lists) > 1 else "preprocess"), each

    @property
    def layout(self) -> str:
        """NCHW or NHWC: of images as the PyTorch model takes them."""
        if isinstance(self.preprocess, Preprocess):
            return self.preprocess.layout
        # Of a source of images, steps for any numbers are for images.
        kind = "image" if is_of_images(self.source) else ""
        images = [each.layout or "NHWC" for each in lists_of(self.preprocess) if (each.kind or kind) == "image"]
        return images[0] if images else "NCHW"

    @property
    def libraries(self) -> tuple[str, ...]:
        """Distributions that its preprocessing calls, besides what every build needs."""
        return tuple(sorted({name for each in lists_of(self.preprocess) for name in each.libraries}))

    def _check_units(self, info: SourceInfo) -> None:
        """mean and std of images are of what they are scaled to: by default 0..1."""
        if not info.largest:
            return
        asked = self.preprocess
        if isinstance(asked, Preprocess):
            _check_scaled(info, asked.scale, asked.mean, asked.std, "preprocess")
        for place, each in self._lists():
            scale: float | None = 0.0
            for index, step in enumerate(each.step):
                scale = step.by if isinstance(step, Scale) else scale
                if isinstance(step, Normalize) and each.kind in ("image", ""):
                    _check_scaled(info, scale, step.mean, step.std, f"{place}.step[{index}]")
                    break


def is_of_images(source: str) -> bool:
    """Whether a source's samples are images whatever the recipe does to them. source: as `Data.source`."""
    return bool(SOURCES[parse_source(source)[0]].largest)


def _check_scaled(
    info: SourceInfo, scale: float | None, mean: tuple[float, ...], std: tuple[float, ...], where: str
) -> None:
    """scale: the raw value that was made 1.0 before; None the source's largest, 0 none."""
    top = 1.0
    if scale is not None:
        deep = info.largest_deep and scale <= 1  # then images of 16 bits may be meant
        top = max((info.largest_deep if deep else info.largest) / (scale or 1.0), 1.0)
    for name, values in (("mean", mean), ("std", std)):
        if any(abs(value) > _SLACK * top for value in values):
            meant = [round(value / 255, 4) for value in values]
            hint = f"; did you mean {meant}? (scale = 0 leaves values as they are)" if scale is None else ""
            raise WrongTable(
                Fault(f"{where}.{name} must be of values scaled to 0..{top:g}, found {list(values)}{hint}")
            )
