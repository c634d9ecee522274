"""What no recipe can mean, whatever our own checks say: written from what the words mean, not from the code."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

SHARES = ("max_accuracy_drop", "min_argmax_agreement", "min_integer_agreement")
# More of these than anyone can run, store or wait for.
MOST_OF = {
    "epochs": 1e6, "steps": 1e5, "processes": 1e4, "rounds": 1e4, "warmup": 1e9, "min_samples": 1e9,
    "batch_size": 1e9, "calibration_samples": 1e12, "eval_samples": 1e12, "early_stop_epochs": 1e9,
    "step_epochs": 1e9, "warmup_epochs": 1e6, "shift": 1e6, "round_to": 1e6, "count": 1e6, "min_seconds": 1e7,
    "spacing_seconds": 1e7, "time_limit_s": 1e9, "cool_timeout_s": 1e9, "memory_limit_bytes": 1e18,
    "max_battery_c": 1e3, "group_size": 1e9, "max_dead_channels": 1e12,
}  # fmt: skip
NO_LESS_THAN_0 = ("max_diff_ratio", "max_dead_channels", "max_steps", "max_steps_from_graph")
NEVER_0 = ("size_bytes", "gzip_bytes", "latency_ms", "load_ms", "peak_rss_bytes", "instructions", "estimated_cycles",
           "estimated_latency_ms")  # fmt: skip
SUFFIXES = {"onnx": (".onnx", ".ort"), "tflite": (".tflite",), "executorch": (".pte",)}
MOST_DB = 1000  # no float has that many


def nonsense(tree: Mapping[str, Any]) -> list[str]:
    """Of an accepted recipe: each thing that it cannot mean."""
    found = [*_names(tree), *_budgets(tree), *_shipped(tree), *_sizes(tree)]
    for path, key, value in _numbers(tree, ""):
        if ".args." in path or path.endswith((".amounts", ".ratios")):
            continue
        if key in SHARES and not 0 <= value <= 1:
            found.append(f"{path}.{key} = {value}: a share is 0 to 1")
        if key in MOST_OF and value > MOST_OF[key]:
            found.append(f"{path}.{key} = {value:.3g}: more than there can be")
        if key in NO_LESS_THAN_0 and value < 0:
            found.append(f"{path}.{key} = {value}: nothing is less than 0")
        if key.endswith("_db") and abs(value) > MOST_DB:
            found.append(f"{path}.{key} = {value}: no file has so many decibels")
    for device in _tables(tree.get("device")):
        here = os.cpu_count() or 1
        if device.get("via", "host") == "host" and _number(device.get("threads", 1)) > here:
            found.append(f"device.threads = {device['threads']}: there are {here} processors")
    return found


def _names(tree: Mapping[str, Any]) -> Iterator[str]:
    # A target's name is followed by an ending of its sidecar, as long as .ort.json.
    named = [
        (tree, 255),
        *((t, 246) for t in _tables(tree.get("target"))),
        *((d, 255) for d in _tables(tree.get("device"))),
    ]
    for table, most in named:
        name = table.get("name", "")
        if any(ord(letter) < 32 or ord(letter) == 127 or letter in "/\u2028\u2029\u202e" for letter in name):
            yield f"name {name[:40]!r}: no file can be called so"
        if len(name.encode()) > most:
            yield f"name of {len(name.encode())} bytes: no file can be called so"
    if tree.get("name") in (".", ".."):
        yield "name . is a folder"


def _budgets(tree: Mapping[str, Any]) -> Iterator[str]:
    for budget in _tables(tree.get("budget")):
        metric, limit = budget["metric"], budget["limit"]
        if metric in ("accuracy_top1", "accuracy_top5", "macro_f1") and not 0 <= limit <= 1:
            yield f"budget {metric} = {limit}: a share is 0 to 1"
        if metric == "accuracy_drop" and not -1 < limit < 1:
            yield f"budget accuracy_drop = {limit}: no file drops more"
        if metric in NEVER_0 and limit <= 0:
            yield f"budget {metric} = {limit}: no file keeps it"
        if metric in ("parameters", "macs") and limit < 0:
            yield f"budget {metric} = {limit}: no file keeps it"
        if metric == "parity_sqnr_db" and abs(limit) > MOST_DB:
            yield f"budget parity_sqnr_db = {limit}: no file has it"


def _shipped(tree: Mapping[str, Any]) -> Iterator[str]:
    """Files of a release that would be one, on disks that know no case too."""
    files: list[str] = ["sha256sums"]
    for target in _tables(tree.get("target")):
        name = target["name"]
        for number, suffix in enumerate(SUFFIXES[target["runtime"]]):
            sidecar = f"{name}.json" if number == 0 else f"{name}{suffix}.json"
            files += [f"{name}{suffix}".casefold(), sidecar.casefold()]
    for file in sorted({file for file in files if files.count(file) > 1}):
        yield f"two shipped files are called {PurePath(file).name[:60]}"


def _sizes(tree: Mapping[str, Any]) -> Iterator[str]:
    resize = tree.get("data", {}).get("preprocess", {}).get("resize", [])
    if resize and math.prod(resize) > 2**32:
        yield f"resize {resize}: no such image fits"
    for spec in _tables(tree.get("model", {}).get("input")):
        if math.prod(spec.get("shape", [])) > 2**40:
            yield f"input of {spec['shape']}: no such tensor fits"


def _tables(value: Any) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _number(value: Any) -> float:
    return float(value) if type(value) in (int, float) else 0.0


def _numbers(value: Any, path: str) -> Iterator[tuple[str, str, float]]:
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        if type(inner) in (int, float) and isinstance(key, str):
            yield path, key, inner
        yield from _numbers(inner, f"{path}.{key}")
