"""`fit` on a fake evaluator: spaces, trials' recipes, sampling, halving, constraints, going on, words. No torch."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pocketforge.commands.fit import measured_on
from pocketforge.errors import RecipeError, StoreError
from pocketforge.outcomes import files
from pocketforge.recipe import Budget
from pocketforge.recipe.part import with_targets
from pocketforge.recipe.toml import parse_recipe
from pocketforge.results.report import recipe_digest
from pocketforge.search.constraints import known_early, words_of
from pocketforge.search.dimension import Dimension, points
from pocketforge.search.evaluate import Measured
from pocketforge.search.front import front, hypervolume, nearest_to_best
from pocketforge.search.halving import hopeless, short_share, survivors
from pocketforge.search.importance import importances
from pocketforge.search.loop import Search, Settings
from pocketforge.search.page import write as page_of
from pocketforge.search.probe import check_budgets
from pocketforge.search.reasons import reasons_of
from pocketforge.search.result import SCHEMA, Aim, FitResult, Searched
from pocketforge.search.sampling import Asking
from pocketforge.search.space import dimensions_of, fixed_of, space_of, stage_groups
from pocketforge.search.summary import front_of, gained, recommended_of
from pocketforge.search.trial import Begun, Notebook, Rung, Trial
from pocketforge.search.trial_recipe import Base, Made, as_it_is, trial_recipe

ROOT = Path(__file__).resolve().parents[2]
BASE = """
name = "net"
[model]
definition = "model.py"
weights = "w.safetensors"
[data]
source = "digits"
[data.preprocess]
resize = [32, 32]
[[compress]]
type = "prune_channels"
ratio = 0.5
round_to = 4
protect = ["fc"]
[[compress]]
type = "finetune"
epochs = 6
shift = 2
[[target]]
name = "a"
runtime = "tflite"
quantize = { scheme = "static_int8" }
[[target]]
name = "b"
runtime = "onnx"
[[budget]]
metric = "size_bytes"
limit = 1000
[[budget]]
metric = "accuracy_top1"
limit = 0.8
target = "b"
"""
SPACE = """
[fit]
batch = 4
[fit.space]
target_names = ["a"]
epochs = [0, 6]
lr = [1e-4, 1e-2]
[[fit.space.prune]]
layers = ["l1.*"]
ratios = [0.0, 0.25, 0.5, 0.75]
[[fit.space.prune]]
layers = ["l2.*", "l3"]
ratios = [0.0, 0.5]
"""
BETTER: Any = {"accuracy_top1": "higher", "size_bytes": "lower"}
BEGUN = Begun(1, "0" * 64, "1" * 64, "3" * 64)


def base(more: str = SPACE, text: str = BASE) -> Base:
    return Base(parse_recipe(text + more, folder="/r"), text + more)


def faults(more: str) -> str:
    with pytest.raises(RecipeError) as caught:
        base(more)
    return str(caught.value)


class Fake:
    """Size falls with the ratios, accuracy with them and with less training. Remembers what it was asked."""

    def __init__(self, crash: str = "", stop_after: int = 10**9) -> None:
        self.asked: list[tuple[Rung, int]] = []
        self.crash = crash
        self.stop_after = stop_after

    def measure(self, trials: Sequence[Made], rung: Rung) -> list[Measured]:
        self.stop_after -= 1
        if self.stop_after < 0:
            raise KeyboardInterrupt
        self.asked.append((rung, len(trials)))
        return [self._one(made, rung) for made in trials]

    def _one(self, made: Made, rung: Rung) -> Measured:
        if self.crash and self.crash in made.text:
            return Measured(reason="out of memory", log="/logs/x.log", seconds=1.0)
        kept = math.prod(1 - ratio for entry in made.recipe.compress for ratio in getattr(entry, "ratios", {}).values())
        epochs = sum(tuned.epochs for _, tuned in made.recipe.finetunes())
        size = 4000 * kept
        accuracy = 0.99 - 0.1 * (1 - kept) - 0.2 / (1 + epochs)
        over = max(0.0, size / 1000 - 1)
        return Measured(
            {"accuracy_top1": round(accuracy, 6), "size_bytes": size}, {"size_bytes ≤ 1,000": over}, seconds=1.0
        )


def settings(of: Base, *, trials: int = 12, sampler: Any = "tpe", seed: int = 3, **more: Any) -> Settings:
    space = space_of(of.recipe, ())
    dimensions = dimensions_of(space)
    return Settings(
        of, space.target_names, dimensions, {**fixed_of(space), "target": "a"},
        Asking(dimensions, BETTER, sampler, seed), BETTER, ["size_bytes ≤ 1,000"], trials, 4, **more,
    )  # fmt: skip


def searched(folder: Path, evaluator: Any = None, known: Sequence[Trial] = (), **more: Any) -> Search:
    lines: list[str] = []
    search = Search(settings(base(), **more), evaluator or Fake(), Notebook(folder, BEGUN), lines.append)
    search.run(known)
    assert len(lines) == len(search.trials) - len(known)
    return search


def untimed(trials: Sequence[Trial]) -> list[Trial]:
    return [dataclasses.replace(trial, ended_s=0.0) for trial in trials]


def test_what_a_recipe_may_not_ask_is_told_with_its_place() -> None:
    assert "fit.objective[0].metric: " in faults('[[fit.objective]]\nmetric = "acuracy_top1"')
    assert "fit.objective[0]: no [[device]] of the recipe measures instructions" in faults(
        '[[fit.objective]]\nmetric = "instructions"'
    )
    assert "did you mean 'host'" in faults('[[fit.objective]]\nmetric = "latency_ms"\ndevice = "hots"')
    assert "leaves nothing to choose" in faults('[fit.space]\ntarget_names = ["a"]\nschemes = ["static_int8"]')
    assert "fit.space.target_names[0]: no target is named 'c'" in faults('[fit.space]\ntarget_names = ["c", "a"]')
    assert "fit.space.lr: wanted [least, most]" in faults("[fit.space]\nepochs = [1, 2]\nlr = [0.1, 0.01]")
    assert "epochs = [3, 9]" in faults("[fit.space]\nlr = [0.001, 0.01]")
    assert "fit.space.prune[0]" in faults("[[fit.space.prune]]\nratios = [0.5, 1.0]")
    assert "each once" in faults("[fit.space]\nepochs = [2, 2]")
    assert "fit.space.schemes[0]" in faults('[fit.space]\nschemes = ["int9", "fp32"]')
    assert "they rank channels" in faults('[fit.space]\nimportances = ["l1", "l2"]')


def test_a_part_of_a_recipe_is_one_whatever_its_search_is_of() -> None:
    assert [target.name for target in with_targets(base().recipe, ["b"]).targets] == ["b"]


def test_a_search_is_no_part_of_what_a_build_is() -> None:
    assert recipe_digest(base().recipe) == recipe_digest(base("").recipe)


def test_dimensions_are_what_is_left_to_choose() -> None:
    found = {each.name: each.values for each in dimensions_of(space_of(base().recipe, ()))}
    assert found == {
        "epochs": (0, 6), "ratio l1.*": (0.0, 0.25, 0.5, 0.75), "ratio l2.* l3": (0.0, 0.5), "lr": (1e-4, 1e-2),
    }  # fmt: skip
    assert points([Dimension("x", "ordered", (1, 2)), Dimension("y", "names", ("a", "b", "c"))]) == 6
    lr = Dimension("lr", "log", (1e-4, 1e-2))
    assert lr.at(0.00123456) == 0.00123 and lr.drawn(0.5) == pytest.approx(1e-3) and points([lr]) == math.inf


def test_the_default_space_follows_from_the_layers_and_the_runtimes() -> None:
    layers = [
        {"name": name, "kind": kind}
        for name, kind in (
            ("conv1", "Conv2d"), ("bn1", "BatchNorm2d"), ("layer1.0.conv1", "Conv2d"), ("layer1.1.conv1", "Conv2d"),
            ("layer2.0.conv1", "Conv2d"), ("layer2.0.down.0", "Conv2d"), ("fc", "Linear"),
        )
    ]  # fmt: skip
    groups = stage_groups(
        [*layers[:-1], *({"name": f"layer3.{n}.conv", "kind": "Conv2d"} for n in range(7)), layers[-1]]
    )
    assert groups == ("layer1.*", "layer2.*", "layer3.*")
    assert stage_groups([{"name": "fc1", "kind": "Linear"}, {"name": "fc2", "kind": "Linear"}]) == ("fc1",)
    space = space_of(base("").recipe, groups)
    assert space.target_names == ("a", "b") and [group.layers for group in space.prune] == [(g,) for g in groups]
    assert "static_int8" in space.schemes and "fp32" in space.schemes and space.epochs == (6, 12)
    assert len(dimensions_of(space)) == 9


def test_a_choice_is_a_plain_recipe() -> None:
    of = base()
    made = trial_recipe(of, {"target": "a", "epochs": 3, "lr": 0.002, "ratio l1.*": 0.5, "ratio l2.* l3": 0.0})
    prune, tuned = made.recipe.compress
    assert (prune.ratios, prune.round_to, prune.protect) == ({"l1.*": 0.5, "l2.*": 0.0, "l3": 0.0}, 4, ("fc",))  # type: ignore[union-attr]
    assert (tuned.epochs, tuned.lr, tuned.shift) == (3, 0.002, 2)  # type: ignore[union-attr]
    assert [target.name for target in made.recipe.targets] == ["a"] and made.recipe.fit is None
    # The other target's budget went with it; what is read again is the same.
    assert [budget.metric for budget in made.recipe.budgets] == ["size_bytes"]
    assert parse_recipe(made.text, folder="/r") == made.recipe
    whole = as_it_is(of, "b").recipe
    assert whole.compress == of.recipe.compress and len(whole.budgets) == 2


def test_every_key_of_a_space_reaches_the_recipe() -> None:
    made = trial_recipe(
        base(),
        {
            "target": "b", "runtime": "onnx", "scheme": "static_int8", "calibration": "mse", "calibration_samples": 16,
            "repairs": "equalize+bias_correction", "float l1.0": True, "float l2.0": False, "resize": "24x28",
            "drop_blocks": 2, "sparsity": 0.5, "ratio *": 0.25, "importance": "l1", "epochs": 4, "distill": True,
        },
    ).recipe  # fmt: skip
    quantize = made.targets[0].quantize
    assert (quantize.scheme, quantize.calibration, quantize.calibration_samples) == ("static_int8", "mse", 16)
    assert quantize.repairs == ("equalize", "bias_correction") and [o.modules for o in quantize.overrides] == ["l1.0"]
    assert made.data.preprocess.resize == (24, 28)  # type: ignore[union-attr]
    drop, prune, sparse, tuned = made.compress
    assert (drop.count, prune.ratio, prune.importance, sparse.amount) == (2, 0.25, "l1", 0.5)  # type: ignore[union-attr]
    assert tuned.epochs == 4 and tuned.distill is not None  # type: ignore[union-attr]
    # What another scheme has no use for goes; a teacher of a model that nothing changed would be itself.
    plain = trial_recipe(
        base(), {"target": "a", "scheme": "fp16", "calibration": "mse", "ratio *": 0.0, "epochs": 1, "distill": True}
    )
    assert plain.recipe.targets[0].quantize.scheme == "fp16" and len(plain.recipe.compress) == 1
    assert trial_recipe(base(), {"target": "a", "ratio *": 0.5, "epochs": 9}, 1 / 3).recipe.compress[1].epochs == 3  # type: ignore[union-attr]
    assert len(trial_recipe(base(), {"target": "a", "ratio *": 0.5, "epochs": 9}, None).recipe.compress) == 1


def test_a_front_is_what_no_other_beats() -> None:
    found = {0: (1.0, 5.0), 1: (2.0, 2.0), 2: (3.0, 3.0), 3: (5.0, 1.0), 4: (2.0, 2.0), 5: (math.nan, 0.0)}
    assert front(found) == [0, 1, 3]
    assert nearest_to_best({n: found[n] for n in (0, 1, 3)}) == 1
    assert hypervolume([(1.0, 5.0), (2.0, 2.0), (3.0, 3.0), (5.0, 1.0)], (6.0, 6.0)) == 5 * 1 + 4 * 3 + 1 * 1
    assert hypervolume([(0.0, 0.0, 0.0)], (1.0, 2.0, 3.0)) == 6 and hypervolume([(7.0, 0.0)], (6.0, 6.0)) == 0


def test_halving_keeps_the_best_and_gives_no_one_up_for_what_training_mends() -> None:
    # None beats another: the one between the ends is nearest to the best of both.
    assert survivors({1: (0.0, 1.0), 2: (0.3, 0.3), 3: (1.0, 0.0)}, {}, 3) == [2]
    assert short_share(9, 3) == 1 / 3 and short_share(1, 3) is None and short_share(0, 3) is None
    assert survivors({1: (1.0,), 2: (0.0,), 3: (2.0,), 4: (5.0,)}, {}, 3) == [1, 2]
    assert survivors({1: (1.0, 0.0), 2: (0.0, 1.0)}, {1: 0.5}, 2) == [2] and survivors({}, {}, 3) == []
    assert hopeless({"size": 0.5, "top1": 0.5, "macs": 0.01}, ["size", "macs"], 0.02) == ["size"]
    budgets = [Budget("size_bytes", 10), Budget("accuracy_top1", 0.5), Budget("macs", 9, severity="warning")]
    assert known_early([(budget, "") for budget in budgets]) == ["size_bytes ≤ 10"]
    assert words_of(Budget("instructions", 5e6, device="pixel4")) == "instructions ≤ 5,000,000 on pixel4"


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random"])
def test_a_search_is_deterministic_and_goes_on_as_if_it_had_not_stopped(tmp_path: Path, sampler: str) -> None:
    # Of nsga2 a generation is of fully trained trials: all are.
    more: Any = {"sampler": sampler, "reduction": 1}
    whole = searched(tmp_path / "a", **more, trials=17).trials
    half = searched(tmp_path / "b", **more, trials=9).trials
    again = Notebook(tmp_path / "b", BEGUN).read()
    assert again == half
    assert untimed(searched(tmp_path / "b", **more, trials=17, known=again).trials) == untimed(whole)
    assert Notebook(tmp_path / "b", BEGUN).read() != half
    assert len({trial.recipe_sha256 for trial in whole}) == 17
    if sampler == "nsga2":
        assert max(number for trial in whole for number in trial.marks.values()) > 0
    if sampler == "random":
        assert untimed(searched(tmp_path / "c", **more, trials=17, seed=4).trials) != untimed(whole)


def test_cheap_looks_come_before_dear_ones(tmp_path: Path) -> None:
    fake = Fake()
    trials = searched(tmp_path, fake, trials=21).trials
    rungs = {rung: sum(count for at, count in fake.asked if at == rung) for rung in ("untrained", "short", "full")}
    assert rungs["untrained"] > rungs["short"] and rungs["full"] < 21
    stopped = [trial for trial in trials if trial.state == "stopped"]
    assert any("untrained it does not keep size_bytes ≤ 1,000 already" in trial.reason for trial in stopped)
    assert all(trial.values["size_bytes"] <= 1000 for trial in trials if trial.is_feasible)
    assert recommended_of(trials, BETTER) in front_of(trials, BETTER)


def test_a_trial_that_crashes_is_a_failed_trial_with_its_log(tmp_path: Path) -> None:
    trials = searched(tmp_path, Fake(crash='"l1.*" = 0.5'), trials=16).trials
    failed = [trial for trial in trials if trial.state == "failed"]
    assert failed and {(trial.reason, trial.log) for trial in failed} == {("out of memory", "/logs/x.log")}
    assert len(trials) == 16 and not any(trial.number in front_of(trials, BETTER) for trial in failed)


def test_what_was_found_before_an_interrupt_is_kept(tmp_path: Path) -> None:
    search = Search(settings(base(), trials=20), Fake(stop_after=5), Notebook(tmp_path, BEGUN), lambda line: None)
    with pytest.raises(KeyboardInterrupt):
        search.run([])
    assert 1 <= len(search.trials) < 20 and Notebook(tmp_path, BEGUN).read() == search.trials
    with (tmp_path / Notebook.FILE).open("a") as file:
        file.write('{"number": 99')  # a kill in the middle of a line
    known = Notebook(tmp_path, BEGUN).read()
    assert known == search.trials
    whole = searched(tmp_path / "other", trials=20).trials
    assert untimed(searched(tmp_path, trials=20, known=known).trials) == untimed(whole)
    assert len(Notebook(tmp_path, BEGUN).read()) == 20


def test_a_search_ends_at_its_hours_and_with_its_space(tmp_path: Path) -> None:
    assert searched(tmp_path / "a", hours=1e-12, trials=9).ended == "1e-12 hours are over"
    of = base(SPACE.replace("lr = [1e-4, 1e-2]\n", ""))
    search = Search(settings(of, trials=99), Fake(), Notebook(tmp_path / "b", BEGUN), lambda line: None)
    search.run([])
    assert search.ended == "every recipe of the space that could be drawn was tried"
    assert len(search.trials) == 1 + 2 * 4 * 2  # the recipe as it is, and the space's points


def test_trials_of_another_search_and_damaged_ones_are_told_of(tmp_path: Path) -> None:
    searched(tmp_path, trials=2)
    with pytest.raises(StoreError, match=r"the \[fit\] table is another now"):
        Notebook(tmp_path, dataclasses.replace(BEGUN, searched_sha256="2" * 64)).read()
    with pytest.raises(StoreError, match="the recipe is another now"):
        Notebook(tmp_path, dataclasses.replace(BEGUN, recipe_sha256="2" * 64)).read()
    with pytest.raises(
        StoreError, match="samples, weights or definitions that it names, or the installed versions, are"
    ):
        Notebook(tmp_path, dataclasses.replace(BEGUN, measured_sha256="2" * 64)).read()
    path = tmp_path / Notebook.FILE
    path.write_text(path.read_text().replace('"number": 1', '"number": "x"'))
    with pytest.raises(StoreError, match="is damaged"):
        Notebook(tmp_path, BEGUN).read()


def test_what_trials_were_measured_on_is_every_file_that_the_recipe_names(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"weights")
    (tmp_path / "model.py").write_text("def build(): ...\n")
    recipe = parse_recipe(BASE, folder=str(tmp_path))
    first = measured_on(recipe, tmp_path / "cache")
    assert measured_on(recipe, tmp_path / "cache") == first
    (tmp_path / "w.safetensors").write_bytes(b"other weights")
    assert measured_on(recipe, tmp_path / "cache") != first


def test_a_budget_that_no_point_keeps_is_found_before_anything_is_trained() -> None:
    of = base(SPACE)
    space = space_of(of.recipe, ())
    fake = Fake()
    check_budgets(of, dimensions_of(space), {"target": "a"}, ["size_bytes ≤ 1,000"], fake)
    assert fake.asked == [("untrained", 1)]
    tight = base(SPACE.replace("0.5, 0.75]", "0.375]").replace("[0.0, 0.5]", "[0.0, 0.25]"))
    with pytest.raises(RecipeError) as caught:
        check_budgets(tight, dimensions_of(space_of(tight.recipe, ())), {"target": "a"}, ["size_bytes ≤ 1,000"], Fake())
    assert "size_bytes ≤ 1,000: the smallest model is 40.6% over the limit" in str(caught.value)
    crashing = Fake(crash="ratios")
    check_budgets(of, dimensions_of(space), {"target": "a"}, ["size_bytes ≤ 1,000"], crashing)  # nothing is claimed


def result(trials: Sequence[Trial]) -> FitResult:
    on_front, chosen = front_of(trials, BETTER), recommended_of(trials, BETTER)
    dimensions = dimensions_of(space_of(base().recipe, ()))
    return FitResult(
        1, "<net>", "0" * 64, 3, "tpe", "all 18 trials are made",
        (Aim("accuracy_top1", "higher", ""), Aim("size_bytes", "lower", "bytes")), ("size_bytes ≤ 1,000",),
        tuple(Searched(each.name, each.kind, each.values) for each in dimensions), tuple(trials),
        tuple(on_front), chosen, reasons_of(trials, on_front, chosen, BETTER),
        importances(trials, dimensions, BETTER, 3), gained(trials, BETTER),
    )  # fmt: skip


def test_what_was_found_is_a_file_a_page_and_words(tmp_path: Path) -> None:
    found = result(searched(tmp_path, trials=18, reduction=1).trials)
    assert files.from_json(files.to_json(found), FitResult) == found
    assert found.recommended is not None and found.trial(found.recommended).is_feasible
    assert "beaten by no other" in found.reasons[0] and any("Against the recipe as it is" in r for r in found.reasons)
    shares = found.importances["size_bytes"]
    assert sum(shares.values()) == pytest.approx(1, abs=0.01) and max(shares, key=lambda n: shares[n]).startswith(
        "ratio"
    )
    volumes = [each.hypervolume for each in found.gained]
    assert volumes == sorted(volumes) and 0 < volumes[-1] <= 1
    page = page_of(found)
    assert "&lt;net&gt;" in page and "<net>" not in page and "<script" not in page
    assert all(word in page for word in ("Recommended", "What the time bought", "What makes the difference"))


def test_where_no_trial_keeps_every_budget_the_nearest_and_what_binds_are_told(tmp_path: Path) -> None:
    trials = [
        dataclasses.replace(trial, violations={"size_bytes ≤ 1,000": 0.3, "accuracy_top1 ≥ 0.9": 1e6})
        for trial in searched(tmp_path, trials=6).trials
    ]
    found = result(trials)
    assert found.recommended is None and found.front == () and found.gained == ()
    text = "\n".join(found.reasons)
    assert "No trial keeps every budget" in text and "size_bytes ≤ 1,000: 30.00% of the limit away" in text
    assert "accuracy_top1 ≥ 0.9: not measured" in text and "Nothing is recommended" in page_of(found)


def test_its_schema_is_written_from_its_types(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("report_schema", ROOT / "docs" / "report_schema.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    text = SCHEMA.read_text(encoding="utf-8")
    assert text == script.fit_schema(), "run: python docs/report_schema.py"
    found = files.to_json(result(searched(tmp_path, trials=5).trials))
    validator = jsonschema.Draft202012Validator(json.loads(text))
    validator.validate(found)
    assert not validator.is_valid({**found, "sampler": "magic"}) and not validator.is_valid({**found, "more": 1})
