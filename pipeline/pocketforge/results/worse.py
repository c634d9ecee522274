"""Quantization that did not pay: files that are bigger or slower than the same runtime's float file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pocketforge.recipe import Recipe, Target
from pocketforge.recipe.schemes import SCHEMES, SchemeInfo
from pocketforge.records import Measurement, TargetRecord
from pocketforge.stats import percentile_interval


def worse_than_float(
    recipe: Recipe, targets: Sequence[TargetRecord], measurements: Sequence[Measurement]
) -> Iterator[str]:
    """Quantized files that are bigger, or slower by more than their intervals, than the same runtime's fp32 file."""
    records = {target.name: target for target in targets}
    schemes = {name: SCHEMES[each.scheme] for name, each in records.items() if each.scheme in SCHEMES}
    floats = {_form(t): t.name for t in recipe.targets if t.name in schemes and schemes[t.name].keeps_numbers}
    measured = {(m.target, m.metric, m.device): m for m in measurements}
    for target in recipe.targets:
        sibling = floats.get(_form(target))
        scheme = schemes.get(target.name)
        if sibling is None or scheme is None or scheme.keeps_numbers:
            continue
        because = "" if target.file else _because(scheme, records[target.name].facts.float_layers or ())
        for (name, metric, device), quantized in measured.items():
            float_one = measured.get((sibling, metric, device))
            if name != target.name or float_one is None:
                continue
            if metric == "size_bytes" and quantized.value >= float_one.value:
                sizes = f"{quantized.value:,.0f} bytes against {float_one.value:,.0f}"
                yield f"{name}: not smaller than {sibling}: {sizes}{because}"
            if metric == "latency_ms" and _is_slower(quantized, float_one):
                times = f"p50 {quantized.value:.4g} ms against {float_one.value:.4g}"
                yield f"{name}: slower than {sibling} on {device}: {times}{because}"


def _form(target: Target) -> tuple[object, ...]:
    """What two files have to have alike to be compared: what they do of the app's side costs time, too."""
    return target.runtime, target.layout, target.bucket, target.package


def _because(scheme: SchemeInfo, float_layers: Sequence[str]) -> str:
    if scheme.family == "float":  # nothing of it was to be integers
        return ""
    if float_layers:
        return f"; float weights: {', '.join(float_layers)}"
    return "; no layer with weights stayed float, operations may: pocketforge check"


def _is_slower(one: Measurement, other: Measurement) -> bool:
    if not one.samples or not other.samples:
        return False
    return percentile_interval(one.samples, "p50").low > percentile_interval(other.samples, "p50").high
