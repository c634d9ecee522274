"""What `data` is told, and every stage that reads samples itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pocketforge.recipe.data import Data, Preprocess, SplitFolders
from pocketforge.recipe.model import InputSpec
from pocketforge.recipe.output import Output, labelled
from pocketforge.recipe.roles import TargetName
from pocketforge.specs.base import Spec

# How sources read: 2 turns images by EXIF, reads more kinds of them, sees more splits, divides uint8 arrays by 255.
READING = 2


@dataclass(frozen=True, slots=True)
class WantedTarget:
    """One target that an output is held against.

    Attributes:
        name: Of the sample's targets.
        kind: What it has to be, one of roles.TargetName.
        output: Whose it is, for errors; empty for the only output.
        role: That output's.
        labelled: Whether data.labels are its class names: of the first output that has classes.
    """

    name: str
    kind: TargetName
    output: str
    role: str
    labelled: bool = False


@dataclass(frozen=True, slots=True)
class DataSpec(Spec):
    """A recipe's samples: read, split and preprocessed.

    No path of a labels file: what is in it goes into keys on its own.

    Attributes:
        source: Where samples come from, as `Data.source`; relative paths are of the recipe's folder.
        eval_fraction: Share of the samples to evaluate on, 0 to 1, where the source has no split of its own.
        eval_samples: The most samples to evaluate on.
        calibration_samples: So many train samples are set apart to calibrate with.
        preprocess: From a raw sample to the model's input; None leaves arrays as they are.
        split_folders: Which of an image folder's folders are its splits; None where their names say so.
        seed: Of the split.
        task: `classification`, `regression` or `outputs`.
        targets: Those by name, of task `outputs`; () of others, whose samples have one.
        sequence: The model's inputs, where some are states and samples therefore sequences; () of other models.
        reading: Changes when sources give other samples for the same files.
    """

    source: str
    eval_fraction: float
    eval_samples: int
    calibration_samples: int
    preprocess: Preprocess | None
    split_folders: SplitFolders | None
    seed: int
    task: str
    targets: tuple[WantedTarget, ...] = ()
    sequence: tuple[InputSpec, ...] = ()
    reading: int = READING


def data_spec(
    data: Data, seed: int, task: str, judged: Sequence[Output] = (), inputs: tuple[InputSpec, ...] = ()
) -> DataSpec:
    """What reading, splitting and preprocessing a recipe's data depends on. judged: as `Recipe.judged`. inputs: the
    model's, as the recipe says."""
    return DataSpec(
        source=data.source,
        eval_fraction=data.eval_fraction,
        eval_samples=data.eval_samples,
        calibration_samples=data.calibration_samples,
        preprocess=data.preprocess,
        split_folders=data.split_folders,
        seed=seed,
        task=task,
        sequence=inputs if any(each.state for each in inputs) else (),
        targets=_wanted(judged) if task == "outputs" else (),
    )


def _wanted(judged: Sequence[Output]) -> tuple[WantedTarget, ...]:
    """Each target once, of the first output that is held against it."""
    found: dict[str, WantedTarget] = {}
    of_labels = labelled(judged)
    for output in judged:
        name = output.held_against
        if name and name not in found:
            has_labels = of_labels is not None and name == of_labels.held_against
            found[name] = WantedTarget(name, output.kind_of_target, output.name, output.role, has_labels)
    return tuple(found.values())
