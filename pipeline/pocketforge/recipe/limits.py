"""What a file is held to: a scheme's own limits (schemes.py), and what a recipe's tables say instead."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pocketforge.recipe.default_limits import EXACT
from pocketforge.recipe.output import Output
from pocketforge.recipe.schemes import SCHEMES
from pocketforge.recipe.target import OutputLimits, Verify

# By default they give way to what quantizing itself cost the graph; not where the recipe says how far.
_OF_ROUNDING = frozenset({"min_graph_sqnr_db", "max_steps_from_graph"})
# Twice the noise that quantizing made, and half as far again in the worst value: wrong kernels were 12 dB and more
# beyond quantizing's own noise.
_MARGIN_DB, _MARGIN_STEPS = 3.0, 1.5


def least_graph_sqnr_db(limit: float, quantized_sqnr_db: float) -> float:
    """`min_graph_sqnr_db`, where it gives way to what quantizing itself cost."""
    return min(limit, quantized_sqnr_db - _MARGIN_DB)


def most_steps_from_graph(
    limit: float, graph_sqnr_db: float, quantized_sqnr_db: float, quantized_steps: float
) -> float:
    """`max_steps_from_graph`, where it gives way. A few large differences of quantizing (a clipped value) allow
    nothing: the noise as a whole has to be of its size."""
    alike = graph_sqnr_db >= quantized_sqnr_db - _MARGIN_DB
    return max(limit, _MARGIN_STEPS * quantized_steps) if alike else limit


@dataclass(frozen=True, slots=True)
class Limits:
    """What a file is held to. A limit's name is min_ or max_ and the name of a figure.

    Attributes:
        common: For every output.
        by_output: Output → what the recipe says of it alone.
        relative: Names of those that give way to what quantizing itself costs, in order.
    """

    common: Mapping[str, float]
    by_output: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    relative: tuple[str, ...] = ()

    def of(self, output: str) -> dict[str, float]:
        """One output's."""
        return {**self.common, **self.by_output.get(output, {})}

    def is_relative(self, name: str, output: str) -> bool:
        return name in self.relative and name not in self.by_output.get(output, {})


def verify_limits(scheme: str, asked: Verify, outputs: Iterable[Output] = (), *, trained: bool = False) -> Limits:
    """What `verify` holds a target's file to.

    asked: its own; outputs: the recipe's, whose own limits are for all targets and give way to a target's; trained:
    whether `quantize.finetune` trained it.
    """
    common = _set_limits(asked)
    by_output = {each.name: given for each in outputs if (given := each.limits.given())}
    for each in asked.outputs:
        by_output[each.name] = {**by_output.get(each.name, {}), **_set_limits(each)}
    info = SCHEMES[scheme]
    relative = _OF_ROUNDING - set(common) if info.rounds_as_quantized else frozenset()
    defaults = info.trained_limits if trained and info.trained_limits is not None else info.limits
    return Limits({**defaults, **common}, by_output, tuple(sorted(relative)))


def _set_limits(table: Verify | OutputLimits) -> dict[str, float]:
    """Those that a table of the recipe sets."""
    return {name: value for name in table.RANGES if (value := getattr(table, name)) is not None}


@dataclass(frozen=True, slots=True)
class DeviceLimits:
    """What the keys of a [[device]] say of outputs there against the host's; None takes the scheme's default.

    Attributes:
        min_sqnr_db: Of every output.
        min_argmax_agreement: Share of samples with the same largest score.
        max_steps: The largest difference, in steps of a quantized output.
    """

    min_sqnr_db: float | None = None
    min_argmax_agreement: float | None = None
    max_steps: float | None = None


def x86_limits(scheme: str, asked: DeviceLimits | None = None) -> Limits:
    """As `device_limits`, on an x86 host. max_steps is of a quantized output, and says nothing of others."""
    return _with_asked(SCHEMES[scheme].on_x86, asked or DeviceLimits())


def device_limits(scheme: str, asked: DeviceLimits | None = None) -> Limits:
    """Of `verify_device`: by default, and what the device's own keys say."""
    return _with_asked(SCHEMES[scheme].on_device, asked or DeviceLimits())


def _with_asked(defaults: Mapping[str, float], asked: DeviceLimits) -> Limits:
    own = {name: value for name, value in dataclasses.asdict(asked).items() if value is not None}
    return Limits({**defaults, **EXACT, **own})
