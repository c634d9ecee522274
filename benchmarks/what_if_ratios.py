"""How far off `--what-if width=…` is: published blocks against the same configuration at other widths.

    python benchmarks/what_if_ratios.py

A block that was counted is supposed to be narrower by one factor, 0.5 or more; where the table of its device has the
block of these widths, the supposed ratio is held against the measured one. A block hands channels on at both of its
ends, so all of its widths change here; in a whole model the input and the last layer's output stay.
"""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Iterator

from pocketforge.device_calibration import datasets, micro_models, published, sampling
from pocketforge.device_calibration.counted import CountStore, run_key
from pocketforge.device_calibration.operators import operators
from pocketforge.device_calibration.published import Published
from pocketforge.estimation import calibration_file
from pocketforge.estimation.blocks import run_blocks
from pocketforge.estimation.core_model import load_core
from pocketforge.estimation.fitting import predict_ms, terms_of
from pocketforge.estimation.traffic import Caches, Traffic
from pocketforge.estimation.what_if import narrowed

# Where a block's name has its widths.
_WIDTHS = {"conv": (2, 3), "transds": (2, 3), "transffn": (2,), "transattn": (2,)}


def narrower(m: Published, known: dict[tuple[str, str], Published]) -> Iterator[tuple[float, Published]]:
    """(factor, measurement) of the same configuration with all widths narrower by one factor."""
    words = m.name.split("_")
    places = _WIDTHS[m.family]
    first = int(words[places[0]])
    for width in range(8, first, 8):
        scaled = [int(words[at]) * width for at in places]
        if width / first < 0.5 or any(size % first for size in scaled):
            continue
        other = list(words)
        for at, size in zip(places, scaled, strict=True):
            other[at] = str(size // first)
        if (m.device, "_".join(other)) in known:
            yield width / first, known[m.device, "_".join(other)]


def main() -> None:
    every = published.shipped()
    known = {(m.device, m.name): m for m in every if m.kind == "block"}
    store, calibration = CountStore.load(datasets.COUNTS), calibration_file.shipped()
    errors: dict[tuple[str, str], list[float]] = {}
    for m in sampling.sample(every):
        pairs = list(narrower(m, known)) if m.kind == "block" and m.family in _WIDTHS else []
        if not pairs:
            continue
        data, core = micro_models.block(m.name), load_core(m.core)
        profile, cluster = datasets.place(m)
        caches, parameters = Caches.of(cluster, profile), calibration.choose(core).parameters
        work = run_blocks(store.run(run_key(hashlib.sha256(data).hexdigest(), m.core, "xnnpack")), core)
        traffic = Traffic(tuple(operator.moved for operator in operators(data)))
        now = predict_ms(terms_of(work, traffic, caches), parameters)
        for factor, other in pairs:
            ends = [(factor, factor)] * len(traffic.operators)
            supposed = predict_ms(terms_of(*narrowed(work, traffic, ends), caches), parameters)
            ratio = (supposed / now) / (other.latency_ms / m.latency_ms)
            errors.setdefault((m.core, m.family), []).append(abs(ratio - 1))
    print("| ratios of | pairs | median | p90 |\n|---|---|---|---|")
    for (name, family), found in sorted(errors.items()):
        print(f"| {name}, {family} | {len(found)} | {statistics.median(found):.1%} | {_p90(found):.1%} |")
    together = [error for found in errors.values() for error in found]
    print(f"| all | {len(together)} | {statistics.median(together):.1%} | {_p90(together):.1%} |")


def _p90(found: list[float]) -> float:
    return sorted(found)[min(int(0.9 * len(found)), len(found) - 1)]


if __name__ == "__main__":
    main()
