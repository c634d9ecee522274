"""Takes the zoo's nets through their lanes by `pocketforge build`, and writes a JSON line for each lane.

    python tests/zoo/run.py                             what has no result yet, in build/zoo
    python tests/zoo/run.py --only NAME … --lanes onnx  some of them
    python tests/zoo/run.py --count --only NAME …       and counts instructions on the emulated pixel4
    python tests/zoo/run.py --record                    puts the results into docs/zoo.json and writes docs/zoo.md
    python tests/zoo/run.py --table                     prints docs/zoo.md

Goes on where an earlier run stopped. A net is trained once; its lanes share the trace, the weights and the store.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
RECORDED = ROOT / "docs" / "zoo.json"
sys.path[:0] = [str(TESTS), str(ROOT / "pipeline"), str(ROOT)]
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "POCKETFORGE_TRAINING_THREADS"):
    os.environ[variable] = "1"

import warm_server  # noqa: E402 - found through the path above

from zoo import tables  # noqa: E402
from zoo.builds import Place  # noqa: E402
from zoo.entries import Net  # noqa: E402
from zoo.lanes import Built, Lane, judged  # noqa: E402
from zoo.nets import BY_NAME, NETS  # noqa: E402

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "zoo", help="results, weights, what is built")
    parser.add_argument("--only", nargs="*", metavar="NAME", default=[], help="these nets")
    parser.add_argument("--lanes", default=".", help="a regular expression of lanes: 'onnx', 'tflite static_int8'")
    parser.add_argument("--again", action="store_true", help="also lanes that have a result")
    parser.add_argument("--count", action="store_true", help="count instructions on the emulated pixel4")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so long")
    parser.add_argument("--keep", action="store_true", help="leave the cache and the reports")
    parser.add_argument("--table", action="store_true", help="print the document, and run nothing")
    parser.add_argument("--record", action="store_true", help="add the results to docs/zoo.json, and run nothing")
    options = parser.parse_args()
    if unknown := sorted(set(options.only) - BY_NAME.keys()):
        parser.error(f"no net {', '.join(unknown)}; there are {', '.join(BY_NAME)}")
    results = options.work / "zoo.jsonl"
    if options.record:
        tables.record(tables.read(results), RECORDED, NETS)
        RECORDED.with_suffix(".md").write_text(tables.document(tables.recorded(RECORDED), NETS), "utf-8")
        return 0
    if options.table:
        sys.stdout.write(tables.document(tables.recorded(RECORDED), NETS))
        return 0
    run(options, results)
    return 0


def run(options: argparse.Namespace, results: Path) -> None:
    done = [] if options.again else tables.read(results)
    ends = time.monotonic() + 60 * options.minutes
    options.work.mkdir(parents=True, exist_ok=True)
    warm_up()
    signed = {"date": time.strftime("%Y-%m-%d"), "code": tables.code_of(ROOT), "versions": tables.versions()}
    for net in [BY_NAME[name] for name in options.only] or NETS:
        wanted = tables.missing(net, done, options.lanes)
        if not wanted or time.monotonic() > ends:
            continue
        before = cpu_s()
        rows = lanes_of(net, wanted, options)
        each = round((cpu_s() - before) / len(rows), 1)
        with results.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps({**dataclasses.asdict(row), "cpu_s": each, **signed}) + "\n" for row in rows)
        told = ", ".join(f"{row.runtime} {row.scheme} {row.outcome}" for row in rows)
        print(f"{net.name}: {told}; {each * len(rows):.0f} CPU s", flush=True)


def warm_up() -> None:
    """What all nets need, imported once: here for training and checking, in the fork server for stages."""
    modules = [*warm_server.everything(), "zoo.warm"]
    warm_server.everything = lambda: modules
    import torch

    from zoo import check, train, warm  # noqa: F401 - before the first fork

    torch.set_num_threads(1)


def cpu_s() -> float:
    """Of this process, its children and theirs: stages are the fork server's, which lives as long as the zoo runs."""
    pids = [str(os.getpid())]
    for task in Path("/proc/self/task").iterdir():
        pids += (task / "children").read_text("ascii").split()
    ticks = 0
    for pid in pids:
        after_name = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
        ticks += sum(map(int, after_name[11:15]))  # utime, stime, and of children that ended
    return ticks / os.sysconf("SC_CLK_TCK")


def lanes_of(net: Net, wanted: tuple[tuple[str, str], ...], options: argparse.Namespace) -> list[Lane]:
    """Train the net where it has no weights, build, look at each file."""
    place = Place(net, options.work)
    place.write(wanted, count=options.count)
    if not place.weights.exists():
        trained = in_child(lambda: trained_now(place), place.folder / "train.json")
        if isinstance(trained, str):
            return [Lane(net.name, *lane, "crash", f"the zoo could not train it: {trained}") for lane in wanted]
        print(f"{net.name}: trained, {trained}", flush=True)
    built = place.build(wanted)
    found = in_child(lambda: compared(place, built), place.folder / "check.json")
    if not options.keep:
        shutil.rmtree(place.folder / "cache", ignore_errors=True)
    if isinstance(found, str):
        return [dataclasses.replace(lane, why=lane.why or f"not held against PyTorch: {found}") for lane in built.lanes]
    return [judged(lane, *found.get(f"{lane.runtime} {lane.scheme}", (None, None, ""))) for lane in built.lanes]


def trained_now(place: Place) -> Any:
    from zoo.train import train

    return train(place.net, place.recipe, place.weights)


def compared(place: Place, built: Built) -> Any:
    from zoo.check import held_against

    whole = {(lane.runtime, lane.scheme) for lane in built.lanes if lane.outcome in ("PASS", "FAIL")}
    files = {lane: file for lane, file in built.files.items() if lane in whole}  # a dead file ends the comparison
    return held_against(place.net.name, place.weights, place.recipe, files)


def in_child(work: Callable[[], Any], path: Path) -> Any:
    """What the work gives, from a process of its own; how it ended, as text, where it did not. What libraries print is
    beside the path, in `.log`."""
    path.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        try:
            log = os.open(path.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            path.write_text(json.dumps(work()), "utf-8")
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return json.loads(path.read_text("utf-8")) if path.exists() else f"status {status}, {path.stem}.log"


if __name__ == "__main__":
    sys.exit(main())
