"""What a cluster costs and gains: steps that only wait, on one worker and on four, over loopback with mutual TLS.

    python benchmarks/cluster.py [--steps 200] [--seconds 0.2]

Workers are programs as `pocketforge worker` starts them, each step a process of its own that sleeps: so four of them
need no four cores, and what is left over is the engine's own time. docs/benchmarks.md has the figures.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "pipeline"), str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "unit")]

import fake_stages  # noqa: E402 - of the tests, which lie beside
from cluster_nodes import cluster  # noqa: E402

from pocketforge.registries import STAGES, StageInfo  # noqa: E402
from pocketforge.run.cluster import certificates, engine, link  # noqa: E402
from pocketforge.run.cluster.addresses import parse  # noqa: E402
from pocketforge.run.store import Store  # noqa: E402
from pocketforge.run.walk import run_plan  # noqa: E402


def seconds_of(there: link.Link | None, folder: Path, name: str, steps: int, seconds: float) -> float:
    """A build of `steps` steps that do not hang on each other; without a cluster, one at a time here."""
    plan = fake_stages.make_plan(
        [fake_stages.make_step(f"{name}{n}", ["sleep", seconds], journal=folder / "journal") for n in range(steps)]
    )
    start = None if there is None else engine.over(there, engine.Here({}, {}))
    began = time.monotonic()
    outcome = run_plan(plan, Store(folder / f"cache-{name}"), logs=folder / "logs", engine=start)
    assert not outcome.errors, outcome.errors
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=0.2)
    asked = parser.parse_args()
    STAGES[fake_stages.STAGE] = StageInfo("fake_stages", 1, ())
    took: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        certificates.make(folder / "secret", 1)
        with cluster(folder, folder / "secret") as nodes:
            started = 0
            for workers in (1, 4):
                for number in range(started, workers):
                    nodes.worker(f"w{number}")
                started = workers
                with link.connected(parse(nodes.address), folder / "secret") as there:
                    # Each worker's fork server starts with its first step.
                    seconds_of(there, folder, f"warm{workers}-", workers * 2, asked.seconds)
                    took[workers] = seconds_of(there, folder, f"run{workers}-", asked.steps, asked.seconds)
        local = seconds_of(None, folder, "local-", asked.steps, asked.seconds)
    slept = asked.steps * asked.seconds
    here_ms, there_ms = ((each - slept) / asked.steps * 1000 for each in (local, took[1]))
    print(f"{asked.steps} steps of {asked.seconds} s, in seconds:")
    print(f"local {local:.1f}, 1 worker {took[1]:.1f}, 4 workers {took[4]:.1f}")
    print(f"4 workers are {took[1] / took[4]:.2f} x one; beside its sleep a step takes {here_ms:.0f} ms locally and")
    print(f"{there_ms:.0f} ms on a worker: the cluster's own are {there_ms - here_ms:.0f} ms a step")


if __name__ == "__main__":
    main()
