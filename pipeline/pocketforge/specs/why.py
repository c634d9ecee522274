"""What `why` is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pocketforge.recipe.output import Output, scores_classes
from pocketforge.recipe.quantize import Quantize
from pocketforge.recipe.target import Verify
from pocketforge.specs.base import Spec
from pocketforge.specs.package import PackageSpec
from pocketforge.specs.trained import ModelSource


@dataclass(frozen=True, slots=True)
class WhySpec(Spec):
    """Stage `why`.

    Attributes:
        target: The target's name, for what is said.
        runtime: Of the target's file.
        scheme: Of the target.
        trained: Whether the scheme's form was trained: its limits are wider then.
        task: The recipe's; argmax is compared of scores of classes only.
        limits: What verify held the file to.
        model: Where the model comes from, as stage `reference` has it.
        quantize: How the target was quantized; None where no step did.
        samples: How many of the eval split: those that the file answers worst, then from its beginning.
        judged: As `VerifySpec.judged`.
        package: What was put around the model; None of a file that is the model alone.
        int8_weights: As `ExportSpec.int8_weights`.
    """

    OMIT_EMPTY: ClassVar[frozenset[str]] = frozenset({"int8_weights"})

    target: str
    runtime: str
    scheme: str
    trained: bool
    task: str
    limits: Verify
    model: ModelSource
    quantize: Quantize | None
    samples: int
    judged: tuple[Output, ...] = ()
    package: PackageSpec | None = None
    int8_weights: bool = False

    def scores_classes(self, output: str, position: int) -> bool:
        """As recipe.output has it."""
        return scores_classes(self.task, self.judged, output, position)
