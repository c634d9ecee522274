"""[[device]] with via = "sandbox": what a recipe says of it, and what is looked up before a plan."""

import dataclasses
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from pocketforge.facts.kinds import Looked
from pocketforge.plan.steps import Facts
from pocketforge.recipe import Recipe
from pocketforge.recipe.budget import Place
from pocketforge.recipe.device import Device
from pocketforge.recipe.names import check_name
from pocketforge.recipe.ranges import COUNT, TIME_LIMIT_S, Range, check_ranges


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A file is timed in `processes`, `samples` inferences in each; `time_limit_s` is of each process."""

    name: str = "sandbox"
    via: Literal["sandbox"] = "sandbox"
    processes: int = 3
    samples: int = 10
    time_limit_s: float = 60.0

    GIVES: ClassVar[frozenset[Place]] = frozenset({"outputs", "timed"})
    RANGES: ClassVar[Mapping[str, Range]] = {
        "processes": Range(3, 100),
        "samples": COUNT,
        "time_limit_s": TIME_LIMIT_S,
    }

    def __post_init__(self) -> None:
        check_name(self.name, "name")
        check_ranges(self)

    @property
    def gives(self) -> frozenset[Place]:
        return self.GIVES

    @property
    def budget_names(self) -> tuple[str, ...]:
        return (self.name,)

    def named_files(self) -> dict[str, str]:
        return {}


def look_up(_recipe: Recipe, devices: Sequence[Device], facts: Facts) -> Looked:
    """Another kernel may give other results."""
    identity = f"{facts.host}, kernel {platform.release()}"
    return Looked(dataclasses.replace(facts, devices={**facts.devices, **{d.name: identity for d in devices}}))
