"""What `answers` is told."""

from __future__ import annotations

from dataclasses import dataclass

from pocketforge.recipe.output import Output
from pocketforge.specs.base import Spec


@dataclass(frozen=True, slots=True)
class AnswersSpec(Spec):
    """Stage `answers`.

    Attributes:
        runtime: Which loads the file.
        name: The file's own, without its folder.
        task: classification, regression or outputs.
        metric: The task's metric that progress tells of.
        judged: Outputs that have a role, in the recipe's words; those of a task have no name.
    """

    runtime: str
    name: str
    task: str
    metric: str
    judged: tuple[Output, ...] = ()
