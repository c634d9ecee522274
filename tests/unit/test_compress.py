"""[[compress]]: its rules, and how a plan lays its entries out. No torch."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketforge.errors import RecipeError
from pocketforge.facts.gather import gather
from pocketforge.facts.versions import our_libraries
from pocketforge.plan.lanes import make_plan
from pocketforge.plan.steps import Facts, Plan
from pocketforge.recipe import Data, Model, Recipe, Target
from pocketforge.recipe.compress import (
    Distill,
    DropLayers,
    Finetune,
    Goal,
    LayerPair,
    PruneChannels,
    PruneUnstructured,
    Teacher,
    cubic_amount,
)
from pocketforge.recipe.toml import parse_recipe
from pocketforge.specs.finetune import FinetuneSpec
from pocketforge.specs.prune import PruneSpec, Trials

FACTS = Facts({"definition": "d", "weights": "w", "data": "x"}, dict.fromkeys(our_libraries(), "1"), "host", "none")
HEAD = """
name = "x"
[model]
definition = "m.py"
weights = "w.safetensors"
[data]
source = "digits"
[[target]]
name = "a"
runtime = "onnx"
"""


def plan_of(*entries: Any, facts: Facts = FACTS, runtimes: tuple[Any, ...] = ("onnx",)) -> Plan:
    targets = tuple(Target(f"t{n}", r) for n, r in enumerate(runtimes))
    return make_plan(
        Recipe("x", Model("m.py", "w.safetensors"), Data("digits"), targets, compress=entries, folder="/p"), facts
    )


def faults_of(text: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(HEAD + text)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ('type = "prune_unstructured"', "compress[0]: prune_unstructured needs amount, amounts or n_m"),
        (
            'type = "prune_unstructured"\namount = 1.0',
            "compress[0]: amount must be more than 0 and less than 1, found 1.0",
        ),
        (
            'type = "prune_unstructured"\namount = 0.5\nn_m = [2, 4]',
            "compress[0]: n_m fixes the share of zeros by itself: leave out amount",
        ),
        (
            'type = "prune_unstructured"\nn_m = [4, 4]',
            "compress[0]: n_m must be [n, m] with 0 < n < m, as in [2, 4], found [4, 4]",
        ),
        (
            'type = "prune_unstructured"\namounts = { fc = 0.5 }',
            'compress[0]: amounts are for scope = "local": a global ranking has one amount',
        ),
        (
            'type = "prune_unstructured"\nscope = "local"\namounts = { fc = "half" }',
            "compress[0].amounts: wanted a number, found a string 'half'",
        ),
        (
            'type = "prune_unstructured"\namount = 0.5\nschedule = "cubic"',
            "compress[0]: schedule cubic prunes during fine-tuning: a finetune must come next",
        ),
        ('type = "prune_channels"', "compress[0]: prune_channels needs ratio, ratios, goal or head_ratio"),
        ('type = "prune_channels"\nratio = "much"', "compress[0].ratio: wanted a number or \"auto\", found 'much'"),
        (
            'type = "prune_channels"\nratio = 1.0',
            "compress[0]: ratio must be more than 0 and less than 1, found 1.0",
        ),
        (
            'type = "prune_channels"\nratio = 0.5\ngoal = { metric = "macs", limit = 9 }',
            "compress[0]: a goal decides how much is pruned: leave out ratio",
        ),
        (
            'type = "prune_channels"\nratio = "auto"\nscope = "global"',
            'compress[0]: ratio = "auto" finds a ratio for each layer: use scope = "local" and no ratios',
        ),
        (
            'type = "prune_channels"\nratio = 0.5\nfinetune = { epochs = 1 }',
            "compress[0]: finetune inside prune_channels runs between its steps: set steps to 2 or more",
        ),
        (
            'type = "prune_channels"\ngoal = { metric = "macs" }',
            "compress[0].goal: a goal needs limit (the most that may be left) or removed (the share to remove), "
            "not both",
        ),
        (
            'type = "drop_layers"\ncount = 1\nratio = 0.5',
            "compress[0]: drop_layers needs one of count, ratio and goal, found count and ratio",
        ),
        ('type = "drop_layers"', "compress[0]: drop_layers needs one of count, ratio and goal, found none"),
        (
            'type = "finetune"\ndistill = { alpha = 0.0 }',
            "compress[0].distill: alpha, the teacher's share of the loss, must be more than 0 and at most 1, found "
            "0.0: with 0 it would be training on labels alone, which is a finetune without distill",
        ),
        (
            'type = "finetune"\ndistill = {}',
            "compress[0].distill: the teacher is the model as it was before [[compress]], and nothing has changed it "
            "yet: prune first, or name another teacher",
        ),
        (
            'type = "finetune"\ndistill = { teacher = { definition = "t.py", weights = "" } }',
            "compress[0].distill.teacher: a teacher must be trained: weights names its weights file",
        ),
        (
            'type = "finetune"\nwarmup_epochs = 3',
            "compress[0]: warmup_epochs must be less than epochs (3), found 3.0",
        ),
        (
            'type = "prune_unstructured"\namount = 0.5\nschedule = "cubic"\n[[compress]]\ntype = "finetune"\n'
            "early_stop_epochs = 2",
            "compress[1].early_stop_epochs cannot go with schedule cubic: zeros are added until the last epochs, so an "
            "earlier one's weights are never sparse enough",
        ),
        (
            'type = "finetune"\nprocesses = 40',
            "compress[0]: batch_size must be 80 or more (batch norm needs 2 samples in each process), found 64",
        ),
        (
            'type = "finetune"\nprecision = "fp16"',
            'compress[0].precision: "fp16" is for GPUs, and training.device is "cpu": device = "auto" or "cuda", or '
            'precision "bf16"',
        ),
        ('type = "finetune"\nprecision = "bf61"', "compress[0].precision: unknown value 'bf61'; did you mean 'bf16'?"),
        (
            'type = "finetune"\nloss = "mine"',
            "compress[0]: loss must be file.py:function, found 'mine' (left out: the task's own)",
        ),
        (
            "epochs = 3",
            "compress[0].type: missing: one of 'prune_unstructured', 'prune_channels', 'drop_layers', 'finetune'",
        ),
        ('type = "drop_layer"', "compress[0].type: unknown value 'drop_layer'; did you mean 'drop_layers'?"),
        ('type = "drop_layers"\ncount = 1\nblock = "x"', "compress[0].block: unknown key; did you mean 'blocks'?"),
    ],
)  # fmt: skip
def test_a_wrong_entry_gets_one_clear_fault(entry: str, fault: str) -> None:
    assert faults_of(f"[[compress]]\n{entry}\n") == [fault]


@pytest.mark.parametrize("metric", ["instructions", "estimated_latency_ms"])
def test_a_goal_on_an_emulated_device_names_one_of_the_recipe(metric: str) -> None:
    def entry(more: str) -> str:
        return f'[[compress]]\ntype = "prune_channels"\ngoal = {{ metric = "{metric}", limit = 2{more} }}\n'

    phone = '[[device]]\nvia = "emulator"\nprofile = "pixel4"\n'
    (fault,) = faults_of(entry("") + phone)
    assert f'{metric} needs device: the name of a [[device]] with via = "emulator"' in fault
    (fault,) = faults_of(entry(', device = "pixel5"') + phone)
    assert "no [[device]] with via = \"emulator\" is named 'pixel5'; did you mean 'pixel4'?" in fault
    (named,) = parse_recipe(HEAD + entry(', device = "pixel4"') + phone).compress
    assert isinstance(named, PruneChannels) and named.goal is not None and named.goal.device == "pixel4"


def test_a_teacher_that_is_the_unpruned_model_needs_weights() -> None:
    entries = (PruneChannels(ratio=0.5), Finetune(distill=Distill()))
    with pytest.raises(ValueError, match=r"the teacher is the recipe's model, which has no model.weights"):
        Recipe("x", Model("m.py"), Data("digits"), (Target("a", "onnx"),), compress=entries)


@pytest.mark.parametrize(
    "entry",
    [
        PruneUnstructured(scope="local", amounts={"fc*": 0.5}, protect=("a",)),
        PruneUnstructured(n_m=(2, 4)),
        PruneChannels(ratio="auto", steps=2, finetune=Finetune(epochs=1)),
        PruneChannels(goal=Goal("macs", removed=0.5)),
        DropLayers(goal=Goal("latency_ms", limit=1.5, runtime="tflite")),
        Finetune(distill=Distill(Teacher("t.py", "t.safetensors", {"n": 1}), hints=(LayerPair("a", "b"),))),
    ],
)
def test_an_entry_reaches_the_process_of_a_stage_as_it_is(entry: Any) -> None:
    assert pickle.loads(pickle.dumps(entry)) == entry


@given(st.floats(0.01, 0.99), st.lists(st.floats(-1, 2), min_size=2, max_size=9))
def test_the_cubic_schedule_rises_from_nothing_to_the_amount(amount: float, at: list[float]) -> None:
    values = [cubic_amount(amount, p) for p in sorted(at)]
    assert values == sorted(values) and cubic_amount(amount, 0) == 0
    assert cubic_amount(amount, 1) == pytest.approx(amount) and cubic_amount(amount, 0.5) == pytest.approx(
        0.875 * amount
    )


def stages(plan: Plan) -> list[str]:
    return [s.stage for s in plan.steps if s.lane == "trunk"]


def test_each_entry_starts_from_the_checkpoint_before_it() -> None:
    plan = plan_of(PruneChannels(ratio=0.5), Finetune(distill=Distill()), DropLayers(count=1), Finetune())
    assert stages(plan) == ["data", "prune", "finetune", "prune", "finetune", "reference", "gains"]
    keys = [c.key for c in plan.changes]
    assert [plan.step(k).needs for k in keys] == [{}, *({"checkpoint": k} for k in keys[:-1])]
    assert plan.step(plan.reference).needs["checkpoint"] == keys[-1]
    assert [c.label for c in plan.changes] == ["prune_channels", "finetune + distill", "drop_layers", "finetune"]
    gains = plan.step(plan.gains)
    assert gains.exclusive and gains.needs == {"data": plan.data, **{f"state_{n}": k for n, k in enumerate(keys, 1)}}


def test_a_recipe_without_compress_measures_no_gains() -> None:
    plan = plan_of()
    assert plan.gains == "" and stages(plan) == ["data", "reference"]


def test_several_steps_have_fine_tuning_between_them() -> None:
    plan = plan_of(PruneChannels(ratio=0.6, steps=3, finetune=Finetune(epochs=1)), Finetune())
    assert stages(plan)[1:-2] == ["prune", "finetune", "prune", "finetune", "prune", "finetune"]
    specs = [plan.spec(c.key, PruneSpec) for c in plan.changes[::2]]
    assert [(spec.part, spec.parts) for spec in specs] == [(1, 3), (2, 3), (3, 3)]
    assert all(spec.pruning == PruneChannels(ratio=0.6, steps=3) for spec in specs)
    assert all(plan.spec(c.key, FinetuneSpec) for c in plan.changes[1::2])
    with pytest.raises(TypeError, match=r"prune\[trunk\] is told a PruneSpec, not a FinetuneSpec"):
        plan.spec(plan.changes[0].key, FinetuneSpec)


def test_an_automatic_ratio_gets_a_study_that_the_floor_does_not_change() -> None:
    strict, loose = (plan_of(PruneChannels(ratio="auto", max_accuracy_drop=d)) for d in (0.0, 0.05))
    assert stages(strict) == ["data", "sensitivity", "prune", "reference", "gains"]
    assert strict.steps[1].key == loose.steps[1].key and strict.changes[0].key != loose.changes[0].key
    assert strict.step(strict.changes[0].key).needs == {"sensitivity": strict.steps[1].key}


def test_gradual_pruning_is_part_of_the_finetune_after_it() -> None:
    gradual = PruneUnstructured(amount=0.8, schedule="cubic")
    plan = plan_of(gradual, Finetune())
    assert stages(plan) == ["data", "finetune", "reference", "gains"]
    assert plan.spec(plan.changes[0].key, FinetuneSpec).gradual == gradual


def test_a_timed_goal_runs_alone_on_its_runtime() -> None:
    timed = plan_of(DropLayers(goal=Goal("latency_ms", limit=1.0)), runtimes=("tflite", "onnx"))
    step = timed.step(timed.changes[0].key)
    assert step.exclusive and timed.spec(step.key, PruneSpec).trials == Trials("tflite", "NCHW", host="host")
    counted = plan_of(DropLayers(goal=Goal("macs", limit=1.0)))
    assert not counted.step(counted.changes[0].key).exclusive


def test_a_key_covers_the_teacher_and_the_loss() -> None:
    entries = (Finetune(distill=Distill(Teacher("t.py", "t.safetensors")), loss="l.py:f"),)
    plans = [
        plan_of(*entries, facts=dataclasses.replace(FACTS, digests={**FACTS.digests, **more}))
        for more in (
            {"teacher t.py t.safetensors": "1", "loss l.py:f": "1"},
            {"teacher t.py t.safetensors": "2", "loss l.py:f": "1"},
            {"teacher t.py t.safetensors": "1", "loss l.py:f": "2"},
        )
    ]
    assert len({p.changes[0].key for p in plans}) == 3
    assert plans[0].step(plans[0].changes[0].key).paths["teacher_weights"] == Path("/p/t.safetensors")


def test_the_facts_name_every_missing_file_of_an_entry(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("")
    distill = Distill(Teacher("t.py", "t.safetensors"))
    recipe = Recipe(
        "x", Model("m.py"), Data("digits"), (Target("a", "onnx"),),
        compress=(Finetune(distill=distill, loss="l.py:f"),), folder=str(tmp_path),
    )  # fmt: skip
    with pytest.raises(RecipeError) as caught:
        gather(recipe)
    for where in ("distill.teacher.definition", "distill.teacher.weights", "loss"):
        assert f"compress[0].{where}: no file {tmp_path}" in str(caught.value)
