"""Runs storms (tests/storm/*.py) and prints what they found.

    python tests/storm/run.py                        all of them, in build/storm; goes on where it stopped
    python tests/storm/run.py recipes --minutes 5    one, for so long
    python tests/storm/run.py recipes --only 17      one trial of it, with what was wrong
    python tests/storm/run.py --table                what the results hold

Exits with 1 when anything was wrong.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent / "pipeline"), str(TESTS.parent)]
# Two storms may run beside each other; and a process that has computed with several threads cannot be forked.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "POCKETFORGE_TRAINING_THREADS"):
    os.environ[variable] = "1"

from storm import harness  # noqa: E402 - found through the path above

# A shell's background hands down an ignored SIGINT; a command that hangs is ended by one.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("storms", nargs="*", metavar="STORM", help=f"of {', '.join(harness.STORMS)}; all when left out")
    parser.add_argument(
        "--work", type=Path, default=TESTS.parent / "build" / "storm", help="results, and what is built"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, help="so many trials of each  [default: the storm's own]")
    parser.add_argument("--first", type=int, default=0, help="with --count: from this number on")
    parser.add_argument("--only", type=int, help="one trial by its number, anew")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="of each storm at most")
    parser.add_argument("--table", action="store_true", help="print what the results hold, and run nothing")
    options = parser.parse_args()
    unknown = set(options.storms) - set(harness.STORMS)
    if unknown:
        parser.error(f"no storm {', '.join(sorted(unknown))}; there are {', '.join(harness.STORMS)}")
    work = options.work.absolute()
    # Benchmarks of a storm are no figures, and wait for nobody's.
    os.environ.setdefault("POCKETFORGE_LOCKS_DIR", str(work / "locks"))
    results = harness.results_file(work, "only") if options.only is not None else None
    if results is not None:
        results.unlink(missing_ok=True)
    if not options.table:
        for name in options.storms or harness.STORMS:
            storm = harness.load(name)
            numbers: Sequence[int] | None = None if options.only is None else [options.only]
            if options.count:
                numbers = range(options.first, options.first + options.count)
            ends = time.monotonic() + 60 * options.minutes
            harness.run(storm, work, numbers, seed=options.seed, ends=ends, results=results)
    if results is not None:
        found = harness.read(results)
        print("\n".join(f"{line['kind']}: {line['wrong'] or 'right'}\n{line['note']}" for line in found))
    else:
        print(harness.table(work))
        found = [line for name in harness.STORMS for line in harness.read(harness.results_file(work, name))]
    return 1 if any(line["wrong"] for line in found) else 0


if __name__ == "__main__":
    sys.exit(main())
