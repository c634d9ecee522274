"""Budgets as constraints: by how much of its limit each is not kept, from the gate's own results. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from pocketforge.recipe import METRICS, Budget
from pocketforge.recipe.metric import SIGNS
from pocketforge.recipe.worst_part import whole_metric
from pocketforge.records import GateResult

# Nothing was measured: further from kept than any value.
UNMEASURED = 1e6
# Of a verdict that is no PASS though the value keeps the limit (an interval around it).
UNDECIDED = 1e-9
# What a file's structure alone decides. gzip is not of these: it packs weights.
_OF_STRUCTURE = frozenset(
    {
        "size_bytes",
        "app_installed_bytes",
        "parameters",
        "macs",
        "instructions",
        "estimated_cycles",
        "estimated_latency_ms",
    }
)


def words_of(budget: Budget, device: str = "") -> str:
    """`size_bytes ≤ 300,000`, with what else tells it from others."""
    metric = METRICS.if_usable(whole_metric(budget.metric))
    sign = SIGNS[metric.better] if metric else "within"
    limit = f"{budget.limit:,.10g}" if not budget.baseline else f"baseline {budget.baseline}"
    of = ", ".join(filter(None, (device or budget.device, budget.slice, "each class" if budget.per == "class" else "")))
    at = f" ({budget.percentile})" if budget.percentile != "p50" else ""
    return f"{budget.metric}{at} {sign} {limit}{f' on {of}' if of else ''}"


def violations(gates: Iterable[GateResult]) -> dict[str, float]:
    """Budget in words → by how much of its limit it is not kept; 0 where it is. Of several files the worst.

    Warnings bind nothing, and a waived budget does not either.
    """
    found: dict[str, float] = {}
    for gate in gates:
        if gate.budget.severity == "error":
            name = words_of(gate.budget, gate.device)
            found[name] = max(found.get(name, 0.0), _violation(gate) if gate.blocks else 0.0)
    return found


def _violation(gate: GateResult) -> float:
    if gate.value is None or gate.verdict == "MISSING":
        return UNMEASURED
    limit = gate.budget.limit
    return max(abs(gate.value - limit) / abs(limit) if limit else abs(gate.value), UNDECIDED)


def known_early(budgets: Iterable[tuple[Budget, str]]) -> list[str]:
    """The budgets that are known before anything is trained, in words. budgets: with their devices."""
    return [
        words_of(budget, device)
        for budget, device in budgets
        if budget.metric in _OF_STRUCTURE and budget.severity == "error" and not budget.baseline
    ]
