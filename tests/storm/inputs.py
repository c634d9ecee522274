"""Hostile weights, arrays, images and labels through `check`: refused by name, or read. No code runs."""

from __future__ import annotations

import io
import os
import random
import re
import resource
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from storm import hostile, hostile_arrays, hostile_images, hostile_weights, shop
from storm.commands import badly_said, command
from storm.harness import Storm, Trial, begin
from storm.hostile import Hostile
from storm.shop import Shop, content

LIMIT_S = 60
# Of what our processes write to; what hostile files declare is not there.
MOST_BYTES = 6 * 2**30
IMAGES_RECIPE = """\
name = "images"

[model]
definition = "images.py"

[data]
source = "imagefolder:photos"
calibration_samples = 17

[data.preprocess]
resize = [8, 8]
color = "rgb"

[[target]]
name = "images_onnx"
runtime = "onnx"
"""
IMAGES_MODEL = """\
from torch import nn

def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
"""
CLASSES = ("ant", "bee", "cow", "dog")
# What says without a name which file is meant.
KEYS = {
    "weights": "model.weights:",
    "arrays": "data(.source)?: |traced with input",
    "images": "data.source:",
    "labels": "data[.]",
}
# Names of good images that are hard to print or to store.
NAMES = (
    b"\xff\xfe",
    b"a\x1b[31mb",
    b"a\nb",
    "é".encode("latin-1"),
    b"x" * 230,
    "\u202eabc".encode(),
    b"-rf",
    b" ",
    b"a\tb",
)


class Inputs:
    def __init__(self, base: Path) -> None:
        import torch

        self._base = base
        self._plain = shop.reference(base)[0]
        self._safetensors = content("weights.safetensors", 0)
        from safetensors.torch import load

        self._state: dict[str, Any] = load(self._safetensors)
        written = io.BytesIO()
        torch.save(self._state, written)
        self._pt = written.getvalue()
        self._npz = content("samples.npz", 0)
        loaded = np.load(io.BytesIO(self._npz))
        self._x, self._y = loaded["x"], loaded["y"]

    def __call__(self, number: int, rng: random.Random, folder: Path) -> Trial:
        resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, resource.getrlimit(resource.RLIMIT_DATA)[1]))
        marker = folder / "marker"
        what = rng.choices(("weights", "arrays", "images", "labels"), (45, 25, 22, 8))[0]
        work = folder / "work"
        if what == "images":
            made, name = self._images(work, rng)
        else:
            made, name = self._file(what, work, marker, rng)
        begin(made.kind)
        try:
            done = command("check", "recipe.toml", cache=self._base / "cache", cwd=work, timeout_s=LIMIT_S / 2)
        except subprocess.TimeoutExpired:
            return Trial(made.kind, f"hang: more than {LIMIT_S / 2:.0f} s")
        out_of_memory = done.code == 3 and "memory" in done.stderr
        wrong = "" if out_of_memory else badly_said(done, names=name)
        if "the file is not named" in wrong and re.search(KEYS[what], done.stderr):
            wrong = ""  # the recipe names it under this key
        # What is in the train split is not decoded before it is trained with.
        unread = re.search("[1-9][0-9]* train", done.stdout)
        if not wrong and made.refused and done.code == 0 and not unread:
            wrong = "accepted"
        if marker.exists() or Path("/nonexistent/of-a-storm").exists():
            wrong = "code of a pickle ran"
        return Trial(made.kind, wrong, (done.stdout + done.stderr)[-500:] if wrong else "")

    def _file(self, what: str, work: Path, marker: Path, rng: random.Random) -> tuple[Hostile, str]:
        """The small build with one hostile file; and that one's name."""
        Shop(work, work / "cache").fill()
        if what == "weights":
            made, suffix = self._weights(marker, rng)
            first, name = "weights.safetensors", f"hostile{suffix}"
        elif what == "arrays":
            made = (
                hostile_arrays.arrays_odd(self._x, self._y, marker, rng)
                if rng.random() < 0.6
                else self._any(self._npz, what, rng)
            )
            first, name = "samples.npz", "hostile.npz"
        else:
            made, first, name = hostile_arrays.labels(rng), "labels.txt", "hostile.txt"
        (work / first).unlink()
        made.place(work / name)
        recipe = work / "recipe.toml"
        recipe.write_text(recipe.read_text(encoding="utf-8").replace(first, name), encoding="utf-8")
        return made, name

    def _weights(self, marker: Path, rng: random.Random) -> tuple[Hostile, str]:
        draw = rng.random()
        torch_suffix = rng.choice((".pt", ".pth", ".bin", ".ckpt"))
        if draw < 0.25:
            return hostile_weights.weights_header(self._safetensors, rng), ".safetensors"
        if draw < 0.45:
            return hostile_weights.weights_pickled(marker, rng), torch_suffix
        if draw < 0.65:
            return hostile_weights.weights_odd(self._state, rng), torch_suffix
        if draw < 0.8:
            return self._any(self._pt, "weights (torch)", rng), torch_suffix
        return self._any(self._safetensors, "weights", rng), ".safetensors"

    @staticmethod
    def _any(whole: bytes, what: str, rng: random.Random) -> Hostile:
        made = hostile.of_any_kind(whole, rng)
        return Hostile(f"{what}: {made.kind}", made.content, made.make, made.refused)

    @staticmethod
    def _images(work: Path, rng: random.Random) -> tuple[Hostile, str]:
        """A folder of small images, one of them hostile, or with a hostile name."""
        work.mkdir(parents=True)
        (work / "recipe.toml").write_text(IMAGES_RECIPE, encoding="utf-8")
        (work / "images.py").write_text(IMAGES_MODEL, encoding="utf-8")
        for place, name in enumerate(CLASSES):
            (work / "photos" / name).mkdir(parents=True)
            for number in range(6):
                image = np.full((8, 8, 3), 40 * place + number, np.uint8)
                (work / "photos" / name / f"{number}.ppm").write_bytes(b"P6\n8 8\n255\n" + image.tobytes())
        target = work / "photos" / rng.choice(CLASSES)
        if rng.random() < 0.2:
            raw = rng.choice(NAMES)
            if rng.random() < 0.3:
                renamed = os.path.join(os.fsencode(target.parent), raw[:200])
                os.rename(target, renamed)
                return Hostile("images: a folder's name", refused=False), ""
            shutil.copy(os.fsencode(target / "0.ppm"), os.path.join(os.fsencode(target), raw + b".ppm"))
            return Hostile("images: a file's name", refused=False), ""
        suffix, made = hostile_images.images(rng)
        made.place(target / f"hostile{suffix}")
        # What is no file is passed over by every reader of folders.
        return Hostile(made.kind, made.content, made.make, made.refused and made.make is None), f"hostile{suffix}"


def prepare(base: Path) -> Callable[[int, random.Random, Path], Trial]:
    shop.import_toolchain()
    return Inputs(base)


STORM = Storm("inputs", "hostile weights, arrays, images and labels, through `check`", 1500, LIMIT_S, prepare)
