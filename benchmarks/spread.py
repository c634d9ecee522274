"""How often the host's verdicts on latency are wrong (A/A): one file, budgets at random around its own time.

    python benchmarks/spread.py [--sittings N] [--budgets N] [--runs N]

The file's own time is the median of many runs, each a new process, between the sittings and never part of one. A
sitting is what `bench` does in a build; each is judged by the gate on budgets within ±3 % of that time. Wrong: a firm
verdict on the other side than the file's own time is.                                               target ≤ 1 %

Beside it, the same budgets by the samples of one process of each sitting. What the machine did meanwhile is shown:
on one whose neighbours slow it for longer than a sitting lasts, no sitting can tell (docs/benchmarks.md).
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pocketforge.devices import host
from pocketforge.devices.base import RunRequest
from pocketforge.files import hash_file
from pocketforge.measure.processes import PROCESSES_VARIABLE, time_in_processes
from pocketforge.outcomes.bench import Bench
from pocketforge.recipe import Budget, Data, Model, Recipe, Target
from pocketforge.recipe.device import HostDevice
from pocketforge.records import Measurement
from pocketforge.results.gate import judge
from pocketforge.results.latency import latency_interval
from pocketforge.stats import percentile, percentile_interval

DEVICE = HostDevice()
WITHIN = 0.03


def small_file(folder: Path) -> RunRequest:
    """Three convolutions: a fifth of a millisecond."""
    rng = np.random.default_rng(0)
    names, nodes, weights = ["x", "a", "b", "y"], [], []
    for number, (inputs, outputs) in enumerate(((1, 16), (16, 32), (32, 32))):
        kernel = rng.normal(0, 0.1, (outputs, inputs, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"w{number}"))
        taken = [names[number], f"w{number}"]
        nodes.append(helper.make_node("Conv", taken, [names[number + 1]]))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 32, 32])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "small", [x], [y], weights)
    model = folder / "small.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), model)
    np.save(folder / "x.npy", rng.random((32, 1, 32, 32), dtype=np.float32))
    return RunRequest(
        "onnx", model, hash_file(model), (folder / "x.npy",), folder,
        samples=DEVICE.min_samples, warmup=DEVICE.warmup, time_s=DEVICE.min_seconds,
    )  # fmt: skip


def gate(found: Bench, limits: list[float]) -> list[str]:
    """The gate's verdict on each limit."""
    samples = tuple(found.samples_ms)
    measured = Measurement(
        "latency_ms", percentile(samples, "p50"), "ms", "small", found.sha256, "host", "host", samples, found.how
    )
    recipe = Recipe(
        name="spread",
        model=Model("model.py"),
        data=Data("digits"),
        targets=(Target("small", "onnx"),),
        devices=(DEVICE,),
        budgets=tuple(Budget("latency_ms", limit) for limit in limits),
    )
    return [result.verdict for result in judge(recipe, [measured])]


def by_one_process(found: Bench, limits: list[float]) -> list[str]:
    """The verdicts that the interval of the first process's samples gives."""
    interval = percentile_interval(found.samples_ms[: found.how.processes[0].samples], "p50")
    return [
        "INCONCLUSIVE" if interval.low <= limit <= interval.high else "PASS" if interval.high < limit else "FAIL"
        for limit in limits
    ]


def busy_share() -> tuple[float, float]:
    """Seconds that all processors worked, and were there, since the machine started."""
    with open("/proc/stat", encoding="ascii") as file:
        ticks = [int(value) for value in file.readline().split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def row(name: str, verdicts: list[str], limits: list[float], own_ms: float) -> None:
    wrong = sum(v == ("FAIL" if own_ms < limit else "PASS") for v, limit in zip(verdicts, limits, strict=True))
    count = Counter(verdicts)
    said = ", ".join(f"{word} {count[word]}" for word in ("PASS", "FAIL", "INCONCLUSIVE"))
    print(f"  {name:<28} wrong {wrong} of {len(verdicts)} ({wrong / len(verdicts):.1%});  {said}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sittings", type=int, default=25, help="benchmarks of the file (default 25)")
    parser.add_argument("--budgets", type=int, default=8, help="budgets for each (default 8)")
    parser.add_argument("--runs", type=int, default=4, help="runs between two sittings (default 4)")
    options = parser.parse_args()
    os.environ.pop(PROCESSES_VARIABLE, None)
    with tempfile.TemporaryDirectory(prefix="pocketforge-spread-") as folder:
        request = small_file(Path(folder))
        alone = RunRequest(
            request.session, request.model, request.sha256, request.inputs, request.outputs,
            samples=request.samples, warmup=request.warmup, time_s=request.time_s / DEVICE.processes,
        )  # fmt: skip
        sittings, runs = [], []
        worked, there = busy_share()
        for number in range(options.sittings):
            print(f"\rsitting {number + 1} of {options.sittings}", end="", file=sys.stderr, flush=True)
            runs += [percentile(host.run(alone, quiet=True).samples_ms, "p50") for _ in range(options.runs)]
            sittings.append(time_in_processes(request, DEVICE.processes, DEVICE.spacing_seconds, quiet=True))
        busy = [after - before for after, before in zip(busy_share(), (worked, there), strict=True)]
        print(file=sys.stderr)
    own_ms = statistics.median(runs)
    print(f"one file of {own_ms:.4f} ms (median of {len(runs)} runs), budgets within ±{WITHIN:.0%}")
    ordered = sorted(runs)
    print(
        f"  the runs: min {ordered[0]:.4f}, 90 % within {ordered[len(ordered) // 20]:.4f} to "
        f"{ordered[-1 - len(ordered) // 20]:.4f}, max {ordered[-1]:.4f} ms; processors busy {busy[0] / busy[1]:.0%}, "
        f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()}, "
        f"others' share {statistics.median(found.how.others for found in sittings):.0%}"
    )
    rng = random.Random(13)
    limits = [[own_ms * rng.uniform(1 - WITHIN, 1 + WITHIN) for _ in range(options.budgets)] for _ in sittings]
    flat = [limit for some in limits for limit in some]
    ours = [verdict for found, some in zip(sittings, limits, strict=True) for verdict in gate(found, some)]
    one = [verdict for found, some in zip(sittings, limits, strict=True) for verdict in by_one_process(found, some)]
    row(f"{DEVICE.processes} processes (target ≤ 1 %)", ours, flat, own_ms)
    row("samples of one process", one, flat, own_ms)
    intervals = [latency_interval(found.samples_ms, found.how, "p50") for found in sittings]
    below = statistics.median(1 - i.low / i.value for i in intervals)
    above = statistics.median(i.high / i.value - 1 for i in intervals)
    print(f"  the median interval is -{below:.1%} to +{above:.1%}")


if __name__ == "__main__":
    main()
