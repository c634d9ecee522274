"""What a million remembered file hashes cost `pocketforge plan`: CPU time and memory beside an empty memory.

    python benchmarks/file_hashes.py [--files 1000000] [--runs 7]

Writes that many rows into a cache, then plans models/digits_cnn in new processes with it and without it, in turns;
then hashes remembered for a folder of 20,000 files are looked up and checked, as for an image folder.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pocketforge.folders import shipped_dir
from pocketforge.run.fingerprints import FILE, Fingerprints

_PLAN = """
import json, resource, sys, time
from pocketforge.cli.main import main
sys.argv = ["pocketforge", "plan", sys.argv[1], "--cache-dir", sys.argv[2], "--json"]
try:
    main()
finally:
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss * 1024]), file=sys.stderr)
"""


def fill(cache: Path, files: int) -> float:
    """A memory of so many files that are somewhere else; returns its size in MB."""
    (cache / "v1").mkdir(parents=True)
    with Fingerprints(cache / "v1"):
        pass
    step = 2**64 // files
    rows = (
        (n * step - 2**63, 10**5 + n, 10**18 + n, 10**18 + n, n, 64768, n.to_bytes(32, "big"), 20_000 + n % 300)
        for n in range(files)
    )
    with sqlite3.connect(cache / "v1" / FILE) as data:
        data.executemany("INSERT INTO files VALUES (?,?,?,?,?,?,?,?)", rows)
    return (cache / "v1" / FILE).stat().st_size / 1e6


def plan(cache: Path) -> tuple[float, float]:
    """CPU seconds and peak MB of one `pocketforge plan`."""
    recipe = shipped_dir("models") / "digits_cnn" / "release.toml"
    done = subprocess.run(
        [sys.executable, "-c", _PLAN, str(recipe), str(cache)], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["steps"]
    cpu_s, peak = json.loads(done.stderr.splitlines()[-1])
    return cpu_s, peak / 1e6


def folder(cache: Path, files: int) -> dict[str, float]:
    """CPU seconds to hash a folder of small files, and to find their hashes again."""
    with tempfile.TemporaryDirectory(dir=cache) as place:
        paths = [Path(place, f"{n}.png") for n in range(files)]
        for path in paths:
            path.write_bytes(os.urandom(100))
        time.sleep(2.1)
        found = {}
        for name in ("first", "again"):
            before = resource.getrusage(resource.RUSAGE_SELF)
            with Fingerprints(cache / "v1") as memory:
                assert len(list(memory.prints(paths))) == files
            after = resource.getrusage(resource.RUSAGE_SELF)
            found[name] = round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 3)
        return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--files", type=int, default=1_000_000)
    options.add_argument("--runs", type=int, default=7)
    asked = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="pocketforge-hashes-") as scratch:
        empty, full = Path(scratch, "empty"), Path(scratch, "full")
        fill(empty, 1)
        size_mb = fill(full, asked.files)
        plan(full), plan(empty)
        with_it, without = [], []
        for _ in range(asked.runs):
            with_it.append(plan(full))
            without.append(plan(empty))
        cpu, peak = ([statistics.median(run[n] for run in runs) for runs in (with_it, without)] for n in (0, 1))
        print(f"{asked.files} files remembered: {size_mb:.0f} MB on disk")
        print(f"plan, CPU s: {cpu[0]:.3f} with, {cpu[1]:.3f} without: {cpu[0] - cpu[1]:+.3f}")
        print(f"plan, peak MB: {peak[0]:.1f} with, {peak[1]:.1f} without: {peak[0] - peak[1]:+.1f}")
        print(f"a folder of 20000 files beside them, CPU s: {folder(full, 20_000)}")


if __name__ == "__main__":
    main()
