"""What listing and clearing cost in a store of 20,000 results, of this code and of another checkout, in turns.

    python benchmarks/stored_results.py [--results 20000] [--runs 5] [--against CHECKOUT]

CPU seconds of new processes: `cache list` into a file, `cache list --json`, and `cache clear --keep-bytes` with nothing
to remove. A memory of what was listed is warm, as after a first listing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
STAGES = ("data", "reference", "quantize", "export", "verify", "bench")
COMMANDS = (("list",), ("list", "--json"), ("clear", "--keep-bytes", "1000GB"))


def fill(store: Path, results: int) -> None:
    """So many results of two files of 300 bytes each, as stages leave them."""
    for number in range(results):
        key = hashlib.sha256(str(number).encode()).hexdigest()
        files = store / "v1" / "entries" / key[:2] / key / "files"
        files.mkdir(parents=True)
        content = key.encode() * 5
        hashes = {name: hashlib.sha256(content).hexdigest() for name in ("outcome.json", "model.bin")}
        for name in hashes:
            (files / name).write_bytes(content)
        meta = {"stage": STAGES[number % len(STAGES)], "lane": f"lane{number % 12}", "wall_s": 1.5, "log": "x" * 200}
        manifest = {"key": key, "files": hashes, "meta": meta}
        (files.parent / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True), encoding="utf-8")


def cpu_s(checkout: Path, store: Path, command: tuple[str, ...]) -> float:
    """Of one command of a checkout's code."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(checkout / "pipeline"), str(checkout)))}
    argv = [sys.executable, "-m", "pocketforge", "cache", *command, "--cache-dir", str(store)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(argv, env=environment, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--results", type=int, default=20_000)
    options.add_argument("--runs", type=int, default=5)
    options.add_argument("--against", type=Path, help="a checkout of the code to compare with")
    asked = options.parse_args()
    sides = {"this code": ROOT} | ({"the other": asked.against.resolve()} if asked.against else {})
    with tempfile.TemporaryDirectory(prefix="pocketforge-results-") as scratch:
        store = Path(scratch)
        fill(store, asked.results)
        for checkout in sides.values():
            cpu_s(checkout, store, ("list",))
        for command in COMMANDS:
            taken: dict[str, list[float]] = {side: [] for side in sides}
            for _ in range(asked.runs):
                for side, checkout in sides.items():
                    taken[side].append(cpu_s(checkout, store, command))
            medians = {side: statistics.median(values) for side, values in taken.items()}
            said = ", ".join(f"{side} {value:.3f}" for side, value in medians.items())
            ratio = f": ratio {medians['this code'] / medians['the other']:.3f}" if asked.against else ""
            print(f"cache {' '.join(command)}, CPU s of {asked.results} results: {said}{ratio}")


if __name__ == "__main__":
    main()
