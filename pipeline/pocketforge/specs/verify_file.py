"""What `verify_file` is told."""

from __future__ import annotations

from dataclasses import dataclass

from pocketforge.recipe.output import Output
from pocketforge.recipe.target import Verify
from pocketforge.specs.base import Spec


@dataclass(frozen=True, slots=True)
class VerifyFileSpec(Spec):
    """Stage `verify_file`. What the file says of itself says by which scheme it was made.

    Attributes:
        runtime: Which loads the file.
        task: classification, regression or outputs.
        limits: The target's own `verify` table; what it leaves out, the scheme says.
        kernels: As `VerifySpec.kernels`.
        judged: As `VerifySpec.judged`.
        legacy: As `VerifySpec.legacy`.
    """

    runtime: str
    task: str
    limits: Verify
    kernels: str
    judged: tuple[Output, ...] = ()
    legacy: str = ""
