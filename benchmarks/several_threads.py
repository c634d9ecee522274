"""Whether published latencies of several threads follow from an estimate of one: why estimates refuse several.

    python benchmarks/several_threads.py

Whole models on 2 and 4 threads (`device_calibration/data/models.csv`), against the estimate of one thread divided by
the threads, and against computing divided while loop ends, operators and waiting for shared memory are not.
"""

from __future__ import annotations

import hashlib

from pocketforge.device_calibration import datasets, published
from pocketforge.device_calibration.counted import CountStore, run_key
from pocketforge.device_calibration.operators import operators
from pocketforge.estimation import calibration_file
from pocketforge.estimation.core_model import load_core
from pocketforge.estimation.fitting import features, split
from pocketforge.estimation.traffic import Traffic


def main() -> None:
    store, calibration = CountStore.load(datasets.COUNTS), calibration_file.shipped()
    print("| model | threads | measured, ms | of one, ms | divided / measured | memory shared / measured |")
    print("|---|---|---|---|---|---|")
    for m in published.read(published.DATA / "models.csv"):
        if m.threads == 1 or "armv7" in m.core:
            continue
        profile, cluster = datasets.place(m)
        data, core = datasets.model_file(m), load_core(m.core)
        run = store.run(run_key(hashlib.sha256(data).hexdigest(), m.core, "xnnpack"))
        terms = features(run, Traffic(tuple(o.moved for o in operators(data))), core, cluster, profile)
        computing, waiting, overhead = (
            cycles / (m.clock_ghz * 1e6) for cycles in split(terms, calibration.choose(core).parameters)
        )
        one, shared = computing + waiting + overhead, computing / m.threads + waiting + overhead
        cells = (
            f"{m.name} {m.precision} on {m.device}, {m.core}", str(m.threads), f"{m.latency_ms:.1f}", f"{one:.1f}",
            f"{one / m.threads / m.latency_ms:.2f}", f"{shared / m.latency_ms:.2f}",
        )  # fmt: skip
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
