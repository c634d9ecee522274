"""Metrics of each slice of the eval samples: written by the data stage, counted, gated, reported."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketforge.accuracy.judging import judge_of
from pocketforge.accuracy.post import About
from pocketforge.accuracy.score import Judge, held_against, score
from pocketforge.data.slices import SliceCodes, stored_slices, write_slices
from pocketforge.data.targets_on_disk import HeldTargets
from pocketforge.errors import ModelError, RecipeError
from pocketforge.outcomes import files
from pocketforge.outcomes.accuracy import OutputScore
from pocketforge.outcomes.data import Sampled
from pocketforge.outcomes.verify import Measured, OutputFigures
from pocketforge.recipe import Data, Recipe
from pocketforge.recipe.columns import Columns
from pocketforge.recipe.output import Output
from pocketforge.recipe.toml import parse_recipe
from pocketforge.records import GateResult, HowCompared, Measurement, TargetFacts, TargetRecord
from pocketforge.report.budget_words import budget_name
from pocketforge.report.slices import slice_rows
from pocketforge.results.gate import judge as gate
from pocketforge.results.scores import OutputValue, values_of, without_value
from pocketforge.specs.data import data_spec
from pocketforge.stages.data import run

CODES = SliceCodes("device", ("", "old", "pixel"), np.asarray([2, 2, 2, 1, 1, 0]))
LABELS = np.asarray([0, 1, 1, 1, 0, 1])
# Right everywhere, and by a file that errs on one of three pixels, one of two old ones and on none without a device.
RIGHT, FILE = np.eye(2)[LABELS], np.eye(2)[[0, 1, 0, 1, 1, 1]]

RECIPE = """
name = "sliced"
[model]
definition = "m.py"
[data]
source = "csv:t.csv"
columns = {{ features = ["a"], target = {{ label = "label" }}, slices = ["device", "light"] }}
[[target]]
name = "t"
runtime = "onnx"
[[budget]]
{budget}
"""


def judged(output: Output, *slices: SliceCodes, folder: Path = Path(), **targets: Any) -> Judge:
    held = HeldTargets(targets, len(CODES.codes))
    made = judge_of((output,), held, About(labels=("cat", "dog")), lambda path: folder / path)
    return dataclasses.replace(made, slices=slices or (CODES,))


def held(by: Judge, model: Any = RIGHT, file: Any = FILE) -> OutputScore:
    (before,), (after,) = score(by, {"y": model}, "the model"), score(by, {"y": file}, "the file")
    return held_against(before, after, by)


def measured(scored: OutputScore) -> Measured:
    return Measured((OutputFigures("y", "float32", {}),), samples=6, scores=(scored,))


def recipe(budget: str) -> Recipe:
    return parse_recipe(RECIPE.format(budget=budget), "r.toml")


def verdict(budget: str, values: list[OutputValue]) -> GateResult:
    taken = [
        Measurement(v.metric, v.value, "", "t", "0" * 64, "host", how=HowCompared(v.samples or 6, "ORT", worst=v.worst))
        for v in values
    ]
    (result,) = gate(recipe(budget), taken)
    return result


def test_each_value_of_a_slice_is_counted_by_itself() -> None:
    scored = held(judged(Output("logits", "y", metrics=("accuracy_top1", "macro_f1")), label=LABELS))
    assert [(each.value, each.samples, each.metrics["accuracy_top1"]) for each in scored.slices] == [
        ("", 1, 1.0), ("old", 2, 0.5), ("pixel", 3, 2 / 3)
    ]  # fmt: skip
    assert [each.drops["accuracy_top1"] for each in scored.slices] == [0.0, 0.5, 1 / 3]
    assert scored.metrics["accuracy_top1"] == 4 / 6
    # Of pixel: class 0 has 1 of 1 and a wrong answer, class 1 has 1 of 2.
    assert scored.slices[2].metrics["macro_f1"] == pytest.approx((2 / 3 + 2 / 3) / 2)


def test_samples_are_told_apart_in_every_batch() -> None:
    """More samples than a batch has, whose slice goes by their number."""
    labels = np.arange(150) % 2
    codes = np.arange(150) % 3
    answers = np.eye(2)[np.where(codes == 1, 1 - labels, labels)]
    by = judge_of((Output("logits", "y"),), HeldTargets({"label": labels}, 150), About(), Path)
    by = dataclasses.replace(by, slices=(SliceCodes("third", ("a", "b", "c"), codes),))
    (found,) = score(by, {"y": answers}, "the file")
    assert [(p.value, p.samples, float(p.figures.values["accuracy_top1"])) for p in found.parts] == [
        ("a", 50, 1.0), ("b", 50, 0.0), ("c", 50, 1.0)
    ]  # fmt: skip


def test_a_users_metric_is_taken_of_each_value(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text(
        "class Right:\n"
        "    def __init__(self):\n        self.hits = 0\n"
        "    def update(self, outputs, targets):\n"
        "        self.hits += int((outputs['y'].argmax(1) == targets['label']).sum())\n"
        "    def compute(self):\n        return self.hits\n"
    )
    output = Output("logits", "y", metrics=("m.py:Right:higher",))
    scored = held(judged(output, folder=tmp_path, label=LABELS))
    assert [each.metrics["Right"] for each in scored.slices] == [1, 1, 2] and scored.metrics["Right"] == 4


def test_what_a_value_cannot_give_is_said_and_keeps_no_budget() -> None:
    """One sample without a device: no class has samples that are of it and samples that are not."""
    scored = held(judged(Output("logits", "y", metrics=("auroc", "accuracy_top1")), label=LABELS))
    assert "auroc" not in scored.slices[0].metrics and "auroc" in scored.slices[1].metrics
    of = measured(scored)
    assert list(without_value(of)) == [
        "auroc of y has no value for device '': no class has samples that are of it and samples that are not"
    ]
    found = verdict('metric = "accuracy_top1"\nlimit = 0.5\nslice = "device"', list(values_of(of)))
    assert found.verdict == "PASS"
    assert not [each for each in values_of(of) if each.metric == "auroc by slice device"]


def test_a_drop_from_nothing_keeps_no_budget() -> None:
    model = np.eye(2)[[0, 1, 1, 0, 1, 1]]  # wrong on both old ones
    of = measured(held(judged(Output("logits", "y"), label=LABELS), model=model))
    assert "accuracy_top1 of y for device 'old' is 0 in PyTorch: a drop from it says nothing" in list(without_value(of))
    found = verdict('metric = "accuracy_drop"\nlimit = 0.9\nslice = "device"', list(values_of(of)))
    assert (found.verdict, found.reason) == (
        "MISSING", "not measured, or a value of device gives none: see the warnings"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("budget", "verdict_", "reason"),
    [
        ('metric = "accuracy_top1"\nlimit = 0.5\nslice = "device"', "PASS", ""),
        ('metric = "metric"\nlimit = 0.5\nslice = "device"', "PASS", ""),
        ('metric = "accuracy_top1"\nlimit = 0.6\nslice = "device"', "FAIL",
         "0.1 under the minimum: device 'old' (of 2 samples)"),
        ('metric = "accuracy_drop"\nlimit = 0.4\nslice = "device"', "FAIL",
         "0.1 over the maximum: device 'old' (of 2 samples)"),
        ('metric = "accuracy_top1"\nlimit = 0.6\nper = "class"', "FAIL", "0.1 under the minimum: class 'cat'"),
        ('metric = "accuracy_top1"\nlimit = 0.6', "PASS", ""),  # the whole is none of its parts
        ('metric = "accuracy_top1"\nlimit = 0.5\nslice = "light"', "MISSING",
         "not measured, or a value of light gives none: see the warnings"),
    ],
)  # fmt: skip
def test_a_budget_is_on_the_worst(budget: str, verdict_: str, reason: str) -> None:
    values = list(values_of(measured(held(judged(Output("logits", "y"), label=LABELS)))))
    found = verdict(budget, values)
    assert (found.verdict, found.reason) == (verdict_, reason)


def test_reports_name_the_worst() -> None:
    scored = held(judged(Output("logits", "y"), label=LABELS))
    facts = TargetFacts(files={"model": measured(scored)})
    assert slice_rows([TargetRecord("t", "onnx", "static_int8", "built", facts=facts)]) == [
        ("t", "accuracy_top1", "device (none given)", "1", "1.0000", "+0.0000", ""),
        ("t", "accuracy_top1", "device old", "2", "0.5000", "+0.5000", "worst"),
        ("t", "accuracy_top1", "device pixel", "3", "0.6667", "+0.3333", ""),
    ]
    found = verdict('metric = "accuracy_top1"\nlimit = 0.5\nslice = "device"', list(values_of(measured(scored))))
    assert budget_name(found) == "accuracy_top1 by slice device (worst: old)"


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ('slice = "devise"', "no slice is named 'devise'; did you mean 'device'"),
        ('slice = "device"\nper = "class"', "one budget for each"),
        ('per = "classes"', "classes"),
    ],
)
def test_a_budget_on_no_part_is_refused(budget: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        recipe(f'metric = "accuracy_top1"\nlimit = 0.5\n{budget}')


@pytest.mark.parametrize(
    ("metric", "part", "said"),
    [
        ("size_bytes", 'slice = "device"', "slice is for what outputs are held against targets by"),
        ("parity_sqnr_db", 'slice = "device"', "slice is for what outputs are held against targets by"),
        ("accuracy_drop", 'per = "class"', "accuracy_drop has no value of each class"),
    ],
)
def test_a_metric_without_parts_is_refused(metric: str, part: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        recipe(f'metric = "{metric}"\nlimit = 0.5\n{part}')


def test_samples_without_columns_have_no_slices() -> None:
    text = RECIPE.format(budget='metric = "accuracy_top1"\nlimit = 0.5\nslice = "device"')
    lines = [line for line in text.replace("csv:t.csv", "digits").splitlines() if not line.startswith("columns")]
    with pytest.raises(RecipeError, match="samples of 'digits' have no slices: columns of csv:PATH"):
        parse_recipe("\n".join(lines), "r.toml")


def table(folder: Path, values: int) -> Recipe:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f"{n / 7},{'ab'[n % 2]},phone{n % values}" for n in range(600)]
    (folder / "t.csv").write_text("\n".join(["x,label,device", *rows]) + "\n")
    data = Data(
        "csv:t.csv", columns=Columns(features=("x",), targets={"label": "label"}, slices=("device",)),
        eval_samples=150,
    )  # fmt: skip
    made = recipe('metric = "size_bytes"\nlimit = 5')
    return dataclasses.replace(made, data=data)


def test_the_data_stage_writes_the_slices_of_the_eval_samples(tmp_path: Path) -> None:
    made = table(tmp_path / "in", 3)
    out = tmp_path / "out"
    out.mkdir()
    run({"data_root": tmp_path / "in"}, data_spec(made.data, made.seed, made.task), out, lambda *_: None)
    sampled = files.read(out, Sampled)
    (column,) = sampled.slices
    (stored,) = stored_slices(out, sampled.slices)
    assert column.name == stored.column == "device"
    assert stored.values == ("phone0", "phone1", "phone2")
    assert [each.count for each in column.values] == np.bincount(stored.codes).tolist()
    # x tells the record, and so the device.
    records = np.rint(np.load(out / "eval_0.npy")[:, 0] * 7).astype(int)
    assert (records % 3).tolist() == stored.codes.tolist()
    assert "slices" in json.loads((out / "data.json").read_text())


def test_a_column_of_too_many_values_is_no_slice(tmp_path: Path) -> None:
    made, out = table(tmp_path / "in", 600), tmp_path / "out"
    out.mkdir()
    with pytest.raises(ModelError, match=r"slices: 'device' has 150 values among the 150 eval samples .* at most 100"):
        run({"data_root": tmp_path / "in"}, data_spec(made.data, made.seed, made.task), out, lambda *_: None)


def test_values_are_told_apart_to_their_last_character(tmp_path: Path) -> None:
    cells = ["x", "x\0", "", "\0"]
    (column,) = write_slices([{"device": cell} for cell in cells], list("abcd"), tmp_path)
    assert [(each.value, each.count) for each in column.values] == [("", 1), ("\0", 1), ("x", 1), ("x\0", 1)]
    (codes,) = stored_slices(tmp_path, [column])
    assert [codes.values[code] for code in codes.codes] == cells
    with pytest.raises(ModelError, match="sample 'b': 'device' is not valid text"):
        write_slices([{"device": "x"}, {"device": "\ud800"}], ["a", "b"], tmp_path)
