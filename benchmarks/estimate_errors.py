"""How far off the shipped calibration's estimates are on published blocks, as a user would get them: before and after.

    python benchmarks/estimate_errors.py [--table FILE.csv --profile NAME]… [--counts counts.json.gz]

Judges what is shipped and fits nothing, so that one script gives both tables of a change to the model: run it in a
checkout of each. The points are `pocketforge device calibrate`'s; --table adds a table of a device that the checkout
does not know, with the same names. What has no stored counts is left out, and said.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from pocketforge.device_calibration import datasets, errors, published, sampling
from pocketforge.device_calibration.counted import CountStore
from pocketforge.device_calibration.datasets import Sample
from pocketforge.estimation import calibration_file
from pocketforge.estimation.core_model import load_core
from pocketforge.estimation.fitting import predict_ms


def samples(tables: list[str], profiles: list[str], store: CountStore) -> tuple[list[Sample], list[str]]:
    """The points, and what was left out of them."""
    chosen = [m for m in sampling.sample(published.shipped()) if m.kind != "model" and not datasets.why_not(m)]
    names = {m.name for m in chosen}
    jobs = [(chosen, "")]
    for table, profile in zip(tables, profiles, strict=True):
        core = {c.core for c in datasets.load_profile(profile).clusters}
        rows = [m for m in published.read(Path(table)) if m.name in names and m.core in core]
        jobs.append((rows, profile))
    found: list[Sample] = []
    missing = []
    for rows, profile in jobs:
        have = [m for m in rows if not datasets.lacking([m], store)]
        missing += [f"{m.name} on {m.core}" for m in rows if m not in have]
        found += datasets.gather(have, store, count=None, profile=profile)
    return found, missing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="append", default=[])
    parser.add_argument("--profile", action="append", default=[])
    parser.add_argument("--counts", type=Path, default=datasets.COUNTS)
    options = parser.parse_args()
    points, missing = samples(options.table, options.profile, CountStore.load(options.counts))
    calibration = calibration_file.shipped()
    held = {m.name for m in sampling.split([s.measurement for s in points])[1]}

    def predict(s: Sample) -> float:
        return predict_ms(s.terms, calibration.choose(load_core(s.measurement.core)).parameters)

    def show(what: str, keep: Callable[[Sample], bool]) -> None:
        members = [s for s in points if keep(s)]
        if members:
            found = errors.of_points(what, "estimate", members, predict)
            ratio = errors.of_ratios(what, "estimate", members, predict)
            widths = f"{ratio.median:.1%}" if ratio else ""
            cells = (what, str(found.points), f"{found.median:.1%}", f"{found.p90:.1%}", f"{found.bias:+.1%}", widths)
            print("| " + " | ".join(cells) + " |")

    print("| held-out points of | points | median | p90 | bias | ratios (width), median |")
    print("|---|---|---|---|---|---|")
    for core in sorted({s.measurement.core for s in points}):
        of_core = [s for s in points if s.measurement.core == core and s.measurement.name in held]
        status = calibration.choose(load_core(core)).status
        show(f"{core} ({status})", lambda s, kept=of_core: s in kept)
        for family in sorted({s.measurement.family for s in of_core}):
            show(
                f"{core}, {family}", lambda s, kept=of_core, family=family: s in kept and s.measurement.family == family
            )
    print(json.dumps({"without counts": missing}), file=sys.stderr)


if __name__ == "__main__":
    main()
