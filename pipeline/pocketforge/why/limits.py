"""What each stage may cost, compared with the stage before it. Measured on the shipped models; see the reasons."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from pocketforge.recipe.limits import verify_limits
from pocketforge.recipe.schemes import SCHEMES
from pocketforge.specs.why import WhySpec

STAGES = ("eager", "exported", "prepared", "converted", "lowered", "runtime")


@dataclass(frozen=True, slots=True)
class Limit:
    """Of a stage's outputs against the stage before.

    Attributes:
        min_sqnr_db: Of a whole output.
        min_argmax_agreement: Share of the samples, of a classifier's first output.
        layer_db: A bad stage's layer below this SQNR is named.
        min_channel_sqnr_db: Of an output's worst channel.
        min_integer_agreement: Share of equal values of an output that stands for itself.
        max_diff_ratio: The largest difference over the range of the stage before; None where it says nothing.
        max_steps: The largest difference, in steps of the output's scale; None where steps say nothing.
        relative: Whether SQNR and steps give way to what quantizing itself cost, as in verify.
    """

    min_sqnr_db: float
    min_argmax_agreement: float
    layer_db: float
    min_channel_sqnr_db: float = 0.0
    min_integer_agreement: float = 0.95
    max_diff_ratio: float | None = None
    max_steps: float | None = None
    relative: bool = False


# The order of sums alone: 60 dB is 0.1 % noise, real ones are above 100 dB.
_SAME = Limit(60.0, 0.995, 60.0, 40.0, 1.0)
# Fake quantization in float and the converted graph's integers are the same numbers: the shipped models' are exact.
_CONVERTED = Limit(40.0, 0.99, 36.0)
# The same integers, rounded in another order: one level now and then, which later layers pass on. A wrong zero point,
# weight or layout is below 15 dB; the shipped models are at 38 to 47 dB in all three runtimes, at 33 dB with the wider
# steps of backend fbgemm.
_ROUNDED_DB, _ROUNDED_LAYER_DB = 24.0, 20.0
# One layer whose input and output are rounded to 8 bits: good layers of the shipped models are at 36 to 47 dB by
# themselves; one whose range was cut to a quarter is below 10 dB.
_QUANTIZED_LAYER_DB = 18.0


def limit_for(stage: str, before: str, spec: WhySpec, output: str = "") -> Limit:
    """The limit of `stage` when `before` is the stage that it is compared with. spec: the step's.

    The stage that first computes with the scheme's numbers may cost what verify lets the scheme cost: its defaults,
    and what the recipe says of all outputs and of this one.
    """
    scheme = SCHEMES[spec.scheme]
    first = scheme.first_seen
    pays = not scheme.keeps_numbers and (stage == first or (before == "exported" and stage == "converted"))
    # The only output has no name in the recipe.
    judged = [dataclasses.replace(each, name=each.name or output) for each in spec.judged]
    known = verify_limits(spec.scheme, spec.limits, judged, trained=spec.trained)
    limits = known.of(output)
    if pays:
        return Limit(
            limits["min_sqnr_db"],
            limits["min_argmax_agreement"],
            _QUANTIZED_LAYER_DB,
            limits.get("min_channel_sqnr_db", -math.inf),
            limits["min_integer_agreement"],
            limits["max_diff_ratio"],
        )
    if scheme.keeps_numbers or stage in ("eager", "exported"):
        return _SAME
    if stage == "converted" or scheme.family == "stored":
        # Stored in few bits, computed in float: behind the de-quantized graph only the order of sums differs.
        return _CONVERTED
    return Limit(
        limits.get("min_graph_sqnr_db", _ROUNDED_DB),
        limits["min_argmax_agreement"],
        _ROUNDED_LAYER_DB,
        # A channel of few steps is one step away now and then: steps say what rounding is.
        -math.inf,
        limits["min_integer_agreement"],
        max_steps=limits.get("max_steps_from_graph"),
        relative=known.is_relative("min_graph_sqnr_db", output),
    )
