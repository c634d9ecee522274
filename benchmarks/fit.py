"""How good `fit` is against random search and against pruning all layers alike, at equal cost: docs/fit.md's tables.

    python benchmarks/fit.py measure      the points of a small space, each once, by the ordinary build
    python benchmarks/fit.py compare      searches over those points, many seeds each: the tables, in seconds

The digits CNN as it ships, MobileNet-like; int8 in an .onnx; instructions of one inference on an emulated Pixel 4
(exact). A search that asks for a point gets what was measured of it, so that each of many seeds costs
nothing, and an equal number of trials is an equal cost. `measure` goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "pipeline"))

from pocketforge.events import ignore  # noqa: E402
from pocketforge.folders import cache_dir  # noqa: E402
from pocketforge.recipe import Objective  # noqa: E402
from pocketforge.recipe.fit import Sampler  # noqa: E402
from pocketforge.recipe.metric import Better  # noqa: E402
from pocketforge.recipe.toml import parse_recipe  # noqa: E402
from pocketforge.results.report import recipe_digest  # noqa: E402
from pocketforge.search.dimension import Choice, Dimension, Value  # noqa: E402
from pocketforge.search.evaluate import Builds, Measured  # noqa: E402
from pocketforge.search.front import hypervolume, losses  # noqa: E402
from pocketforge.search.loop import Search, Settings  # noqa: E402
from pocketforge.search.sampling import Asking  # noqa: E402
from pocketforge.search.summary import scaled  # noqa: E402
from pocketforge.search.trial import Begun, Notebook, Trial  # noqa: E402
from pocketforge.search.trial_recipe import Base, Made, trial_recipe  # noqa: E402

POINTS = ROOT / "docs" / "fit_points.json"
MODEL = ROOT / "models" / "digits_cnn"
TARGET, ACCURACY, INSTRUCTIONS = "digits_onnx_int8", "accuracy_top1", "instructions on pixel4"
BETTER: dict[str, Better] = {ACCURACY: "higher", INSTRUCTIONS: "lower"}
RATIOS = (0.0, 0.25, 0.5, 0.75)
STAGES = ("residual.* down1.*", "inverted.* down2.*")
DIMENSIONS = tuple(Dimension(f"ratio {stage}", "ordered", RATIOS) for stage in STAGES)
EPOCHS, BATCH, SEEDS, TRIALS = 1, 4, 20, 8
LOST = 0.005
# Of a 95 % interval of a mean over seeds.
_Z = 1.96


def base() -> Base:
    text = (MODEL / "release.toml").read_text(encoding="utf-8")
    # Of the shipped recipe's devices the phone alone: a search asks no other.
    text = text[: text.index("[[device]]")] + '[[device]]\nvia = "emulator"\nprofile = "pixel4"\n'
    text += '[[compress]]\ntype = "finetune"\nlr = 2e-3\nshift = 2\n'
    return Base(parse_recipe(text, "the benchmark's recipe", str(MODEL)), text)


def key_of(choice: Choice) -> str:
    return " ".join(str(choice[each.name]) for each in DIMENSIONS)


def made_of(of: Base, choice: Choice) -> Made:
    return trial_recipe(of, {"target": TARGET, "epochs": EPOCHS, **choice})


def known_points() -> dict[str, Any]:
    if not POINTS.is_file():
        return {}
    return {point["key"]: point for point in json.loads(POINTS.read_text(encoding="utf-8"))["points"]}


def measure(cache: Path, logs: Path, most: int) -> None:
    """The points that are not known yet, a batch at a time; those of the uniform curve first."""
    found = known_points()
    builds = Builds(cache, logs, (Objective(ACCURACY), Objective("instructions", "pixel4")), jobs=3, emit=ignore)
    todo = [choice for choice in all_choices() if key_of(choice) not in found][:most]
    for start in range(0, len(todo), BATCH):
        batch = todo[start : start + BATCH]
        made = [made_of(base(), choice) for choice in batch]
        for choice, measured in zip(batch, builds.measure(made, "full"), strict=True):
            point = {"key": key_of(choice), "choice": choice, "values": measured.values, "reason": measured.reason}
            found[point["key"]] = {**point, "seconds": measured.seconds}
            print(point["key"], measured.values or measured.reason, f"{measured.seconds:.0f} s", flush=True)
        save(found)


def save(found: Mapping[str, object]) -> None:
    whole = len(RATIOS) ** len(STAGES)
    head = {"model": "models/digits_cnn/release.toml", "target": TARGET, "epochs": EPOCHS, "whole_space": whole}
    POINTS.write_text(json.dumps({**head, "points": [found[key] for key in sorted(found)]}, indent=1) + "\n")


def all_choices() -> Iterator[Choice]:
    # Those that prune all layers alike come first.
    places = itertools.product(range(len(RATIOS)), repeat=len(STAGES))
    ordered = sorted(places, key=lambda place: (len(set(place)) > 1, place))
    for place in ordered:
        yield {each.name: each.values[index] for each, index in zip(DIMENSIONS, place, strict=True)}


class Table:
    """Gives what was measured of a point, at no cost. The recipe as it is is no point, and a failed trial."""

    def __init__(self, found: Mapping[str, Mapping[str, Any]]) -> None:
        self.by_digest = {
            recipe_digest(made_of(base(), point["choice"]).recipe): Measured(point["values"], reason=point["reason"])
            for point in found.values()
        }

    def measure(self, trials: Sequence[Made], rung: str) -> list[Measured]:
        return [self.by_digest.get(recipe_digest(made.recipe), Measured(reason="no point")) for made in trials]


def search(table: Table, sampler: Sampler, seed: int, trials: int, folder: Path) -> list[Trial]:
    """The product's own loop, so many points."""
    asking = Asking(DIMENSIONS, BETTER, sampler, seed, trials, BATCH)
    fixed: dict[str, Value] = {"target": TARGET, "epochs": EPOCHS}
    settings = Settings(base(), (TARGET,), DIMENSIONS, fixed, asking, BETTER, (), trials + 1, BATCH, 1)
    notebook = Notebook(folder / f"{sampler}-{seed}", Begun(1, "0" * 64, "0" * 64))
    run = Search(settings, table, notebook, lambda line: None)
    run.run([])
    return [trial for trial in run.trials if trial.state == "full"]


def compare() -> None:
    """Front's volume and the cheapest model of nearly the best accuracy: fit, random search, all layers alike."""
    found = known_points()
    whole = len(RATIOS) ** len(STAGES)
    if len(found) < whole:
        sys.exit(f"{POINTS.name} has {len(found)} of {whole} points: python benchmarks/fit.py measure")
    points = {key: losses(point["values"], BETTER) for key, point in found.items() if not point["reason"]}
    scale, corner = scaled(list(points.values()))
    inside = dict(zip(points, scale, strict=True))
    best = hypervolume(list(inside.values()), corner)
    uniform = [key for key in points if len(set(key.split())) == 1]
    least = max(-point[0] for point in points.values()) - LOST

    def volume(keys: Sequence[str]) -> float:
        return hypervolume([inside[key] for key in keys], corner) / best

    def cheapest(keys: Sequence[str]) -> float:
        return min((points[key][1] for key in keys if -points[key][0] >= least), default=math.nan)

    print(f"{whole} points; the whole front's volume is 1. Trials: {TRIALS}; seeds: {SEEDS}; ± is a 95 % interval")
    print(f"| | front's volume | instructions at ≤ {LOST:.1%} accuracy lost |\n|---|---|---|")
    print(f"| all layers alike, {len(uniform)} points | {volume(uniform):.3f} | {cheapest(uniform):,.0f} |")
    with tempfile.TemporaryDirectory() as folder:
        table = Table(found)
        samplers: tuple[Sampler, ...] = ("random", "tpe", "nsga2")
        for sampler in samplers:
            runs = [
                [key_of(trial.choice) for trial in search(table, sampler, seed, TRIALS, Path(folder))]
                for seed in range(SEEDS)
            ]
            row = (said([volume(keys) for keys in runs], ".3f"), said([cheapest(keys) for keys in runs], ",.0f"))
            print(f"| {sampler}, {TRIALS} trials | {row[0]} | {row[1]} |")
    print(f"| every point | 1.000 | {cheapest(list(points)):,.0f} |")


def said(values: Sequence[float], form: str) -> str:
    """Mean over seeds with its interval; how often nothing was found."""
    known = [value for value in values if not math.isnan(value)]
    if len(known) < 2:
        return f"found by {len(known)} of {len(values)} seeds"
    half = _Z * statistics.stdev(known) / math.sqrt(len(known))
    none = f" (by {len(known)} of {len(values)} seeds)" if len(known) < len(values) else ""
    return f"{statistics.mean(known):{form}} ± {half:{form}}{none}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("measure", "compare"))
    parser.add_argument("--most", type=int, default=10_000, help="Points to measure now.")
    parser.add_argument("--logs", type=Path, default=Path("build/benchmark_fit/logs"))
    arguments = parser.parse_args()
    if arguments.what == "measure":
        measure(cache_dir(), arguments.logs, arguments.most)
    else:
        compare()
