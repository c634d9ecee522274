"""What the functions of `import pocketforge` may be given."""

from __future__ import annotations

from pocketforge.errors import RecipeError


def within(name: str, value: float | None, low: int, high: int) -> None:
    """Raises RecipeError for an argument that is out of its range, or no number; None is the default."""
    number = value is None or (isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high)
    if not number:
        raise RecipeError(f"wanted {name} of {low:,} to {high:,}, found {value!r}")
