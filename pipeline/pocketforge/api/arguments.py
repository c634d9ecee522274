"""What the functions of `import pocketforge` may be given."""

from __future__ import annotations

from pocketforge.errors import RecipeError


def within(name: str, value: float | None, low: int, high: int, *, whole: bool = False) -> None:
    """Raises RecipeError for an argument that is out of its range, or no number; None is the default."""
    kinds = (int,) if whole else (int, float)
    number = value is None or (isinstance(value, kinds) and not isinstance(value, bool) and low <= value <= high)
    if not number:
        raise RecipeError(f"wanted {name} of {low:,} to {high:,}{', whole' if whole else ''}, found {value!r}")
