"""What became of a concat whose parts are of unlike range, in words."""

from __future__ import annotations

from collections.abc import Iterator

from pocketforge.outcomes.quantize import Concat, ConcatPart


def concat_lines(concat: Concat) -> Iterator[str]:
    """A line for the concat, with what each part that suffers has in one scale for all, and in its own."""
    suffering = [part for part in concat.parts if part.shared_db != part.own_db]
    parts = "; ".join(map(_part, suffering))
    if concat.kept_apart:
        yield f"{concat.name} stays float, so that its parts keep their own scales: {parts}"
    else:
        yield (
            f"{concat.name} has parts of unlike range in one scale, as a layer reads it: {parts}; where that costs "
            "accuracy, keep the layer behind it float (overrides)"
        )


def _part(part: ConcatPart) -> str:
    return (
        f"{part.made_by} ({part.low:.3g} to {part.high:.3g}) {_db(part.shared_db)} in one scale for all, "
        f"{_db(part.own_db)} in its own"
    )


def _db(value: float | None) -> str:
    return "exact" if value is None else f"{value:.1f} dB"
