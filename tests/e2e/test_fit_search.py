"""`pocketforge fit` on the shipped digits MLP: real builds, and a recipe that builds to the same bytes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from conftest import ROOT, in_process

from pocketforge.recipe.toml import load_recipe

# 206,600 bytes as the recipe is; half of the hidden layer's channels make it about half.
FIT = """
[[budget]]
metric = "size_bytes"
limit = 120_000

[fit]
batch = 2
[fit.space]
epochs = [1]
[[fit.space.prune]]
layers = ["fc1"]
ratios = [0.0, 0.5]
"""


def test_a_search_finds_a_recipe_that_builds_to_what_it_measured(tmp_path: Path) -> None:
    folder = tmp_path / "mlp"
    shutil.copytree(ROOT / "models" / "mlp_digits", folder)
    text = (folder / "recipe.toml").read_text(encoding="utf-8")
    first, rest = text.index("[[compress]]"), text.index('[[target]]\nname = "mlp_digits_tflite_int8"')
    target = text[text.index("[[target]]") : rest]
    (folder / "small.toml").write_text(text[:first] + target + FIT, encoding="utf-8")
    asked = ("fit", folder / "small.toml", "--trials", "3", "--out", tmp_path / "out", "--progress", "plain")
    done = in_process(*asked, cache=tmp_path / "cache", cwd=tmp_path)
    assert done.code == 0, done.stderr
    found = json.loads((tmp_path / "out" / "fit.json").read_text(encoding="utf-8"))
    trials = found["trials"]
    assert found["ended"] == "all 3 trials are made" and [trial["number"] for trial in trials] == [0, 1, 2]
    assert trials[0]["label"] and trials[0]["violations"]["size_bytes ≤ 120,000"] > 0.5
    by_ratio = {trial["choice"]["ratio fc1"]: trial for trial in trials[1:]}
    # What training cannot mend was not trained.
    assert (by_ratio[0.0]["state"], by_ratio[0.0]["rung"]) == ("stopped", "untrained")
    best = by_ratio[0.5]
    assert best["state"] == "full" and found["front"] == [best["number"]] == [found["recommended"]]
    assert "Against the recipe as it is" in done.stdout and "fit.html" in done.stdout

    recommended = folder / "small.fit.toml"
    assert load_recipe(recommended).fit is None
    again = in_process("build", recommended, "--out", tmp_path / "built", cache=tmp_path / "cache", cwd=tmp_path)
    assert again.code == 0, again.stderr
    files = [
        json.loads((each / "report.json").read_text(encoding="utf-8"))
        for each in (tmp_path / "built", tmp_path / "out/best")
    ]
    built, searched = ({m["artifact_sha256"] for m in report["measurements"]} for report in files)
    assert built == searched
    (size,) = (m["value"] for m in files[0]["measurements"] if m["metric"] == "size_bytes")
    assert size == best["values"]["size_bytes"] <= 120_000

    # The same command has nothing left to do, and says the same.
    once_more = in_process(*asked, cache=tmp_path / "cache", cwd=tmp_path)
    assert once_more.code == 0 and "start " not in once_more.stderr
    assert json.loads((tmp_path / "out" / "fit.json").read_text(encoding="utf-8"))["trials"] == trials
