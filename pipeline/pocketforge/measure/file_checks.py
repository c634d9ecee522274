"""Checks of one file's outputs: against what was promised, the reference's outputs and limits. NumPy only."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketforge.devices.base import RunAnswer
from pocketforge.metrics import accuracy, parity


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


def measure(
    outputs: NDArray[Any],
    reference: NDArray[Any],
    targets: NDArray[Any],
    before: Mapping[str, float],
    spec: Mapping[str, Any],
) -> dict[str, Any]:
    """Accuracy through the file, its drop from the reference's, and parity with the reference."""
    after = accuracy(outputs, targets, spec["task"])
    found: dict[str, Any] = {"accuracy": after, **parity(outputs, reference), "samples": len(targets)}
    if spec["task"] == "classification":
        found["accuracy_drop"] = before["accuracy_top1"] - after["accuracy_top1"]
    else:
        del found["argmax_agreement"]
    return found


def check_limits(measured: Mapping[str, Any], limits: Mapping[str, float]) -> list[dict[str, Any]]:
    """Measured values against verify's limits; limits of classification only where that is the task."""
    checks = []
    for limit, value in sorted(limits.items()):
        side, _, rest = limit.partition("_")
        # min_sqnr_db limits sqnr_db; max_diff_ratio is a measured value's own name.
        metric = limit if limit in measured else rest
        if metric not in measured:
            continue
        found = measured[metric]
        passed = found >= value if side == "min" else found <= value
        checks.append(check(metric, f"{'at least' if side == 'min' else 'at most'} {value:g}", f"{found:.6g}", passed))
    return checks


def write_checked(path: Path, content: Mapping[str, Any]) -> None:
    def finite(value: Any) -> Any:
        # JSON has no infinity; a file that answers infinity has failed its checks anyway.
        if isinstance(value, float) and not math.isfinite(value):
            return math.copysign(1e308, value) if not math.isnan(value) else -1e308
        if isinstance(value, dict):
            return {k: finite(v) for k, v in value.items()}
        return [finite(v) for v in value] if isinstance(value, list) else value

    path.write_text(json.dumps(finite(dict(content)), indent=1, sort_keys=True, allow_nan=False), "utf-8")
