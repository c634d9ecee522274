"""The latency estimate beside simpler ones, on the measurements that `pocketforge device calibrate` holds out.

    python benchmarks/estimates.py --llvm-mca /usr/bin/llvm-mca-19 --llvm-mc /usr/bin/llvm-mc-19 [--mcpu neoverse-n1]

Adds to `device calibrate`'s table what llvm-mca alone says of the same basic blocks (throughput of 100 iterations ×
executions; nothing fitted) and the same with one scalar fitted on the fitted points. Wants LLVM 16 or newer: older ones
give Neoverse N1 the Cortex-A57's tables.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys

from pocketforge.device_calibration import calibrate, datasets, errors, published, sampling
from pocketforge.device_calibration.counted import CountStore, Run, run_key
from pocketforge.device_calibration.datasets import Sample

ITERATIONS = 100
REGIONS = 200  # a call
COVER = 0.9995


def disassembled(words: list[int], llvm_mc: str) -> dict[int, str]:
    """Assembly text of each instruction word, without labels; `nop` where the disassembler knows none."""
    lines = "\n".join(" ".join(f"0x{b:02x}" for b in word.to_bytes(4, "little")) for word in words)
    argv = [llvm_mc, "--disassemble", "-triple=aarch64", "-mattr=+all"]
    done = subprocess.run(argv, input=lines, text=True, capture_output=True, check=True)
    found = [line.strip() for line in done.stdout.splitlines() if line.startswith("\t") and line.strip()[0] != "."]
    if len(found) != len(words):
        if len(words) == 1:
            return {words[0]: "nop"}
        half = len(words) // 2
        return disassembled(words[:half], llvm_mc) | disassembled(words[half:], llvm_mc)
    return dict(zip(words, found, strict=True))


def throughput(
    blocks: list[tuple[int, ...]], text: dict[int, str], llvm_mca: str, mcpu: str
) -> dict[tuple[int, ...], float]:
    """llvm-mca's cycles of one pass through each block; a block that it refuses counts one cycle an instruction."""
    found: dict[tuple[int, ...], float] = {}
    source = "".join(
        f"# LLVM-MCA-BEGIN b{i}\n" + "".join(f"{text[w]}\n" for w in block) + "# LLVM-MCA-END\n"
        for i, block in enumerate(blocks)
    )
    argv = [llvm_mca, "-mtriple=aarch64", f"-mcpu={mcpu}", "-mattr=+all", f"-iterations={ITERATIONS}", "-json",
            "-all-views=false", "-summary-view"]  # fmt: skip
    done = subprocess.run(argv, input=source, text=True, capture_output=True, check=False)
    regions = json.loads(done.stdout)["CodeRegions"] if done.returncode == 0 and done.stdout.strip() else []
    if len(regions) != len(blocks):
        if len(blocks) == 1:
            return {blocks[0]: float(len(blocks[0]))}
        half = len(blocks) // 2
        return throughput(blocks[:half], text, llvm_mca, mcpu) | throughput(blocks[half:], text, llvm_mca, mcpu)
    for region in regions:
        view = region["SummaryView"]
        found[blocks[int(region["Name"][1:])]] = view["TotalCycles"] / view["Iterations"]
    return found


def hot(run: Run) -> list[tuple[int, tuple[int, ...]]]:
    """(executions, words) of the blocks that hold nearly all instructions."""
    ordered = sorted(((b.executions, b.words) for b in run.blocks), key=lambda b: -b[0] * len(b[1]))
    kept, seen = [], 0
    for executions, words in ordered:
        if seen > COVER * run.instructions:
            break
        kept.append((executions, words))
        seen += executions * len(words)
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llvm-mca", default="llvm-mca")
    parser.add_argument("--llvm-mc", default="llvm-mc")
    parser.add_argument("--mcpu", default="neoverse-n1")
    parser.add_argument("--core", default="cortex-a76")
    options = parser.parse_args()
    store = CountStore.load(datasets.COUNTS)
    chosen = [m for m in sampling.sample(published.shipped()) if not datasets.why_not(m) and m.core == options.core]
    groups = calibrate.grouped(datasets.gather(chosen, store, count=None))
    every = groups.fitted + groups.held_out
    blocks = {s.label: hot(store.run(run_key(s.sha256, options.core, s.kernels))) for s in every}
    distinct = sorted({words for found in blocks.values() for _, words in found})
    text = disassembled(sorted({w for words in distinct for w in words}), options.llvm_mc)
    cycles: dict[tuple[int, ...], float] = {}
    for at in range(0, len(distinct), REGIONS):
        cycles |= throughput(distinct[at : at + REGIONS], text, options.llvm_mca, options.mcpu)
        print(f"{len(cycles)} of {len(distinct)} blocks", file=sys.stderr)

    def alone(s: Sample) -> float:
        return sum(n * cycles[words] for n, words in blocks[s.label]) / (s.terms.clock_ghz * 1e6)

    scale = statistics.median(s.measurement.latency_ms / alone(s) for s in groups.fitted)
    methods = {f"llvm-mca {options.mcpu} alone": alone, "llvm-mca × one scalar": lambda s: alone(s) * scale}
    for name, predict in methods.items():
        held = errors.of_points(f"{options.core}: held-out points", name, groups.held_out, predict)
        ratios = errors.of_ratios(f"{options.core}: held-out ratios (width)", name, groups.held_out, predict)
        for summary in (held, ratios):
            if summary is not None:
                print(json.dumps(summary.to_json()))


if __name__ == "__main__":
    main()
