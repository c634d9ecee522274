"""The shipped model's files, mutated, through `inspect` and the runtimes: no crash of ours, and theirs are named.

Mutations are made in memory and written for as long as a trial takes. What crashes in a runtime is its own affair and
happens in a process of its own; how often is counted.
"""

from __future__ import annotations

import gc
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
from release_build import on_the_host

from pocketforge.devices import host
from pocketforge.devices.base import RunAnswer, RunRequest
from pocketforge.errors import ToolFailed
from storm import shop
from storm.commands import badly_said, command
from storm.harness import Storm, Trial, begin
from storm.programs import forked

LIMIT_S = 120
RUNTIME_S = 40.0
MOST_BYTES = 4 * 2**30
# A runtime is a process of a second; `inspect` is here.
RUNTIME_EACH = 4
SUFFIXES = (".onnx", ".ort", ".tflite", ".pte")
KINDS = (
    *("bits flipped", "bits flipped", "a field", "a field", "cut short", "spliced"),
    *("a span cut", "a span doubled", "blanked", "blocks swapped"),
)
FIELDS = (0, 1, 2, 4, 7, 255, 65_535, 2**31 - 1, 2**31, 2**32 - 1, 2**32 - 4)


def mutate(whole: bytes, other: bytes, rng: random.Random) -> tuple[str, bytes]:
    """other: a file of the same format, to splice with."""
    kind = rng.choice(KINDS)
    size = len(whole)
    start = rng.randrange(rng.choice((64, 1024, size, size)))
    length = rng.choice((1, 2, 4, 16, 256, 4096))
    changed = bytearray(whole)
    if kind == "bits flipped":
        for _ in range(rng.choice((1, 1, 4, 32))):
            changed[rng.randrange(rng.choice((64, 1024, size)))] ^= 1 << rng.randrange(8)
    elif kind == "a field":
        for _ in range(rng.choice((1, 1, 3))):
            place = 4 * rng.randrange(rng.choice((32, size // 4 - 1)))
            changed[place : place + 4] = struct.pack(
                "<I", rng.choice((*FIELDS, rng.randrange(size), rng.randrange(2**32)))
            )
    elif kind == "cut short":
        del changed[start:]
    elif kind == "spliced":
        changed[start:] = other[rng.choice((start, rng.randrange(len(other)))) :]
    elif kind == "a span cut":
        del changed[start : start + length]
    elif kind == "a span doubled":
        changed[start:start] = whole[start : start + length]
    elif kind == "blanked":
        changed[start : start + length] = rng.choice((b"\0", b"\xff")) * min(length, size - start)
    else:
        to = rng.randrange(size)
        changed[start : start + length], changed[to : to + length] = (
            whole[to : to + length],
            whole[start : start + length],
        )
    return kind, bytes(changed)


class Files:
    def __init__(self, files: list[tuple[Path, bytes]], samples: Path) -> None:
        self._files = files
        self._samples = samples

    def __call__(self, number: int, rng: random.Random, folder: Path) -> Trial:
        resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, resource.getrlimit(resource.RLIMIT_DATA)[1]))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        path, whole = self._files[number % len(self._files)]
        other = rng.choice([content for file, content in self._files if file.suffix == path.suffix])
        kind, content = mutate(whole, other, rng)
        mutated = folder / f"mutated{path.suffix}"
        mutated.write_bytes(content)
        begin(f"{path.suffix}: {kind}")
        words = ("inspect", mutated, *(["--json"] if rng.random() < 0.3 else []))
        done = command(*words, cache=folder / "cache", cwd=folder, timeout_s=30)
        wrong, note = badly_said(done, names=mutated.name), ""
        if not wrong and number // len(self._files) % RUNTIME_EACH == 0:
            wrong, note = self._run(mutated, folder)
        return Trial(f"{path.suffix}: {kind}", f"inspect: {wrong}" if wrong and not note else wrong, note)

    def _run(self, mutated: Path, folder: Path) -> tuple[str, str]:
        """What is wrong with `bench`, and what the runtime did."""
        ends: list[int] = []

        def watched(request: RunRequest, *, quiet: bool = False) -> RunAnswer:
            try:
                return plain(request, quiet=quiet)
            except ToolFailed as error:
                ends.append(error.returncode)
                raise

        words = ("bench", mutated, "--inputs", self._samples, "--processes", 3, "--samples", 10, "--seconds", 0)
        plain, host.run = host.run, watched  # type: ignore[assignment]
        try:
            done = command(*words, cache=folder / "cache", cwd=folder, timeout_s=RUNTIME_S)
        except subprocess.TimeoutExpired:
            return "", f"outside: {mutated.suffix}: the runtime does not end"
        finally:
            host.run = plain
        died = next((signal.Signals(-code).name for code in ends if code < 0), "")
        note = f"outside: {mutated.suffix}: {died or ('refused' if ends else 'ran')}"
        wrong = badly_said(done, codes=(0, 2, 3), names=mutated.name)
        if not wrong and died and died not in done.stderr:
            wrong = f"{died} is not named: {done.stderr.strip()[:150]}"
        return (f"bench: {wrong}" if wrong else ""), note


def _build_shipped(base: Path) -> None:
    """Six targets of the shipped recipe, once, in another process: their toolchains are not for this one."""

    def do() -> int:
        gc.disable()
        os.environ["POCKETFORGE_BENCH_PROCESSES"] = "3"
        shop.import_toolchain("onnx", "tflite", "executorch")
        recipe = on_the_host(base / "digits")
        done = command("build", recipe, "--out", base / "out", cache=base / "cache", cwd=base, timeout_s=1500)
        print(done.stderr)
        return done.code

    ended = forked(do, base / "said")
    assert ended.code == 0, ended.said
    shutil.copytree(base / "out" / "release", base / "shipped")


def prepare(base: Path) -> Callable[[int, random.Random, Path], Trial]:
    if not (base / "shipped").exists():
        _build_shipped(base)
    files = [(p, p.read_bytes()) for p in sorted((base / "shipped").iterdir()) if p.suffix in SUFFIXES]
    assert {path.suffix for path, _ in files} == set(SUFFIXES)
    samples = base / "samples.npy"
    np.save(samples, np.random.default_rng(0).normal(size=(4, 1, 32, 32)).astype(np.float32))
    for path, _ in files:  # imports the parsers
        done = command("inspect", path, cache=base / "cache", cwd=base)
        assert done.code == 0, done.stderr
    return Files(files, samples)


STORM = Storm(
    "files",
    "the shipped files, mutated, through `inspect`, a quarter of them through their runtimes",
    1600,
    LIMIT_S,
    prepare,
)
