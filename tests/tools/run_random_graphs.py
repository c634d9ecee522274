"""Takes random networks through every lane (tests/random_graph_lanes.py) and writes a JSON line for each.

    python tests/tools/run_random_graphs.py results.jsonl --seeds 0:2000
    python tests/tools/run_random_graphs.py results.jsonl --table
    python tests/tools/run_random_graphs.py results.jsonl --record docs/random_graphs.json

Goes on where an earlier run stopped. Some networks at a time are put side by side in one file, in a process of their
own, forked from one that has imported the toolchains once. What is not right there, or has no result because a runtime
crashed or hung, is run alone, a network a process. `--record` adds what was found to the totals of all runs, by the
code that was run; `docs/random_graphs.json --table` prints them as the document has them.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import gc
import importlib.metadata
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))
TOOLCHAINS = ("torch", "torchao", "executorch", "onnxruntime", "litert-torch", "ai-edge-litert")
# A lane that takes longer hangs. Its own seconds decide: on a shared machine it may wait for a processor much longer.
MOST_CPU_SECONDS, MOST_SECONDS = 240, 3600


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--seeds", default="0:2000", help="first:beyond, or numbers, with commas between")
    parser.add_argument("--lanes", default=".", help="a regular expression of lanes' names")
    parser.add_argument("--steps", type=int, help="only so many steps of each network")
    parser.add_argument("--keep", type=Path, help="leave the folders of what failed here")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so long")
    parser.add_argument("--together", type=int, default=5, help="so many networks in one file")
    parser.add_argument("--table", action="store_true", help="print what the results hold, and run nothing")
    parser.add_argument("--record", type=Path, help="add what the results hold to these totals, and run nothing")
    options = parser.parse_args()
    if options.table:
        given = options.results
        print(totals(json.loads(given.read_text("utf-8"))) if given.suffix == ".json" else table(read(given)))
        return 0
    if options.record:
        record(read(options.results), options.record)
        return 0
    seeds = numbers(options.seeds)
    done = {(r["seed"], r["lane"]) for r in read(options.results)}
    warnings.simplefilter("ignore")
    import torch
    from random_graph_lanes import LANES, warm_up

    torch.set_num_threads(1)
    lanes = [lane for lane in LANES if re.search(options.lanes, lane)]
    warm_up(lanes)
    # What is loaded by now is for good: no child's collector looks at it, and copies its pages by that.
    gc.collect()
    gc.freeze()
    ends = time.monotonic() + 60 * options.minutes
    code = code_of(TESTS.parent)
    missing = {seed: [lane for lane in lanes if (seed, lane) not in done] for seed in seeds}
    seeds = [seed for seed in seeds if missing[seed]]
    for first in range(0, len(seeds), options.together):
        if time.monotonic() > ends:
            break
        group = seeds[first : first + options.together]
        if len(group) > 1 and all(missing[seed] == lanes for seed in group):
            run_group(group, lanes, options, code)
        known = {(r["seed"], r["lane"]) for r in read(options.results)}
        for seed in group:
            if wanted := [lane for lane in missing[seed] if (seed, lane) not in known]:
                run_graph(seed, wanted, options, code)
    return 0


def code_of(root: Path) -> str:
    """What names the code that is run: git's name of pipeline/, with a plus where it was changed since."""
    git = ["git", "-C", str(root)]
    tree = subprocess.run(
        [*git, "rev-parse", "--short=10", "HEAD:pipeline"], capture_output=True, text=True, check=True
    )
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "pipeline"], check=False).returncode
    return tree.stdout.strip() + ("+" if changed else "")


def run_group(seeds: list[int], lanes: list[str], options: argparse.Namespace, code: str) -> None:
    """Networks side by side. What has no result then was behind a crash."""
    folder = Path(tempfile.mkdtemp(prefix=f"random-graphs-{seeds[0]}-"))
    os.waitpid(fork(lambda: in_child(seeds, lanes, folder, options, code)), 0)
    bad = {r["seed"] for r in read(options.results) if r["status"] not in ("ok", "refused")}
    for seed in bad & set(seeds) if options.keep else ():
        if (folder / str(seed)).exists():
            shutil.copytree(folder / str(seed), options.keep / str(seed), dirs_exist_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def fork(work: Callable[[], int]) -> int:
    """The process that does the work and ends."""
    child = os.fork()
    if child == 0:
        end_code = 1
        try:
            end_code = work()
        finally:
            sys.stdout.flush()
            os._exit(end_code)
    return child


def run_graph(seed: int, wanted: list[str], options: argparse.Namespace, code: str) -> None:
    """Fork until every lane has a result."""
    folder = Path(tempfile.mkdtemp(prefix=f"random-graph-{seed}-"))
    while wanted:
        before = len(read(options.results))
        child = fork(lambda: in_child([seed], wanted, folder, options, code))  # noqa: B023 called at once
        _, status = os.waitpid(child, 0)
        mine = {r["lane"] for r in read(options.results)[before:] if r["seed"] == seed}
        wanted = [lane for lane in wanted if lane not in mine]
        if wanted:  # it ended in the first that has none
            how = (
                f"signal {signal.Signals(os.WTERMSIG(status)).name}"
                if os.WIFSIGNALED(status)
                else f"exit {status >> 8}"
            )
            write(
                options.results,
                {"seed": seed, "lane": wanted.pop(0), "status": "crashed", "message": how, "code": code},
            )
    if options.keep and any(r["status"] not in ("ok", "refused") for r in read(options.results) if r["seed"] == seed):
        shutil.copytree(folder, options.keep / str(seed), dirs_exist_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def in_child(seeds: list[int], wanted: list[str], folder: Path, options: argparse.Namespace, code: str) -> int:
    from random_graph_lanes import run_lanes, run_together
    from random_graphs import make

    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    gc.disable()  # the process ends before its memory does
    graphs = [make(seed, options.steps) for seed in seeds]
    give_time()
    spent = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    together = len(graphs) > 1
    for result in (run_together(graphs, folder, wanted.__contains__) if together
                   else run_lanes(graphs[0], folder, wanted.__contains__)):  # fmt: skip
        now = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        write(options.results, {**dataclasses.asdict(result), "cpu_s": round(now - spent, 2), "code": code})
        spent = now
        give_time()
    return 0


def give_time() -> None:
    """Time for the next lane. Who has used it up is ended by SIGPROF, who waits for good by SIGALRM."""
    signal.setitimer(signal.ITIMER_PROF, MOST_CPU_SECONDS)
    signal.alarm(MOST_SECONDS)


def write(path: Path, line: dict[str, object]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def read(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def record(results: list[dict[str, object]], path: Path) -> None:
    """Add a run's totals, one for each state of the code, to those of earlier runs. Raises SystemExit for a network
    that was counted in a lane before, by whatever code.
    """
    totals = json.loads(path.read_text("utf-8")) if path.exists() else []
    counted = {(seed, lane) for run in totals for lane in run["lanes"] for seed in numbers(run["seeds"])}
    if twice := [r for r in results if (r["seed"], r["lane"]) in counted]:
        raise SystemExit(f"network {twice[0]['seed']} was counted in {twice[0]['lane']} before: give other --seeds")
    for code in sorted({str(r["code"]) for r in results}):
        lanes: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        mine = [r for r in results if r["code"] == code]
        for result in mine:
            lanes[str(result["lane"])][str(result["status"])] += 1
        seeds = written(sorted({int(str(r["seed"])) for r in mine}))
        versions = {name: importlib.metadata.version(name) for name in TOOLCHAINS}
        totals.append({"date": time.strftime("%Y-%m-%d"), "code": code, "seeds": seeds, **versions, "lanes": lanes})
    path.write_text("[\n" + ",\n".join(json.dumps(run) for run in totals) + "\n]\n", "utf-8")


def numbers(seeds: str) -> list[int]:
    """0:3,7 → 0, 1, 2, 7."""
    return [
        n
        for part in seeds.split(",")
        for n in (range(*map(int, part.split(":"))) if ":" in part else [int(part)])
    ]  # fmt: skip


def written(seeds: list[int]) -> str:
    """0, 1, 2, 7 → 0:3,7."""
    parts: list[tuple[int, int]] = []
    for seed in seeds:
        first = parts.pop()[0] if parts and parts[-1][1] == seed else seed
        parts.append((first, seed + 1))
    return ",".join(str(first) if beyond == first + 1 else f"{first}:{beyond}" for first, beyond in parts)


def table(results: list[dict[str, object]]) -> str:
    """A row for each lane: how many networks, and what became of them."""
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for result in results:
        counts[str(result["lane"])][str(result["status"])] += 1
    return rows_of(counts)


def totals(runs: list[dict[str, Any]]) -> str:
    """The same of all recorded runs together."""
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for run in runs:
        for lane, found in run["lanes"].items():
            counts[lane].update(found)
    return rows_of(counts)


def rows_of(counts: dict[str, collections.Counter[str]]) -> str:
    statuses = ("ok", "refused", "unnamed", "wrong", "error", "crashed")
    rows = ["| lane | networks | " + " | ".join(statuses) + " |", "|---" * (len(statuses) + 2) + "|"]
    for lane, found in counts.items():
        rows.append(f"| {lane} | {found.total()} | " + " | ".join(str(found[s]) for s in statuses) + " |")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
