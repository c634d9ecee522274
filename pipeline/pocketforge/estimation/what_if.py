"""What a change would do to an estimate, before anything is built: every layer narrower or wider.

Widths are the channels that layers hand to each other; the model's input and what its last layer with weights makes
stay as they are. A dense layer's work and weights go with both of its widths, all else with one. The counts are not
counted again, so nothing is known of channels that no longer fill a kernel's tile: docs/estimates.md says how far
off such ratios were on published blocks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from pocketforge.errors import RecipeError
from pocketforge.estimation.blocks import Work
from pocketforge.estimation.layers import dense_work, shares
from pocketforge.estimation.traffic import Operator, Traffic

LEAST, MOST = 0.25, 2.0
HINT = "--what-if width=0.75 is every layer at three quarters of its channels"


@dataclass(frozen=True, slots=True)
class WhatIf:
    """A change.

    Attributes:
        width: Of every layer's channels, as a factor.
    """

    width: float

    def __post_init__(self) -> None:
        """Raises RecipeError for a factor that nothing was checked near."""
        if not LEAST <= self.width <= MOST:
            raise RecipeError(f"--what-if width: wanted {LEAST:g} to {MOST:g}, found {self.width:g}", HINT)

    @property
    def words(self) -> str:
        """As it is written."""
        return f"width={self.width:g}"


def parse(text: str) -> WhatIf:
    """`width=0.75`. Raises RecipeError."""
    name, equals, value = text.partition("=")
    if name != "width" or not equals:
        raise RecipeError(f"--what-if {text}: wanted width=FACTOR", HINT)
    try:
        return WhatIf(float(value))
    except ValueError:
        raise RecipeError(f"--what-if {text}: {value!r} is not a number", HINT) from None


def changed(work: Work, traffic: Traffic, what: WhatIf) -> tuple[Work, Traffic]:
    """The work and the traffic of the changed model, whose input and last layer's output stay."""
    weighted = [at for at, operator in enumerate(traffic.operators) if operator.rows]
    first, last = (weighted[0], weighted[-1]) if weighted else (-1, len(traffic.operators))
    ends = []
    for at in range(len(traffic.operators)):
        into = what.width if first < at <= last else 1.0
        out = what.width if first <= at < last else 1.0
        ends.append((into, out))
    return narrowed(work, traffic, ends)


def narrowed(work: Work, traffic: Traffic, ends: Sequence[tuple[float, float]]) -> tuple[Work, Traffic]:
    """With each operator's input and output channels times these factors."""
    operators, dense = [], 0.0
    part = shares([dense_work(operator) for operator in traffic.operators])
    for share, operator, (into, out) in zip(part, traffic.operators, ends, strict=True):
        weights = into * out if operator.rows else out
        dense += share * weights
        operators.append(_scaled(operator, weights, into, out))
    light = sum(o.output_bytes for o in operators) / max(sum(o.output_bytes for o in traffic.operators), 1)
    heavy, other = work.dense_cycles * dense, (work.cycles - work.dense_cycles) * light
    after = dataclasses.replace(
        work,
        cycles=heavy + other,
        dense_cycles=heavy,
        instructions=round(work.instructions * (heavy + other) / work.cycles),
        loop_exits=round(work.loop_exits * light),
    )
    return after, Traffic(tuple(operators))


def _scaled(operator: Operator, weights: float, into: float, out: float) -> Operator:
    return dataclasses.replace(
        operator,
        weight_bytes=round(operator.weight_bytes * weights),
        input_bytes=round(operator.input_bytes * into),
        output_bytes=round(operator.output_bytes * out),
        window_bytes=round(operator.window_bytes * into),
        window_held_bytes=round(operator.window_held_bytes * into),
    )
