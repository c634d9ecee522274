"""Takes random networks through every lane (tests/random_graph_lanes.py) and writes a JSON line for each.

    python tests/tools/run_random_graphs.py results.jsonl --seeds 0:2000
    python tests/tools/run_random_graphs.py results.jsonl --table

Goes on where an earlier run stopped. Each network has a process of its own, forked from one that has imported the
toolchains once: a runtime that crashes or hangs costs that lane, and the network's other lanes are run anew.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import gc
import json
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))
MOST_SECONDS = 240  # a lane that takes longer hangs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--seeds", default="0:2000", help="first:beyond, or numbers, with commas between")
    parser.add_argument("--lanes", default=".", help="a regular expression of lanes' names")
    parser.add_argument("--steps", type=int, help="only so many steps of each network")
    parser.add_argument("--keep", type=Path, help="leave the folders of what failed here")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so long")
    parser.add_argument("--table", action="store_true", help="print what the results hold, and run nothing")
    options = parser.parse_args()
    if options.table:
        print(table(read(options.results)))
        return 0
    seeds = [
        n
        for part in options.seeds.split(",")
        for n in (range(*map(int, part.split(":"))) if ":" in part else [int(part)])
    ]
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
    for seed in seeds:
        wanted = [lane for lane in lanes if (seed, lane) not in done]
        if time.monotonic() > ends:
            break
        if wanted:
            run_graph(seed, wanted, options)
    return 0


def run_graph(seed: int, wanted: list[str], options: argparse.Namespace) -> None:
    """Fork until every lane has a result."""
    folder = Path(tempfile.mkdtemp(prefix=f"random-graph-{seed}-"))
    while wanted:
        before = len(read(options.results))
        child = os.fork()
        if child == 0:
            end_code = 1
            try:
                end_code = in_child(seed, wanted, folder, options)
            finally:
                sys.stdout.flush()
                os._exit(end_code)
        _, status = os.waitpid(child, 0)
        mine = {r["lane"] for r in read(options.results)[before:] if r["seed"] == seed}
        wanted = [lane for lane in wanted if lane not in mine]
        if wanted:  # it ended in the first that has none
            how = (
                f"signal {signal.Signals(os.WTERMSIG(status)).name}"
                if os.WIFSIGNALED(status)
                else f"exit {status >> 8}"
            )
            write(options.results, {"seed": seed, "lane": wanted.pop(0), "status": "crashed", "message": how})
    if options.keep and any(r["status"] not in ("ok", "refused") for r in read(options.results) if r["seed"] == seed):
        shutil.copytree(folder, options.keep / str(seed), dirs_exist_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def in_child(seed: int, wanted: list[str], folder: Path, options: argparse.Namespace) -> int:
    from random_graph_lanes import run_lanes
    from random_graphs import make

    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    gc.disable()  # the process ends before its memory does
    graph = make(seed, options.steps)
    signal.alarm(MOST_SECONDS)
    spent = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    for result in run_lanes(graph, folder, wanted.__contains__):
        now = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        write(options.results, {**dataclasses.asdict(result), "cpu_s": round(now - spent, 2), "kinds": graph.kinds})
        spent = now
        signal.alarm(MOST_SECONDS)
    return 0


def write(path: Path, line: dict[str, object]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def read(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def table(results: list[dict[str, object]]) -> str:
    """A row for each lane: how many networks, and what became of them."""
    statuses = ("ok", "refused", "unnamed", "wrong", "error", "crashed")
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for result in results:
        counts[str(result["lane"])][str(result["status"])] += 1
    rows = ["| lane | networks | " + " | ".join(statuses) + " |", "|---" * (len(statuses) + 2) + "|"]
    for lane, found in counts.items():
        rows.append(f"| {lane} | {found.total()} | " + " | ".join(str(found[s]) for s in statuses) + " |")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
