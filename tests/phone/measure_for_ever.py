"""A program that measures on a phone until it is ended: SERIAL FOLDER GRACE_S. Says on stdout what it is told."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from measuring import QUICK, job

from android_bench.adb import Adb
from android_bench.session import measure


def main() -> None:
    serial, folder, grace_s = sys.argv[1:]
    plan = dataclasses.replace(QUICK, rounds=1000)
    measure(
        Adb().phone(serial), [job(Path(folder))], plan, lambda words: print(words, flush=True), grace_s=int(grace_s)
    )


if __name__ == "__main__":
    main()
