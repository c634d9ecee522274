"""Speed of Pocketforge's own work, as ratios within one run: the machines that run this are shared and noisy.

    python benchmarks/run.py [--runs N] [--runtimes executorch,tflite,onnx]

overhead    cold build of the digits recipe with one int8 target, over benchmarks/handwritten.py    target ≤ 1.25
warm        the same build again                                                                    target ≤ 2 s
start-up    `pocketforge --help` over `python -c pass`                                    target ≤ 6, ≤ 150 ms idle

Runs alternate between the two sides; the figure is the median of the ratios of neighbouring runs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "models" / "digits_cnn"
SOURCES = os.pathsep.join((str(ROOT / "pipeline"), str(ROOT)))
COMMAND = [sys.executable, "-m", "pocketforge"]


def seconds(argv: list[str], cwd: Path, cache: Path) -> float:
    """Wall time of a whole process; its output only matters when it fails."""
    environment = {
        **os.environ,
        "POCKETFORGE_CACHE_DIR": str(cache),
        "PYTHONPATH": SOURCES,
    }
    started = time.perf_counter()
    done = subprocess.run(argv, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    taken = time.perf_counter() - started
    if done.returncode != 0:
        sys.exit(f"{' '.join(argv)} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return taken


def one_target(runtime: str, folder: Path) -> Path:
    """The shipped recipe with one target and no latency budget (the yardstick has none)."""
    shutil.copytree(DIGITS, folder, dirs_exist_ok=True)
    text = (DIGITS / "release.toml").read_text(encoding="utf-8")
    head = text[: text.index("[[target]]")]
    name = f"digits_{runtime}_int8"
    assert any(t["name"] == name for t in tomllib.loads(text)["target"])
    quantize = '{ scheme = "static_int8" }'
    recipe = folder / "one.toml"
    recipe.write_text(
        f'{head}[[target]]\nname = "{name}"\nruntime = "{runtime}"\nquantize = {quantize}\n'
        'verify = { tflite_runtime = "skip" }\n',
        encoding="utf-8",
    )
    return recipe


def overhead(runtime: str, runs: int, scratch: Path) -> tuple[list[float], list[float], list[float]]:
    """Cold builds, hand-written runs and warm rebuilds, in turn."""
    recipe = one_target(runtime, scratch / runtime)
    ours, theirs, warm = [], [], []
    for number in range(runs):
        cache = scratch / f"cache-{runtime}-{number}"
        build = [*COMMAND, "build", str(recipe), "--out", str(scratch / "out")]
        theirs.append(seconds([sys.executable, str(ROOT / "benchmarks/handwritten.py"), runtime, str(scratch / "hand")],
                              scratch, cache))  # fmt: skip
        ours.append(seconds(build, scratch, cache))
        warm.append(seconds(build, scratch, cache))
    return ours, theirs, warm


def row(name: str, values: list[float], unit: str = "s") -> None:
    print(
        f"  {name:<34} min {min(values):8.3f}  median {statistics.median(values):8.3f}  max {max(values):8.3f} {unit}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="runs of each side (default 3)")
    parser.add_argument("--runtimes", default="executorch,tflite,onnx")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pocketforge-bench-") as folder:
        scratch = Path(folder)
        pass_s, help_s = [], []
        for _ in range(20):
            pass_s.append(seconds([sys.executable, "-c", "pass"], scratch, scratch))
            help_s.append(seconds([*COMMAND, "--help"], scratch, scratch))
        print("start-up")
        row("python -c pass", [1e3 * s for s in pass_s], "ms")
        row("pocketforge --help", [1e3 * s for s in help_s], "ms")
        row("ratio (target ≤ 6)", [h / p for h, p in zip(help_s, pass_s, strict=True)], "")
        for runtime in options.runtimes.split(","):
            ours, theirs, warm = overhead(runtime, options.runs, scratch)
            print(f"digits, one target: {runtime} static int8")
            row("hand-written script", theirs)
            row("pocketforge build, cold", ours)
            row("ratio (target ≤ 1.25)", [o / t for o, t in zip(ours, theirs, strict=True)], "")
            row("pocketforge build, warm (≤ 2 s)", warm)


if __name__ == "__main__":
    main()
