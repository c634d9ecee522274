"""Time and memory of opening large tables: `python benchmarks/data_sources.py [RECORDS]` prints a table (1,000,000).

Each table is opened in a process of its own, as a stage does it: read, split, copies looked for, then 1000 samples.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from pocketforge.data.dataset import open_dataset
from pocketforge.data.digits import Digits
from pocketforge.recipe.columns import Columns
from pocketforge.recipe.data import Data
from pocketforge.specs.data import data_spec

RECORDS = 1_000_000
FILES = 200
LABEL = {"label": "label"}
TABLES = {
    "csv, numbers": Data("csv:numbers.csv", columns=Columns(features=("acc_*",), targets=LABEL, slices=("device",))),
    "csv, paths": Data(
        "csv:paths.csv",
        columns=Columns(inputs=("path",), targets=LABEL, id="id", split="split", slices=("device",)),
    ),
    "jsonl, texts": Data("jsonl:texts.jsonl", columns=Columns(inputs=("text",), targets=LABEL, slices=("device",))),
}


def write(folder: Path, records: int) -> None:
    """The tables: real digits in the files, which repeat; what else stands there is made up."""
    (folder / "digits").mkdir()
    digits = Digits()
    for number in range(FILES):
        (pixels,), _ = digits.sample(number)
        Image.fromarray((pixels[:, :, 0] * 15).astype(np.uint8)).save(folder / "digits" / f"{number}.png")
    with (folder / "numbers.csv").open("w") as file:
        file.write("acc_x,acc_y,acc_z,label,device\n")
        for n in range(records):
            file.write(f"{n * 0.001:.3f},{n % 97},{n % 89},{n % 6},pixel{n % 7}\n")
    with (folder / "paths.csv").open("w") as file:
        file.write("id,path,label,split,device\n")
        for n in range(records):
            split = "train" if n % 10 else "val"
            file.write(f"sample-{n:09},digits/{n % FILES}.png,digit {n % 10},{split},pixel{n % 7}\n")
    with (folder / "texts.jsonl").open("w") as file:
        for n in range(records):
            text = f"review number {n}: the camera of the phone is good, its battery lasts {n % 50} hours"
            file.write(json.dumps({"text": text, "label": ("no", "yes")[n % 2], "device": f"pixel{n % 7}"}) + "\n")


def open_table(folder: Path, name: str) -> dict[str, float]:
    """What opening one costs this process, in seconds of its CPU and MB at its peak."""
    start = time.process_time()
    dataset = open_dataset(data_spec(TABLES[name], 0, "classification"), lambda path: folder / path)
    opened_s = time.process_time() - start
    for position in range(min(1000, len(dataset.eval))):
        dataset.eval.source.sample(dataset.eval.indices[position])
    sampled_s = time.process_time() - start - opened_s
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return {"opened_s": opened_s, "sampled_s": sampled_s, "peak_mb": int(peak.split()[1]) / 1024}


def main() -> None:
    if len(sys.argv) == 3:
        print(json.dumps(open_table(Path(sys.argv[1]), sys.argv[2])))
        return
    records = int(sys.argv[1]) if len(sys.argv) == 2 else RECORDS
    with tempfile.TemporaryDirectory() as place:
        write(Path(place), records)
        print(f"| {records:,} records | opened, CPU s | 1000 samples, CPU s | peak, MB |\n|---|---|---|---|")
        for name in TABLES:
            done = subprocess.run([sys.executable, __file__, place, name], capture_output=True, text=True, check=True)
            found = json.loads(done.stdout)
            print(
                f"| {name} | {found['opened_s']:.1f} | {found['sampled_s']:.2f} | {found['peak_mb']:.0f} |", flush=True
            )


if __name__ == "__main__":
    main()
