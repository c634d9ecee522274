"""Checks of one file's outputs: against what was promised, the reference's outputs and limits. NumPy only.

Every output is held against the reference's of that name, and judged by itself: the worst decides, and is named.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketforge.devices.base import RunAnswer
from pocketforge.devices.outputs import Output, paired
from pocketforge.metrics import accuracy, argmax_agreement, compare, drop, equal_share
from pocketforge.recipe.limits import Limits, least_graph_sqnr_db, most_steps_from_graph


@dataclass(frozen=True, slots=True)
class OutputFigures:
    """One output held against the reference's, and against its own quantized graph's where there is one.

    figures: by the names that limits have without min_ or max_. where: figure → the part of the output that it is of.
    """

    name: str
    dtype: str
    figures: Mapping[str, float]
    where: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As verify.json and reports hold it."""
        return {"name": self.name, "dtype": self.dtype, **self.figures, "where": dict(self.where)}


def check(name: str, wanted: str, found: str, passed: bool) -> dict[str, Any]:
    return {"name": name, "wanted": wanted, "found": found, "passed": bool(passed)}


def check_contract(answer: RunAnswer, exported: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The file's inputs and outputs as its runtime sees them, against what the sidecar promises."""
    checks = []
    for side, seen in (("inputs", answer.inputs), ("outputs", answer.outputs)):
        wanted = [_contract(t) for t in exported[side]]
        found = [_contract(t) for t in seen]
        checks.append(check(side, "; ".join(wanted), "; ".join(found), wanted == found))
    return checks


def _contract(tensor: Mapping[str, Any]) -> str:
    text = f"{tensor['name']} {tensor['dtype']} {list(tensor['shape'])}"
    if tensor.get("scale"):
        # Scales pass through float32 in some formats.
        text += f" scale {np.float32(tensor['scale']):.6g} zero point {tensor['zero_point']}"
    return text


def check_promise(exported: Mapping[str, Any], reference: Mapping[str, Any]) -> list[dict[str, Any]]:
    """That the sidecar promises every output of the model, by name and shape: what a file lacks is not compared."""
    found, wanted = (
        "; ".join(f"{tensor['name']} {list(tensor['shape'])}" for tensor in side)
        for side in (exported["outputs"], reference["outputs"])
    )
    return [] if found == wanted else [check("the model's outputs", wanted, found, False)]


def hold(outputs: Sequence[Output], wanted: Sequence[Output], *, classes: bool) -> list[OutputFigures]:
    """Every output that both have. classes: the first one holds the scores of a classifier."""
    return [
        _hold(one, other, classes=classes and other.name == wanted[0].name) for one, other in paired(outputs, wanted)
    ]


def _hold(one: Output, other: Output, *, classes: bool) -> OutputFigures:
    dtype = str(other.values.dtype)
    if other.is_exact:
        return OutputFigures(other.name, dtype, {"integer_agreement": equal_share(one.values, other.values)})
    near = compare(one.values, other.values, classes=classes)
    figures: dict[str, float] = {
        "sqnr_db": near.sqnr_db,
        "max_abs_diff": near.max_abs_diff,
        "max_diff_ratio": near.max_diff_ratio,
        "dead_channels": near.dead_count,
    }
    where = {"dead_channels": near.dead} if near.dead else {}
    for name, part in (("channel_sqnr_db", near.channel), ("region_sqnr_db", near.region)):
        if part is not None:
            figures[name], where[name] = part.sqnr_db, part.where
    return OutputFigures(other.name, dtype, figures, where)


@dataclass(frozen=True, slots=True)
class Graph:
    """What a file's own quantized graph answered to the first samples. scales: of outputs that have one."""

    outputs: Sequence[Output]
    scales: Mapping[str, float] = field(default_factory=dict)

    def hold(
        self, outputs: Sequence[Output], reference: Sequence[Output], *, classes: bool
    ) -> dict[str, dict[str, float]]:
        """Output → how near the file is to the graph.

        graph_sqnr_db; max_steps_from_graph: the largest difference in steps (LSB) of the output's scale; and how far
        quantizing itself took the graph from the reference: quantized_sqnr_db, quantized_max_steps. Of integers and
        booleans graph_integer_agreement.
        """
        found: dict[str, dict[str, float]] = {}
        floats = {wanted.name: wanted for wanted in reference}
        for one, other in paired(outputs, self.outputs):
            count = len(other.values)
            if floats[other.name].is_exact:
                found[other.name] = {"graph_integer_agreement": equal_share(one.first(count).values, other.values)}
                continue
            first = classes and other.name == reference[0].name
            near = compare(one.first(count).values, other.values, classes=first)
            costs = compare(other.values, floats[other.name].first(count).values, classes=first)
            figures = {"graph_sqnr_db": near.sqnr_db, "quantized_sqnr_db": costs.sqnr_db}
            scale = self.scales.get(other.name)
            if scale:
                figures["max_steps_from_graph"] = near.max_abs_diff / scale
                figures["quantized_max_steps"] = costs.max_abs_diff / scale
            found[other.name] = figures
        return found


def measure(
    outputs: Sequence[Output],
    reference: Sequence[Output],
    targets: NDArray[Any],
    before: Mapping[str, float],
    spec: Mapping[str, Any],
    graph: Graph | None = None,
) -> dict[str, Any]:
    """Accuracy through the file's first output, its drop from the reference's, and parity of every output.

    sqnr_db and the like are of the worst output, which "worst_output" names; "outputs" has all.
    """
    classes = spec["task"] == "classification"
    found: dict[str, Any] = {"samples": len(targets)}
    pairs = {other.name: one for one, other in paired(outputs, reference)}
    first = pairs.get(reference[0].name)
    if first is not None:
        found["accuracy"] = accuracy(first.values, targets, spec["task"])
        if classes:
            found["argmax_agreement"] = argmax_agreement(first.values, reference[0].values)
            found["accuracy_drop"] = drop(before["accuracy_top1"], found["accuracy"]["accuracy_top1"], len(targets))
    near_graph = graph.hold(outputs, reference, classes=classes) if graph else {}
    figures = [
        OutputFigures(each.name, each.dtype, {**each.figures, **near_graph.get(each.name, {})}, each.where)
        for each in hold(outputs, reference, classes=classes)
    ]
    if classes and graph and first is not None:
        simulated = graph.outputs[0].values
        found["graph_argmax_agreement"] = argmax_agreement(first.first(len(simulated)).values, simulated)
    return {**found, **_worst(figures), "outputs": [each.to_json() for each in figures]}


def measure_parity(outputs: Sequence[Output], wanted: Sequence[Output], *, classes: bool) -> dict[str, Any]:
    """As `measure`, for outputs held against another run of the same file: there are no labels to compare."""
    figures = hold(outputs, wanted, classes=classes)
    found: dict[str, Any] = {**_worst(figures), "outputs": [each.to_json() for each in figures]}
    pairs = paired(outputs, wanted)
    if classes and pairs:
        found["argmax_agreement"] = argmax_agreement(pairs[0][0].values, pairs[0][1].values)
    return found


def summary(measured: Mapping[str, Any]) -> str:
    """The worst output's figure, in a few words."""
    if "sqnr_db" not in measured:
        share = measured.get("integer_agreement")
        return "no output could be compared" if share is None else f"{share:.1%} of the values agree"
    several = len(measured["outputs"]) > 1
    return f"SQNR {measured['sqnr_db']:.1f} dB" + (f" ({measured['worst_output']})" if several else "")


_LOWEST = ("sqnr_db", "graph_sqnr_db", "integer_agreement")
_HIGHEST = ("max_abs_diff", "max_diff_ratio", "max_steps_from_graph")


def _worst(figures: Sequence[OutputFigures]) -> dict[str, Any]:
    """The worst figure of any output, and whose SQNR is the lowest."""
    found: dict[str, Any] = {}
    for names, choose in ((_LOWEST, min), (_HIGHEST, max)):
        for name in names:
            values = [each.figures[name] for each in figures if name in each.figures]
            if values:
                found[name] = choose(values)
    near = [each for each in figures if "sqnr_db" in each.figures]
    key = "sqnr_db" if near else "integer_agreement"
    if figures:
        found["worst_output"] = min(near or figures, key=lambda each: each.figures[key]).name
    return found


def check_limits(measured: Mapping[str, Any], limits: Limits) -> list[dict[str, Any]]:
    """Measured values against verify's limits, output by output; those of classification where that is the task."""
    outputs = measured["outputs"]
    checks = []
    for each in outputs:
        of = f" of {each['name']}" if len(outputs) > 1 else ""
        for limit, value in sorted(limits.of(each["name"]).items()):
            for metric in _metrics(limit):
                if metric in each:
                    part = each["where"].get(metric, "")
                    relative = limits.is_relative(limit, each["name"])
                    least = _as_quantized(limit, value, each) if relative else value
                    checks.append(_judged(f"{metric}{of}", limit, least, each[metric], part))
    for limit, value in sorted(limits.common.items()):
        for metric in _metrics(limit):
            if metric in ("argmax_agreement", "accuracy_drop") and metric in measured:
                checks.append(_judged(metric, limit, value, measured[metric], ""))
    return checks


def _as_quantized(limit: str, value: float, figures: Mapping[str, Any]) -> float:
    """A limit on the way from the graph to the file, or what quantizing itself cost, if that is more."""
    costs = figures["quantized_sqnr_db"]
    if limit == "min_graph_sqnr_db":
        return least_graph_sqnr_db(value, costs)
    return most_steps_from_graph(value, figures["graph_sqnr_db"], costs, figures["quantized_max_steps"])


def _metrics(limit: str) -> tuple[str, ...]:
    """What a limit is on: min_sqnr_db on sqnr_db; max_diff_ratio and max_steps_from_graph are figures' own names."""
    if limit in ("max_diff_ratio", "max_steps", "max_steps_from_graph"):
        return (limit,)
    if limit == "min_integer_agreement":
        return ("integer_agreement", "graph_integer_agreement")
    return (limit.partition("_")[2],)


def _judged(name: str, limit: str, value: float, found: float, part: str) -> dict[str, Any]:
    passed = found >= value if limit.startswith("min_") else found <= value
    said = f"{'at least' if limit.startswith('min_') else 'at most'} {value:g}"
    if part and limit == "max_dead_channels":
        return check(name, said, f"{found:g}: {part} never change where the model's do", passed)
    return check(name, said, f"{found:.6g}" + (f" in {part}" if part else ""), passed)


def write_checked(path: Path, content: Mapping[str, Any]) -> None:
    def finite(value: Any) -> Any:
        # JSON has no infinity; a file that answers infinity has failed its checks anyway.
        if isinstance(value, float) and not math.isfinite(value):
            return math.copysign(1e308, value) if not math.isnan(value) else -1e308
        if isinstance(value, dict):
            return {k: finite(v) for k, v in value.items()}
        return [finite(v) for v in value] if isinstance(value, list) else value

    path.write_text(json.dumps(finite(dict(content)), indent=1, sort_keys=True, allow_nan=False), "utf-8")
