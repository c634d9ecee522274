"""README.md beside generated code: what the model takes and gives, and the steps of one call."""

from __future__ import annotations

from collections.abc import Sequence

from pocketforge.package.generators import AppSamples
from pocketforge.package.model import AppModel
from pocketforge.package.templates import fill


def readme(model: AppModel, samples: AppSamples | None, usage: str, notes: Sequence[str]) -> bytes:
    """usage: Markdown that shows how the class is built in and called. notes: what else a user should know."""
    return fill("README.md.j2", model=model, count=samples.count if samples else 0, usage=usage, notes=notes)
