"""A net's folder, and its build by the command line in this process."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import warm_server

from zoo.entries import Net
from zoo.lanes import Built, read
from zoo.recipes import recipe

MOST_SECONDS = 3000  # of wall: a build that takes longer hangs


@dataclass(frozen=True, slots=True)
class Place:
    """Where a net is trained and built.

    Attributes:
        net: It.
        work: The zoo's folder.
    """

    net: Net
    work: Path

    @property
    def folder(self) -> Path:
        return self.work / self.net.name

    @property
    def weights(self) -> Path:
        """Beside the others', so that they outlive what is built."""
        return self.work / "weights" / f"{self.net.name}.safetensors"

    @property
    def recipe(self) -> Path:
        return self.folder / "recipe.toml"

    def write(self, lanes: Iterable[tuple[str, str]], *, count: bool = False) -> None:
        """The recipe of these lanes."""
        self.weights.parent.mkdir(parents=True, exist_ok=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.recipe.write_text(recipe(self.net, self.weights, lanes, count=count), "utf-8")

    def build(self, lanes: tuple[tuple[str, str], ...]) -> Built:
        """What `pocketforge build` makes of the recipe."""
        out, cache = self.folder / "out", self.folder / "cache"
        shutil.rmtree(out, ignore_errors=True)
        words = ("build", self.recipe, "--out", out, "--progress", "none", "--jobs", "1")
        ended = warm_server.in_process(*words, cache=cache, cwd=self.folder, timeout=MOST_SECONDS)
        (self.folder / "stderr.txt").write_text(ended.stderr, "utf-8")
        return read(self.net, lanes, ended, out, cache)
