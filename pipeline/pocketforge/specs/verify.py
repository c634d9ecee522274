"""What `verify` is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from pocketforge.recipe.output import Output, scores_classes
from pocketforge.recipe.score_calibration import ScoreCalibration
from pocketforge.recipe.target import Verify
from pocketforge.specs.base import Spec


@dataclass(frozen=True, slots=True)
class VerifySpec(Spec):
    """Stage `verify`.

    Attributes:
        runtime: Whose files are run.
        scheme: Of the target.
        trained: Whether the target's `quantize.finetune` trained it: it is another model than the reference then.
        task: classification, regression or outputs.
        limits: The target's own `verify` table; what it leaves out, the scheme says.
        kernels: Those of this machine: a verdict is of the kernels that it came from.
        judged: Outputs that have a role, in the recipe's words; those of a task have no name.
        consumers: What reads the file in an app and is tried with it: name → its environment, in words that change
            with it.
        calibration: Of scores, by who reads the file's metadata; None for none.
        int8_weights: As `ExportSpec.int8_weights`: this machine judges the file only where its kernels do not saturate.
        legacy: The older TFLite runtime's environment, in words that change with it; empty where it is not asked.
    """

    OMIT_EMPTY: ClassVar[frozenset[str]] = frozenset({"int8_weights"})

    runtime: str
    scheme: str
    trained: bool
    task: str
    limits: Verify
    kernels: str
    judged: tuple[Output, ...] = ()
    legacy: str = ""
    consumers: Mapping[str, str] = field(default_factory=dict)
    calibration: ScoreCalibration | None = None
    int8_weights: bool = False

    def scores_classes(self, output: str, position: int) -> bool:
        """As recipe.output has it."""
        return scores_classes(self.task, self.judged, output, position)
