"""Mixed precision by measurement: the fewest bytes of float weights that keep a stated accuracy.

Every assignment that is taken was converted as it will ship and scored on real samples; the study of single layers only
says in which order to try. Method: sensitivity order with a measured stop, as in Dong et al. 2019 (HAWQ) without the
Hessian: the noise that a layer's quantization adds to the output is measured instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from pocketforge.errors import StageFailed
from pocketforge.outcomes.layers import LayerCost, LayerStudy
from pocketforge.outcomes.mixed import Assignment, FloatOverride, MixedChoice
from pocketforge.quantization.layer_study import Scorer
from pocketforge.quantization.pt2e import NO_LAYER, layer_schemes, rewritten_for_quantizer
from pocketforge.recipe.quantize import Quantize

_TOLERANCE = 1e-9  # a drop of exactly the limit is within it
_FLOAT_BYTES, _INT8_BYTES = 4, 1


@dataclass(frozen=True, slots=True)
class ChosenSchemes:
    """An assignment that keeps the accuracy.

    Attributes:
        schemes: Of every layer, for `quantize_graph`.
        summary: What was measured, and the choice as `overrides`.
    """

    schemes: dict[str, str]
    summary: MixedChoice


def choose(
    study: LayerStudy,
    scorer: Scorer,
    quantize: Quantize,
    emit: Callable[[float, str], None],
    kept_apart: Mapping[str, str] = MappingProxyType({}),
) -> ChosenSchemes:
    """The assignment with the fewest bytes found whose drop is at most quantize.max_accuracy_drop.

    kept_apart: operations that stay float in each of them (concats.py).

    Layers become float one after the other, those first whose quantization does most harm a byte, until the drop is
    within the limit; then each that costs nothing becomes int8 again. Raises StageFailed when only a float model keeps
    the accuracy.
    """
    base = {**layer_schemes(rewritten_for_quantizer(scorer.program).graph, quantize), **kept_apart}
    costs = [cost for cost in study.layers if base.get(cost.name) == "static_int8"]
    order = by_harm(costs)
    weights = {cost.name: cost.weights for cost in costs}
    limit = quantize.max_accuracy_drop + _TOLERANCE
    tried: list[Assignment] = []

    def drop(names: Sequence[str]) -> float:
        emit(min(0.9, len(tried) / (2 * len(costs) + 1)), f"{len(names)} of {len(costs)} layers in float")
        score = scorer.converted({**base, **dict.fromkeys(names, "fp32")})
        tried.append(Assignment(tuple(names), score.drop, score.metric, score.sqnr_db))
        return score.drop

    count = _fewest(order, lambda names: drop(names) <= limit)
    if count == len(order):
        raise StageFailed(
            f"mixed: no layer can be int8 within max_accuracy_drop = {quantize.max_accuracy_drop:g} "
            f"({len(tried)} assignments measured on {study.samples} samples)",
            "allow a larger drop, train with qat_int8, or ship fp32",
        )
    left_float = list(order[:count])
    for name in sorted(left_float, key=lambda n: -weights[n]):
        fewer = [other for other in left_float if other != name]
        if drop(fewer) <= limit:
            left_float = fewer
    final = next(each for each in reversed(tried) if set(each.float) == set(left_float))
    summary = MixedChoice(
        study=study,
        max_accuracy_drop=quantize.max_accuracy_drop,
        drop=final.drop,
        sqnr_db=final.sqnr_db,
        float_layers=tuple(left_float),
        weight_bytes=sum(weights[n] * (_FLOAT_BYTES if n in left_float else _INT8_BYTES) for n in order),
        weight_bytes_all_int8=sum(weights[n] for n in order) * _INT8_BYTES,
        tried=tuple(tried),
        overrides=tuple(FloatOverride(name) for name in left_float),
    )
    schemes = {**base, **dict.fromkeys(left_float, "fp32"), NO_LAYER: base[NO_LAYER]}
    return ChosenSchemes(schemes, summary)


def by_harm(costs: Sequence[LayerCost]) -> list[str]:
    """Layer names, those first whose quantization adds most noise to the output for each byte that float would cost."""

    def harm(cost: LayerCost) -> float:
        noise: float = 10 ** (-cost.only_quantized.sqnr_db / 10)
        return noise / max(1, cost.weights)

    return [cost.name for cost in sorted(costs, key=lambda cost: (-harm(cost), cost.name))]


def _fewest(order: Sequence[str], holds: Callable[[Sequence[str]], bool]) -> int:
    """The smallest count of the order's first layers for which it holds, by bisection (more float is taken to be no
    worse; what is returned was measured to hold); len(order) when none but that holds.
    """
    if holds(order[:0]):
        return 0
    low, high = 0, len(order)  # low fails; all in float holds, being the model as it was
    while high - low > 1:
        middle = (low + high) // 2
        if holds(order[:middle]):
            high = middle
        else:
            low = middle
    return high
