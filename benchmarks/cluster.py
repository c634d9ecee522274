"""What a cluster costs and gains: steps that only wait, on one worker and on four, over loopback with mutual TLS.

    python benchmarks/cluster.py [--steps 200] [--seconds 0.2]

Workers are programs as `pocketforge worker` starts them, each step a process of its own that sleeps: so four of them
need no four cores, and what is left over is the engine's own time. docs/benchmarks.md has the figures.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "pipeline"), str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "unit")]

import fake_stages  # noqa: E402 - of the tests, which lie beside
from cluster_nodes import cluster  # noqa: E402

from pocketforge.registries import STAGES, StageInfo  # noqa: E402
from pocketforge.run import stage_server  # noqa: E402
from pocketforge.run.cluster import certificates, engine, link  # noqa: E402
from pocketforge.run.cluster.addresses import parse  # noqa: E402
from pocketforge.run.store import Store  # noqa: E402
from pocketforge.run.walk import run_plan  # noqa: E402


class Took(NamedTuple):
    """Seconds of a build, and CPU seconds of all its processes."""

    wall_s: float
    cpu_s: float


def cpu_s(pids: Iterable[int]) -> float:
    """Of processes, what runs below them, and what has ended there."""
    trees = [[top, *top.children(recursive=True)] for top in map(psutil.Process, pids)]
    return sum(sum(each.cpu_times()[:4]) for tree in trees for each in tree)


def build(there: link.Link | None, folder: Path, name: str, steps: int, seconds: float, pids: list[int]) -> Took:
    """`steps` steps that do not hang on each other; without a cluster, one at a time here."""
    plan = fake_stages.make_plan(
        [fake_stages.make_step(f"{name}{n}", ["sleep", seconds], journal=folder / "journal") for n in range(steps)]
    )
    start = None if there is None else engine.over(there, engine.Here({}, {}))
    before, began = cpu_s(pids), time.monotonic()
    outcome = run_plan(plan, Store(folder / f"cache-{name}"), logs=folder / "logs", engine=start)
    assert not outcome.errors, outcome.errors
    return Took(time.monotonic() - began, cpu_s(pids) - before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=0.2)
    asked = parser.parse_args()
    STAGES[fake_stages.STAGE] = StageInfo("fake_stages", 1, ())
    took: dict[int, Took] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        certificates.make(folder / "secret", 1)
        with cluster(folder, folder / "secret") as nodes:
            pids = [os.getpid(), nodes.scheduler.process.pid]
            for workers in (1, 4):
                while len(pids) < workers + 2:
                    pids.append(nodes.worker(f"w{len(pids)}").process.pid)
                with link.connected(parse(nodes.address), folder / "secret") as there:
                    # Each worker's fork server starts with its first step.
                    build(there, folder, f"warm{workers}-", workers * 2, asked.seconds, pids)
                    took[workers] = build(there, folder, f"run{workers}-", asked.steps, asked.seconds, pids)
        with stage_server.current().in_use():
            build(None, folder, "warm-local-", 1, asked.seconds, pids[:1])
            local = build(None, folder, "local-", asked.steps, asked.seconds, pids[:1])
    print(f"{asked.steps} steps of {asked.seconds} s; a step, in ms:")
    for what, each in (("local", local), ("1 worker", took[1]), ("4 workers", took[4])):
        wall, cpu = (value / asked.steps * 1000 for value in each)
        print(f"  {what}: {wall:.0f}, of CPU {cpu:.0f}")
    print(f"4 workers are {took[1].wall_s / took[4].wall_s:.2f} x one")


if __name__ == "__main__":
    main()
