"""Shipped recipes, mutated, through `plan`: no traceback, no hang, and nothing accepted that cannot be meant."""

from __future__ import annotations

import os
import random
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path

from release_build import ROOT

from storm.commands import badly_said, command
from storm.harness import Storm, Trial, begin
from storm.recipe_mutations import mutate
from storm.recipe_nonsense import nonsense

LIMIT_S = 20


def prepare(base: Path) -> Callable[[int, random.Random, Path], Trial]:
    models = base / "models"
    if not models.exists():
        shutil.copytree(ROOT / "models", models, ignore=shutil.ignore_patterns("__pycache__"))
        for folder in models.iterdir():  # what some mutations name
            os.mkfifo(folder / "fifo")
            (folder / "loop").symlink_to("loop")
        shutil.copy(Path(__file__).with_name("everything.toml"), models / "digits_cnn")
    found = [path for path in sorted(models.glob("*/*.toml")) if path.name != "storm.toml"]
    # Those whose data does not ship would hide behind it what else is wrong. The others' hashes are remembered now.
    whole = [path for path in found if command("plan", path, cache=base / "cache", cwd=base).code == 0]
    recipes = [(path, path.read_bytes()) for path in whole]
    parsed = {path: tomllib.loads(text.decode()) for path, text in recipes}
    assert any(path.name == "everything.toml" for path in whole)

    def trial(number: int, rng: random.Random, folder: Path) -> Trial:
        path, text = rng.choice(recipes)
        kind, mutated = mutate(text, parsed[path], rng)
        recipe = path.with_name("storm.toml")
        recipe.write_bytes(mutated)
        shown = mutated[:400].decode("utf-8", "backslashreplace")
        begin(kind, shown)
        done = command("plan", recipe, *(["--json"] if number % 2 else []), cache=base / "cache", cwd=folder)
        wrong = badly_said(done, codes=(0, 2))
        if not wrong and done.code == 0:
            found = nonsense(tomllib.loads(recipe.read_text(encoding="utf-8-sig")))  # as Notepad writes it
            wrong = f"accepted: {found[0]}" if found else ""
        return Trial(kind, wrong, shown if wrong else "")

    return trial


STORM = Storm("recipes", "recipes mutated by grammar and by bytes, through `plan`", 12_000, LIMIT_S, prepare)
