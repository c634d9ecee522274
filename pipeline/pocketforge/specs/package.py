"""What `package` is told."""

from __future__ import annotations

from dataclasses import dataclass

from pocketforge.recipe.output import Output
from pocketforge.recipe.package import Package
from pocketforge.recipe.packed import Inside
from pocketforge.specs.base import Spec


@dataclass(frozen=True, slots=True)
class PackageSpec(Spec):
    """Stage `package`.

    Attributes:
        package: The target's.
        inside: What is put before each input of a sample; empty where preprocessing stays outside.
        task: classification, regression or outputs.
        judged: Outputs that have a role, in the recipe's words; those of a task have no name.
    """

    package: Package
    inside: tuple[Inside, ...] = ()
    task: str = "classification"
    judged: tuple[Output, ...] = ()
