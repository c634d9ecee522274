"""Studies on a real, small, trained residual net: what is removed, measured, kept and drawn."""

from __future__ import annotations

import csv
import functools
import io
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pocketforge.accuracy.post import About
from pocketforge.errors import ModelError, RecipeError, ToolMissing
from pocketforge.outcomes.sensitivity import SensitivityOutcome
from pocketforge.recipe.compress import DropLayers, Finetune, PruneChannels
from pocketforge.recipe.output import output_of_task
from pocketforge.recipe.toml import load_recipe
from pocketforge.specs.sensitivity import SensitivitySpec
from pocketforge.studies.cells import Cells, Plain, key_of
from pocketforge.studies.pruning_study import Cell, Measured, PruningStudy, Removed, Row

torch = pytest.importorskip("torch")
pytest.importorskip("torch_pruning")

MODEL = """\
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return torch.relu(x + self.conv2(torch.relu(self.conv1(x))))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1, stride=2)
        self.blocks = nn.Sequential(Block(8), Block(8), Block(8))
        self.fc = nn.Linear(8 * 16, 10)

    def forward(self, x):
        return self.fc(self.blocks(torch.relu(self.stem(x))).flatten(1))


def build():
    return Net()
"""
RECIPE = """\
name = "tiny"

[model]
definition = "model.py"
weights = "weights.safetensors"

[data]
source = "digits"
eval_fraction = 0.6
eval_samples = 150
calibration_samples = 40

[[compress]]
type = "prune_channels"
ratio = 0.5
round_to = 2

[[compress]]
type = "finetune"
epochs = 2
lr = 0.002
batch_size = 128

[[target]]
name = "tiny_onnx"
runtime = "onnx"
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """A recipe with a trained model of 3 residual blocks."""
    from pocketforge.data.dataset import open_recipe
    from pocketforge.model.load import build_model
    from pocketforge.model.weights import save_weights
    from pocketforge.training.loop import fit

    folder = tmp_path_factory.mktemp("tiny")
    (folder / "model.py").write_text(MODEL)
    (folder / "recipe.toml").write_text(RECIPE)
    (folder / "weights.safetensors").write_bytes(b"")
    recipe = load_recipe(folder / "recipe.toml")
    module = build_model("model.py", {}, recipe.resolve)
    fit(module, open_recipe(recipe).train, Finetune(epochs=8, lr=0.01))
    save_weights(module, folder / "weights.safetensors")
    return folder / "recipe.toml"


@pytest.fixture(scope="module")
def bench(tiny):
    from pocketforge.studies.workbench import Workbench

    found = Workbench(load_recipe(tiny))
    assert found.accuracy(found.module) > 0.85
    return found


# Sensitivity


SETTINGS = PruneChannels(ratio="auto", importance="l2", round_to=2, max_ratio=0.9)


@functools.cache
def top1_standard():
    from pocketforge.training.judge import standard_for

    of = (output_of_task("classification"),)
    return standard_for(["output"], of, "classification", "accuracy_top1", About(), Path)


@pytest.fixture(scope="module")
def measured(bench) -> SensitivityOutcome:
    from pocketforge.pruning.sensitivity import measure
    from pocketforge.training.loop import deterministic

    with deterministic(0):
        return measure(bench.subject(0), SETTINGS, bench.eval, top1_standard(), (0.25, 0.5, 0.75))


def test_each_layer_is_measured_alone(bench, measured):
    from pocketforge.model.load import count_macs
    from pocketforge.pruning import channels
    from pocketforge.training.judge import mean_loss, top1
    from pocketforge.training.losses import task_loss

    rows = {row.name: row for row in measured.layers}
    # The blocks' outputs go with the stem's, through the additions: one row.
    assert len(rows) == 4 and {"blocks.0.conv1", "blocks.1.conv1", "blocks.2.conv1"} < set(rows)
    assert measured.samples == 150 and measured.ratios == (0.25, 0.5, 0.75)
    assert measured.baseline.metric == pytest.approx(bench.accuracy(bench.module))
    for name, row in rows.items():
        assert row.channels == 8
        assert measured.baseline.macs > row.macs[0] > row.macs[1] > row.macs[2]
        # What the channel pruner does with this ratio for this layer.
        subject = bench.subject(0)
        channels.prune(subject, PruneChannels(ratios={name: 0.5}, round_to=2))
        assert row.macs[1] == count_macs(subject.module, subject.example)
        assert row.metric[1] == pytest.approx(top1(subject.module, bench.eval), abs=0.01)
        assert row.loss[1] == pytest.approx(mean_loss(subject.module, bench.eval, task_loss("classification")), 0.01)
    shared = next(row for name, row in rows.items() if not name.endswith("conv1"))
    assert max(row.loss[2] for row in rows.values()) == shared.loss[2]  # it feeds every layer


def test_measuring_leaves_the_model_alone_and_gives_the_same_again(bench, measured):
    from pocketforge.pruning.sensitivity import measure
    from pocketforge.studies.workbench import digest_of
    from pocketforge.training.loop import deterministic

    subject = bench.subject(0)
    before = digest_of(subject.module, {})
    news = []
    subject.emit = lambda fraction, message: news.append((fraction, message))
    with deterministic(0):
        assert measure(subject, SETTINGS, bench.eval, top1_standard(), (0.25, 0.5, 0.75)) == measured
    assert digest_of(subject.module, {}) == before
    fractions = [fraction for fraction, _ in news]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0 and "blocks.0.conv1" in news[0][1] + news[3][1]


def test_a_ratio_that_cannot_be_is_null_and_what_cannot_be_measured_an_error(bench):
    from pocketforge.pruning.sensitivity import choose_ratios, measure

    subject = bench.subject(0)
    found = measure(subject, replace(SETTINGS, max_ratio=0.95), bench.eval[:1], top1_standard(), (0.25, 0.94))
    assert {row.metric[1] for row in found.layers} == {None}
    assert all(row.metric[0] is not None for row in found.layers)
    assert max(choose_ratios(found, 0.99).values()) == 0.25
    with pytest.raises(ModelError, match="needs samples"):
        measure(subject, SETTINGS, [], top1_standard())
    with pytest.raises(ModelError, match="at most max_ratio"):
        measure(subject, replace(SETTINGS, max_ratio=0.1), bench.eval, top1_standard())
    with pytest.raises(ModelError, match="no layer's channels can be pruned"):
        measure(subject, replace(SETTINGS, protect=("*",)), bench.eval, top1_standard())


def test_auto_prunes_by_the_chosen_ratios(bench, measured):
    from pocketforge.pruning import channels
    from pocketforge.pruning.sensitivity import choose_ratios

    chosen = choose_ratios(measured, 0.05)
    chosen["blocks.1.conv1"] = 0.75
    subject = bench.subject(0)
    subject.ratios = chosen
    channels.prune(subject, PruneChannels(ratio="auto", round_to=2))
    for name, ratio in chosen.items():
        assert subject.module.get_submodule(name).out_channels == int(8 * (1 - ratio)) // 2 * 2


def test_the_stage_reads_no_eval_sample(tiny, tmp_path, monkeypatch):
    from pocketforge.data.dataset import Dataset, open_recipe
    from pocketforge.stages import sensitivity
    from pocketforge.studies.workbench import model_spec

    def refuse(_self: Dataset) -> None:
        raise AssertionError("eval samples are for the result, not for choosing")

    monkeypatch.setattr(Dataset, "eval", property(refuse))
    recipe = load_recipe(tiny)
    base, protect = model_spec(recipe), ("stem", "blocks.0", "blocks.1")
    pruning = replace(SETTINGS, protect=protect)
    of = (output_of_task("classification"),)
    spec = SensitivitySpec(base.model, base.model_inputs, base.sampling, pruning, "accuracy_top1", of, ())
    inputs = {"data_root": tiny.parent, "weights": tiny.parent / "weights.safetensors"}
    contents = []
    for run in ("a", "b"):
        (tmp_path / run).mkdir()
        sensitivity.run(inputs, spec, tmp_path / run, lambda _fraction, _message: None)
        contents.append((tmp_path / run / "sensitivity.json").read_bytes())
    assert contents[0] == contents[1]
    found = json.loads(contents[0])
    assert found["version"] == 2 and [row["name"] for row in found["layers"]] == ["blocks.2.conv1"]
    data = open_recipe(recipe)
    assert found["samples"] == len(data.calibration) + len(data.train) < 1000


def test_the_studied_recipe_is_the_one_up_to_the_first_channel_pruning(tiny):
    from pocketforge.studies.sensitivity import sensitivity_recipe

    recipe = load_recipe(tiny)
    auto, *after = sensitivity_recipe(recipe).compress
    assert after == list(recipe.compress[1:]), "not run: whether anything trains decides if losses are measured"
    assert isinstance(auto, PruneChannels)
    assert (auto.type, auto.ratio, auto.round_to, auto.importance) == ("prune_channels", "auto", 2, "l2")
    drop, last = DropLayers(count=1), PruneChannels(ratio=0.9, round_to=4)
    several = replace(recipe, compress=(drop, Finetune(), *recipe.compress, last))
    assert sensitivity_recipe(several).compress == (drop, Finetune(), auto, *after, last)
    # Nothing prunes channels: the model as it is given, with the defaults.
    plain, trained = sensitivity_recipe(replace(recipe, compress=(drop, Finetune()))).compress
    assert trained == Finetune()
    assert isinstance(plain, PruneChannels)
    assert (plain.ratio, plain.round_to, plain.importance) == ("auto", 8, "l2")


def picture(path: Path) -> Any:
    import numpy as np
    from PIL import Image

    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def test_the_heat_map_shows_the_figures(measured, tmp_path):
    pytest.importorskip("matplotlib")
    from pocketforge.studies.plots import heat_map

    chosen = {row.name: 0.25 for row in measured.layers}
    first = picture(heat_map(measured, chosen, tmp_path / "a.png"))
    assert min(first.shape[:2]) > 200 and first.std() > 10
    assert heat_map(measured, chosen, tmp_path / "b.png").read_bytes() == (tmp_path / "a.png").read_bytes()
    first_layer, *others = measured.layers
    worse = replace(measured, layers=(replace(first_layer, metric=(0.1, *first_layer.metric[1:])), *others))
    assert (picture(heat_map(worse, chosen, tmp_path / "c.png")) != first).any()
    missing = replace(measured, layers=(replace(first_layer, metric=(None,) * 3), *others))
    assert picture(heat_map(missing, {}, tmp_path / "d.png")).std() > 10


def test_without_matplotlib_the_message_says_what_to_install(measured, tmp_path, monkeypatch):
    import sys

    from pocketforge.studies.plots import heat_map

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ToolMissing) as caught:
        heat_map(measured, {}, tmp_path / "a.png")
    assert caught.value.hint.startswith("pip install 'accelerate")


# Methods


@pytest.mark.parametrize(("method", "ratio"), [("channels", 0.4), ("layers", 0.4), ("both", 0.5)])
@pytest.mark.parametrize("basis", ["parameters", "macs"])
def test_each_method_removes_the_share(bench, method, basis, ratio):
    from pocketforge.studies.methods import amount, cut

    subject = bench.subject(0)
    whole = amount(subject, basis)
    cut(subject, method, basis, ratio, bench.recipe.compress)
    removed = 1 - amount(subject, basis) / whole
    assert ratio <= removed < ratio + 0.35  # a block is a third of this net
    left = str(subject.module).count("Block(")
    assert (left < 3) == (method != "channels")
    assert subject.module(*bench.example).shape == (1, 10)


def test_unstructured_zeros_leave_the_shapes(bench):
    from pocketforge.studies.methods import amount, cut

    subject = bench.subject(0)
    before = amount(subject, "macs"), amount(subject, "parameters")
    done = cut(subject, "unstructured", "parameters", 0.6, ())
    assert (amount(subject, "macs"), amount(subject, "parameters")) == before
    weights = [mask.numel() for mask in done.masks.values()]
    zeros = sum(int((mask == 0).sum()) for mask in done.masks.values())
    assert zeros == pytest.approx(0.6 * sum(weights), abs=2) and "zeros" in done.note


def test_both_says_so_when_the_layers_alone_are_enough(bench):
    from pocketforge.studies.methods import cut

    # Half of 0.2 takes one block, which is more than 0.2 of this net's MACs.
    done = cut(bench.subject(0), "both", "macs", 0.2, bench.recipe.compress)
    assert "layers alone" in done.note


def test_the_recipes_own_entries_are_the_methods_settings():
    from pocketforge.studies.methods import draws_at_random, settings_for

    own = (PruneChannels(ratio=0.5, importance="random", round_to=4, steps=2, finetune=Finetune(), protect=("a",)),)
    (fields,) = settings_for("channels", own).values()
    assert (fields["importance"], fields["round_to"], fields["protect"]) == ("random", 4, ("a",))
    assert (fields["steps"], fields["finetune"], fields["ratio"]) == (1, None, None)
    assert draws_at_random("channels", own) and not draws_at_random("layers", own)
    assert settings_for("channels", ()) != settings_for("channels", own)


def test_the_budget_of_epochs_is_the_recipes_or_the_users(tiny):
    from pocketforge.studies.pruning import finetune_budget

    recipe = load_recipe(tiny)
    assert finetune_budget(recipe, None) == recipe.compress[-1]
    assert finetune_budget(recipe, 7).epochs == 7
    bare = replace(recipe, compress=())
    assert finetune_budget(bare, None) == Finetune()
    warm = replace(recipe, compress=(Finetune(epochs=4, warmup_epochs=2.0, processes=2),))
    assert finetune_budget(warm, 3).processes == 1
    with pytest.raises(RecipeError, match=r"--epochs 1 does not fit .* warmup_epochs"):
        finetune_budget(warm, 1)


# The comparison


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def compared(tiny, tmp_path_factory) -> tuple[PruningStudy, Path, list[str], list[str]]:
    """A whole study that is killed once inside a training and goes on. (study, cells, lines before, lines after)."""
    pytest.importorskip("onnxruntime")
    from pocketforge.studies.pruning import run_study
    from pocketforge.studies.settings import Settings

    recipe = load_recipe(tiny)
    settings = Settings(
        ratios=(0.3, 0.99), seeds=2, methods=("channels", "layers", "unstructured"), by=("parameters",),
        runtimes=("onnx",), finetune=Finetune(epochs=1, batch_size=128, lr=0.002), rounds=2,
    )  # fmt: skip
    folder, cache = tmp_path_factory.mktemp("cells"), tmp_path_factory.mktemp("cache")
    before: list[str] = []
    after: list[str] = []

    def killer(fraction: float, words: str) -> None:
        if len(before) == 3 and "epoch" in words and fraction > 0.5:
            raise Killed

    with pytest.raises(Killed):
        run_study(recipe, settings, cache, Cells(folder), tell=before.append, watch=killer)
    kept = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.json")}
    study = run_study(recipe, settings, cache, Cells(folder), tell=after.append, watch=lambda _f, _w: None)
    assert kept and all((folder / name).stat().st_mtime_ns == when for name, when in kept.items())
    return study, folder, before, after


def row_of(study: PruningStudy, method: str, ratio: float) -> Row:
    return next(row for row in study.rows if (row.method, row.ratio) == (method, ratio))


def measured_in(study: PruningStudy, method: str, ratio: float) -> Measured:
    measured = row_of(study, method, ratio).measured
    assert measured is not None
    return measured


def test_a_study_that_was_killed_makes_only_what_is_missing(compared):
    _, _, before, after = compared
    assert len(before) == 3 and not any("(kept" in line for line in before)
    cells = [line for line in after if line.startswith("[")]
    assert ["(kept" in line for line in cells] == [True] * 3 + [False] * 11
    assert "gone, about" in before[0] and cells[-1].startswith("[14/14]") and "left" not in cells[-1]


def test_cells_hold_what_was_really_removed(compared):
    study, _, _, _ = compared
    whole = study.baseline
    assert len(study.cells) == 14  # the unpruned control, and three methods at two shares: two seeds each
    channels, layers, zeros = (measured_in(study, m, 0.3) for m in ("channels", "layers", "unstructured"))
    for measured in (channels, layers):
        assert 0.3 <= measured.removed.parameters < 0.6
        assert measured.parameters == pytest.approx(whole.parameters * (1 - measured.removed.parameters))
        assert measured.macs < whole.macs
    assert (zeros.parameters, zeros.macs) == (whole.parameters, whole.macs)
    assert zeros.removed == Removed(1 - (whole.parameters - zeros.zeros) / whole.parameters, 0.0)
    assert zeros.removed.parameters == pytest.approx(0.3, abs=0.03)
    for method, measured in (("channels", channels), ("layers", layers), ("unstructured", zeros)):
        row = row_of(study, method, 0.3)
        assert row.error == "" and row.seeds == measured.accuracy_after.count == 2
        after = measured.accuracy_after
        assert after.low is not None and after.high is not None and after.low <= after.mean <= after.high
        # Which weights go is the same for all seeds; the training after it is not.
        assert measured.accuracy_before.low == measured.accuracy_before.high
    # By how much training helps hangs on the processor that it runs on: of two seeds, at least one is as good.
    assert (channels.accuracy_after.high or 0) >= channels.accuracy_before.mean
    assert measured_in(study, "none", 0.0).accuracy_before.mean == whole.accuracy > 0.85


def test_a_share_that_cannot_be_reached_is_a_row_with_its_error(compared):
    study, _, _, _ = compared
    for method, says in (("channels", "cannot be met"), ("layers", ""), ("unstructured", "would zero all")):
        row = row_of(study, method, 0.99)
        assert row.seeds == 0 and row.error and says in row.error and row.measured is None
        assert "accuracy_after" not in row.to_json()


def test_sizes_and_times_are_those_of_real_files(compared):
    study, folder, _, _ = compared
    asks = (("none", 0.0), ("channels", 0.3), ("unstructured", 0.3))
    none, channels, zeros = (measured_in(study, *ask).files["onnx"] for ask in asks)
    sizes = [file.size_bytes or 0 for file in (none, channels, zeros)]
    assert 0 < sizes[1] < sizes[0] == pytest.approx(sizes[2], rel=0.01)
    assert 0 < (zeros.gzip_bytes or 0) < (none.gzip_bytes or 0)
    for ask in asks[1:]:
        latency = row_of(study, *ask).latency["onnx"]
        assert 0 < latency.low <= latency.ratio <= (latency.high or 0)
        assert latency.ms > 0 and latency.unpruned_ms > 0
    structure = measured_in(study, "channels", 0.3).structure
    (sitting,) = [s for s in study.sittings if structure in s.structures]
    assert sitting.structures[0] == study.baseline.structure
    assert len(sitting.rounds_ms) == len(sitting.structures) and len(sitting.rounds_ms[0]) == 2
    assert list((folder / "files" / structure / "onnx").glob("*.onnx"))


def test_verdicts_are_computed_from_the_studys_own_figures(compared):
    from pocketforge.studies import verdicts

    study, _, _, _ = compared
    (verdict,) = study.verdicts
    assert (verdict.basis, verdict.runtime) == ("parameters", "onnx")
    channels, layers = measured_in(study, "channels", 0.3), measured_in(study, "layers", 0.3)
    comparable = abs(channels.removed.parameters - layers.removed.parameters) <= verdicts.NEAR
    assert len(verdict.pairs) == comparable

    # The same study with layers that learnt nothing must turn the accuracy's verdict.
    def as_asked(row: Row) -> Row:
        if row.measured is None:
            return row
        removed = replace(row.measured.removed, parameters=row.ratio)
        return replace(row, measured=replace(row.measured, removed=removed))

    def as_if(cell: Cell) -> Cell:
        accuracy = {"layers": 0.05 + 0.001 * cell.ask.seed, "channels": 0.9}.get(cell.ask.method)
        if accuracy is None or cell.trained is None:
            return cell
        return replace(cell, trained=replace(cell.trained, accuracy_after=accuracy))

    rows, cells = [as_asked(row) for row in study.rows], [as_if(cell) for cell in study.cells]
    (changed,) = verdicts.judge(cells, rows, study.sittings, ("onnx",))
    assert changed.accuracy.verdict == "agrees"
    assert changed.latency.layers_over_channels and changed.latency.layers_over_channels.mean > 0


def test_tables_csv_and_plots_show_every_row(compared, tmp_path):
    pytest.importorskip("matplotlib")
    from pocketforge.studies import tables
    from pocketforge.studies.plots import accuracy_by_latency, accuracy_by_share

    study, _, _, _ = compared
    lines = list(csv.DictReader(io.StringIO(tables.to_csv(study))))
    assert len(lines) == len(study.cells)
    line = next(x for x in lines if (x["method"], x["ratio"], x["seed"]) == ("channels", "0.3", "1"))
    cell = next(c for c in study.cells if (c.ask.method, c.ask.ratio, c.ask.seed) == ("channels", 0.3, 1))
    assert float(line["accuracy_after"]) == cell.trained.accuracy_after
    assert float(line["onnx_ratio"]) == row_of(study, "channels", 0.3).latency["onnx"].ratio
    assert [x["error"] != "" for x in lines] == [c.error != "" for c in study.cells]
    costs = tables.cost_table(study)
    assert costs is not None
    shown = [tables.accuracy_table(study), costs, tables.verdict_table(study)]
    assert [len(t.rows) for t in shown] == [len(study.rows)] * 2 + [1]
    assert all(len(row) == len(t.columns) for t in shown for row in t.rows)
    assert any("zeros" in words for words in tables.faults(study))
    assert any("channels 0.99" in words for words in tables.faults(study))
    json.dumps(study.to_json(), allow_nan=False)
    for path in (
        accuracy_by_share(study, "parameters", tmp_path / "a.png"),
        accuracy_by_latency(study, "onnx", tmp_path / "b.png"),
    ):
        assert picture(path).std() > 5


def test_equal_pruned_models_are_trained_once_and_another_budget_again(compared, tiny, tmp_path):
    from pocketforge.studies.pruning import run_study
    from pocketforge.studies.settings import Settings

    study, folder, _, _ = compared
    counts = len(list(folder.glob("*.json")))
    settings = Settings(
        (0.29,), 2, ("layers",), ("parameters",), ("onnx",), Finetune(epochs=1, batch_size=128, lr=0.002), 2
    )
    trainings = []

    def watch(_fraction: float, words: str) -> None:
        if "epoch" in words:
            trainings.append(words)

    again = run_study(load_recipe(tiny), settings, tmp_path, Cells(folder), tell=lambda _w: None, watch=watch)
    assert trainings == []  # the same block goes for 0.29 as for 0.3
    assert measured_in(again, "layers", 0.29).accuracy_after == measured_in(study, "layers", 0.3).accuracy_after
    # Two new cells, and a sitting without the others.
    assert len(list(folder.glob("*.json"))) == counts + 3
    fewer = replace(settings, seeds=1, runtimes=(), finetune=replace(settings.finetune, lr=0.001), methods=("layers",))
    run_study(load_recipe(tiny), fewer, tmp_path, Cells(folder), tell=lambda _w: None, watch=watch)
    assert trainings


def test_a_regression_is_refused(tiny, tmp_path):
    from pocketforge.studies.pruning import run_study
    from pocketforge.studies.settings import Settings

    recipe = replace(load_recipe(tiny), task="regression", compress=())
    settings = Settings((0.3,), 1, ("layers",), ("macs",), (), Finetune(), 2)
    with pytest.raises(RecipeError, match='needs task "classification"'):
        run_study(recipe, settings, tmp_path, Cells(tmp_path / "c"), tell=print, watch=lambda _f, _w: None)


@dataclass(frozen=True)
class Result(Plain):
    x: int


def test_damaged_cells_are_made_again(tmp_path):
    cells = Cells(tmp_path / "cells")
    key = key_of({"a": (1, 2)})
    assert key == key_of({"a": [1, 2]}) != key_of({"a": [2, 1]})
    assert cells.once(key, Result, lambda: Result(1)) == (Result(1), False)
    assert cells.once(key, Result, lambda: Result(2)) == (Result(1), True)
    for number, text in enumerate(('{"x": ', '{"x": "1"}', '{"y": 1}', "[1]"), 3):
        (tmp_path / "cells" / f"{key}.json").write_text(text)
        assert cells.once(key, Result, functools.partial(Result, number)) == (Result(number), False)
    assert [p.name for p in (tmp_path / "cells").iterdir()] == [f"{key}.json"]
