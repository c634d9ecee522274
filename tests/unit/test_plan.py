"""A plan is a pure function of recipe and facts; its keys change with what a result depends on, and nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quantizations import quantizations

from pocketforge.plan.lanes import make_plan
from pocketforge.plan.steps import Facts, Plan, Step
from pocketforge.recipe import Budget, Data, InputSpec, Model, Preprocess, Recipe, Target, Verify
from pocketforge.recipe.compress import Finetune
from pocketforge.recipe.device import EmulatedDevice, HostDevice
from pocketforge.recipe.quantize import Quantize
from pocketforge.registries import RUNTIMES, STAGES

INT8 = Quantize("static_int8")
LIBRARIES = sorted(
    {n for s in STAGES.values() for n in s.libraries}
    | {n for r in RUNTIMES.values() for n in (*r.export_libraries, *r.run_libraries)}
    | {"torchvision", "timm", "transformers"}
)
FACTS = Facts(
    digests={"definition": "d0", "weights": "w0", "data": "s0", "labels": "l0"},
    versions=dict.fromkeys(LIBRARIES, "1.0"),
    host="host0",
    tflite_runtime="2.14.0",
)
RECIPE = Recipe(
    name="r",
    model=Model("model.py", "weights.safetensors"),
    data=Data("digits", labels="labels.txt"),
    targets=(
        Target("et_fp32", "executorch"),
        Target("et_int8", "executorch", INT8),
        Target("tf_int8", "tflite", INT8),
        Target("onnx_fp32", "onnx"),
    ),
    budgets=(Budget("size_bytes", 1e6),),
    folder="/project",
)

# A step by what it is for, not by its key: (stage, lane).
Names = dict[str, str]


def keys_of(recipe: Recipe = RECIPE, facts: Facts = FACTS) -> Names:
    """The keys of a plan by role: data, reference, export:et_fp32, bench:et_fp32:host …"""
    return by_role(make_plan(recipe, facts))


def by_role(plan: Plan) -> Names:
    keys = {"data": plan.data, "reference": plan.reference}
    keys |= {f"finetune:{i}": s.key for i, s in enumerate(s for s in plan.steps if s.stage == "finetune")}
    for lane in plan.lanes:
        name = lane.target.name
        keys |= {f"export:{name}": lane.export, f"verify:{name}": lane.verify}
        if lane.quantize:
            keys[f"quantize:{name}"] = lane.quantize
        keys |= {f"bench:{name}:{device}": key for device, on in lane.on.items() for key in on.keys}
    return keys


def differing(before: Names, after: Names) -> set[str]:
    assert before.keys() == after.keys()
    return {role for role, key in before.items() if after[role] != key}


def with_targets(*changed: Target) -> Recipe:
    new = {t.name: t for t in changed}
    return dataclasses.replace(RECIPE, targets=tuple(new.get(t.name, t) for t in RECIPE.targets))


def everything(keys: Names, *stages: str) -> set[str]:
    return {role for role in keys if role.partition(":")[0] in stages} if stages else set(keys)


# What is in a plan


def test_equal_inputs_give_equal_plans() -> None:
    assert make_plan(RECIPE, FACTS) == make_plan(dataclasses.replace(RECIPE), dataclasses.replace(FACTS))


def test_planning_changes_neither_recipe_nor_facts() -> None:
    digests, versions = dict(FACTS.digests), dict(FACTS.versions)
    before = dataclasses.asdict(RECIPE)
    make_plan(RECIPE, FACTS)
    assert (dataclasses.asdict(RECIPE), FACTS.digests, FACTS.versions) == (before, digests, versions)


def test_keys_are_the_same_in_another_process() -> None:
    """A key made in this release of Python and this run is found again in the next: no hash(), no set order."""
    import os
    import subprocess
    import sys

    code = (
        "import sys; sys.path[:0] = sys.argv[1:3]\n"
        "import test_plan\n"
        "print(*(s.key for s in test_plan.make_plan(test_plan.RECIPE, test_plan.FACTS).steps))"
    )
    here = Path(__file__).resolve()
    found = subprocess.run(
        [sys.executable, "-c", code, str(here.parents[2]), str(here.parent)],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert found == [s.key for s in make_plan(RECIPE, FACTS).steps]


def test_a_float_target_has_no_quantize_step_and_an_int8_one_has() -> None:
    lanes = {lane.target.name: lane for lane in make_plan(RECIPE, FACTS).lanes}
    assert {name for name, lane in lanes.items() if lane.quantize} == {"et_int8", "tf_int8"}


def test_lanes_that_quantize_alike_share_one_step() -> None:
    plan = make_plan(RECIPE, FACTS)
    (quantize,) = (s for s in plan.steps if s.stage == "quantize")
    assert quantize.lane == "et_int8+tf_int8"
    assert {lane.quantize for lane in plan.lanes} == {"", quantize.key}
    assert quantize.name == "quantize[et_int8+tf_int8]"


def test_lanes_that_quantize_otherwise_have_steps_of_their_own() -> None:
    plan = make_plan(with_targets(Target("tf_int8", "tflite", Quantize("static_int8", calibration="minmax"))), FACTS)
    assert [s.lane for s in plan.steps if s.stage == "quantize"] == ["et_int8", "tf_int8"]


def test_targets_that_differ_in_name_only_share_every_step() -> None:
    plan = make_plan(dataclasses.replace(RECIPE, targets=(Target("a", "onnx"), Target("b", "onnx"))), FACTS)
    assert [(s.stage, s.lane) for s in plan.steps] == [
        ("data", "trunk"),
        ("reference", "trunk"),
        ("export", "a+b"),
        ("verify", "a+b"),
        ("bench", "a+b"),
    ]


def test_a_benchmark_runs_alone_and_after_its_verification() -> None:
    plan = make_plan(RECIPE, FACTS)
    for lane in plan.lanes:
        bench = plan.step(lane.on["host"].keys[-1])
        assert bench.exclusive
        assert bench.after == (lane.verify,)
        assert bench.needs["export"] == lane.export
    assert [s.stage for s in plan.steps if s.exclusive] == ["bench"] * 4


def test_a_shared_benchmark_comes_after_every_verification_it_waits_for() -> None:
    targets = (Target("a", "onnx"), Target("b", "onnx", verify=Verify(min_sqnr_db=60.0)))
    plan = make_plan(dataclasses.replace(RECIPE, targets=targets), FACTS)
    (bench,) = (s for s in plan.steps if s.stage == "bench")
    assert set(bench.after) == {lane.verify for lane in plan.lanes}
    assert len(set(bench.after)) == 2
    assert plan.steps[-1] == bench


def test_training_builds_on_the_training_before_and_the_reference_on_the_last() -> None:
    recipe = dataclasses.replace(RECIPE, compress=(Finetune(epochs=1), Finetune(epochs=2)))
    plan = make_plan(recipe, FACTS)
    first, second = (s for s in plan.steps if s.stage == "finetune")
    assert first.needs == {}
    assert second.needs == {"checkpoint": first.key}
    assert plan.step(plan.reference).needs == {"data": plan.data, "checkpoint": second.key}


def test_paths_are_given_to_steps_but_are_in_no_key() -> None:
    moved = dataclasses.replace(RECIPE, folder="/elsewhere")
    assert keys_of(moved) == keys_of()
    assert make_plan(moved, FACTS).step(keys_of()["reference"]).paths == {
        "data_root": Path("/elsewhere"),
        "weights": Path("/elsewhere/weights.safetensors"),
    }


def test_where_labels_and_weights_lie_is_in_no_key() -> None:
    renamed = dataclasses.replace(
        RECIPE, model=Model("model.py", "other.safetensors"), data=Data("digits", labels="other.txt")
    )
    assert keys_of(renamed) == keys_of()


# Which keys change


def test_a_changed_quantization_changes_its_own_lane_only() -> None:
    recipe = dataclasses.replace(RECIPE, targets=(*RECIPE.targets, Target("onnx_int8", "onnx", INT8)))
    before = keys_of(recipe)
    new = tuple(
        dataclasses.replace(t, quantize=Quantize("static_int8", per_channel=False)) if t.name == "tf_int8" else t
        for t in recipe.targets
    )
    after = keys_of(dataclasses.replace(recipe, targets=new))
    assert differing(before, after) == {"quantize:tf_int8", "export:tf_int8", "verify:tf_int8", "bench:tf_int8:host"}


@pytest.mark.parametrize(
    "budgets", [(), (Budget("size_bytes", 1.0),), (Budget("latency_ms", 3.0, percentile="p99", severity="warning"),)]
)
def test_a_changed_budget_changes_no_key(budgets: tuple[Budget, ...]) -> None:
    assert make_plan(dataclasses.replace(RECIPE, budgets=budgets), FACTS).steps == make_plan(RECIPE, FACTS).steps


def test_renaming_recipe_target_or_device_changes_no_key() -> None:
    before = [s.key for s in make_plan(RECIPE, FACTS).steps]
    targets = (dataclasses.replace(RECIPE.targets[0], name="renamed"), *RECIPE.targets[1:])
    renamed = dataclasses.replace(RECIPE, name="other", targets=targets, devices=(HostDevice("phone"),))
    assert [s.key for s in make_plan(renamed, FACTS).steps] == before


def test_another_seed_changes_every_key() -> None:
    assert differing(keys_of(), keys_of(dataclasses.replace(RECIPE, seed=1))) == everything(keys_of())


@pytest.mark.parametrize(
    ("role", "unchanged"),
    [("weights", {"data"}), ("definition", {"data"}), ("data", set()), ("labels", set())],
)
def test_a_changed_file_changes_what_is_made_from_it(role: str, unchanged: set[str]) -> None:
    after = keys_of(facts=dataclasses.replace(FACTS, digests={**FACTS.digests, role: "new"}))
    assert differing(keys_of(), after) == everything(keys_of()) - unchanged


def test_new_weights_reach_the_rest_through_training() -> None:
    recipe = dataclasses.replace(RECIPE, compress=(Finetune(), Finetune(epochs=1)))
    after = keys_of(recipe, dataclasses.replace(FACTS, digests={**FACTS.digests, "weights": "new"}))
    assert differing(keys_of(recipe), after) == everything(after) - {"data"}


def test_other_training_leaves_the_training_before_it() -> None:
    before = keys_of(dataclasses.replace(RECIPE, compress=(Finetune(), Finetune(epochs=1))))
    after = keys_of(dataclasses.replace(RECIPE, compress=(Finetune(), Finetune(epochs=2))))
    assert differing(before, after) == everything(after) - {"data", "finetune:0"}


TF, ET, ONNX = "tf_int8", "et_", "onnx_fp32"


@pytest.mark.parametrize(
    ("library", "wanted"),
    [
        ("numpy", lambda r: True),
        ("torch", lambda r: r != "data"),
        ("scikit-learn", lambda r: True),  # the data come from it, so everything does
        ("onnx", lambda r: r.startswith((f"export:{ONNX}", f"verify:{ONNX}", f"bench:{ONNX}"))),
        ("onnxruntime", lambda r: r.startswith((f"export:{ONNX}", f"verify:{ONNX}", f"bench:{ONNX}"))),
        ("litert-torch", lambda r: r.startswith((f"export:{TF}", f"verify:{TF}", f"bench:{TF}"))),
        ("ai-edge-litert", lambda r: r.startswith((f"export:{TF}", f"verify:{TF}", f"bench:{TF}"))),
        ("executorch", lambda r: ET in r or TF in r),  # it quantizes, for TFLite as well
        ("torchao", lambda r: ET in r or TF in r),
        ("timm", lambda r: False),
    ],
)
def test_a_new_library_version_changes_the_steps_that_call_it(library: str, wanted: Callable[[str], bool]) -> None:
    assert library in LIBRARIES
    after = keys_of(facts=dataclasses.replace(FACTS, versions={**FACTS.versions, library: "2.0"}))
    assert differing(keys_of(), after) == {role for role in after if wanted(role)}


@pytest.mark.parametrize("library", ["torchvision", "timm", "transformers"])
def test_the_library_that_a_model_comes_from_is_in_the_keys_of_all_that_build_it(library: str) -> None:
    recipe = dataclasses.replace(RECIPE, model=Model(f"{library}:net"), compress=(Finetune(),))
    after = keys_of(recipe, dataclasses.replace(FACTS, versions={**FACTS.versions, library: "2.0"}))
    assert differing(keys_of(recipe), after) == everything(after) - {"data"}


def test_another_host_changes_the_benchmarks_only() -> None:
    after = keys_of(facts=dataclasses.replace(FACTS, host="host1"))
    assert differing(keys_of(), after) == everything(after, "bench")


def test_another_tflite_runtime_changes_the_verification_of_tflite_files_only() -> None:
    after = keys_of(facts=dataclasses.replace(FACTS, tflite_runtime="none"))
    assert differing(keys_of(), after) == {"verify:tf_int8"}
    skipping = with_targets(Target("tf_int8", "tflite", INT8, verify=Verify(tflite_runtime="skip")))
    assert keys_of(skipping) == keys_of(skipping, dataclasses.replace(FACTS, tflite_runtime="none"))


@pytest.mark.parametrize(
    ("target", "stages"),
    [
        (Target("onnx_fp32", "onnx", opset=20), {"export", "verify", "bench"}),
        (Target("onnx_fp32", "onnx", verify=Verify(min_sqnr_db=60.0)), {"verify"}),
    ],
)
def test_a_changed_target_changes_its_lane_from_there_on(target: Target, stages: set[str]) -> None:
    changed = differing(keys_of(), keys_of(with_targets(target)))
    assert changed == {role for role in keys_of() if role.partition(":")[0] in stages and target.name in role}


def test_other_benchmark_settings_change_the_benchmarks_only() -> None:
    before = keys_of(dataclasses.replace(RECIPE, devices=(HostDevice(threads=1),)))
    after = keys_of(dataclasses.replace(RECIPE, devices=(HostDevice(threads=2),)))
    assert differing(before, after) == everything(after, "bench")


@pytest.mark.parametrize(
    "data",
    [
        Data("digits", labels="labels.txt", eval_fraction=0.5),
        Data("digits", labels="labels.txt", eval_samples=5),
        Data("digits", labels="labels.txt", calibration_samples=50),
        Data("digits", labels="labels.txt", preprocess=Preprocess(scale=1.0)),
    ],
)
def test_other_data_settings_change_every_key(data: Data) -> None:
    assert differing(keys_of(), keys_of(dataclasses.replace(RECIPE, data=data))) == everything(keys_of())


@pytest.mark.parametrize(
    "model",
    [
        Model("model.py", "weights.safetensors", args={"width": 2}),
        Model("other.py", "weights.safetensors"),
        Model("model.py", "weights.safetensors", inputs=(InputSpec((1, 1, 8, 8)),)),
        Model("model.py", "weights.safetensors", outputs=("scores",)),
        Model("model.py", "weights.safetensors", weights_key="ema"),
    ],
)
def test_another_model_changes_every_key_but_the_data_s(model: Model) -> None:
    assert differing(keys_of(), keys_of(dataclasses.replace(RECIPE, model=model))) == everything(keys_of()) - {"data"}


def test_a_new_version_of_a_stage_changes_its_key_and_those_after(monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys_of()
    monkeypatch.setitem(STAGES, "quantize", dataclasses.replace(STAGES["quantize"], version=99))
    assert differing(before, keys_of()) == {role for role in before if "int8" in role}


# Over any recipe

names = st.from_regex(r"[a-z0-9][a-z0-9_]{0,4}", fullmatch=True)


@st.composite
def recipes(draw: Callable[[st.SearchStrategy[Any]], Any]) -> Recipe:
    def target(name: str) -> Target:
        runtime = draw(st.sampled_from(["executorch", "tflite", "onnx"]))
        quantize = draw(quantizations(runtime))
        return Target(
            name,
            runtime,
            quantize,
            io=draw(st.sampled_from(["float32", "int8"])) if quantize.is_static else "float32",
            opset=draw(st.sampled_from([None, 20])) if runtime == "onnx" else None,
            verify=Verify(min_sqnr_db=draw(st.sampled_from([None, 30.0]))),
        )

    return Recipe(
        name="any",
        model=Model(draw(st.sampled_from(["m.py", "timm:x"])), draw(st.sampled_from(["", "w.safetensors"]))),
        data=Data("digits", labels=draw(st.sampled_from(["", "labels.txt"]))),
        targets=tuple(target(n) for n in draw(st.lists(names, min_size=1, max_size=6, unique=True))),
        seed=draw(st.integers(0, 2)),
        compress=draw(st.lists(st.builds(Finetune, epochs=st.integers(1, 2)), max_size=3).map(tuple)),
        devices=tuple(
            HostDevice(n, threads=draw(st.integers(1, 2)))
            for n in draw(st.lists(names, min_size=1, max_size=3, unique=True))
        ),
        folder="/project",
    )


@given(recipes())
def test_a_plan_can_be_run_from_first_to_last(recipe: Recipe) -> None:
    plan = make_plan(recipe, FACTS)
    seen: set[str] = set()
    for step in plan.steps:
        assert seen.issuperset([*step.needs.values(), *step.after]), f"{step.name} comes before what it needs"
        assert step.key not in seen, "a key stands for one step"
        seen.add(step.key)


@given(recipes())
def test_every_lane_is_complete_and_every_step_serves_a_lane(recipe: Recipe) -> None:
    plan = make_plan(recipe, FACTS)
    steps: dict[str, Step] = {s.key: s for s in plan.steps}
    assert [lane.target for lane in plan.lanes] == list(recipe.targets)
    served = {plan.data, plan.reference, *(c.key for c in plan.changes), *filter(None, [plan.gains])}
    for lane in plan.lanes:
        assert list(lane.on) == [d.name for d in recipe.devices]
        keys = [
            k for k in (lane.quantize, lane.export, lane.verify, *(k for on in lane.on.values() for k in on.keys)) if k
        ]
        assert bool(lane.quantize) == (lane.target.quantize.scheme not in ("fp32", "fp16"))
        assert all(lane.target.name in steps[k].lane.split("+") for k in keys)
        served.update(keys)
        served.update(k for k in (steps[lane.quantize].needs.values() if lane.quantize else ()))
    assert served == set(steps)
    assert all(STAGES[s.stage].version and len(s.key) == 64 for s in plan.steps)


@given(recipes(), recipes())
def test_recipes_share_a_step_only_where_all_it_reads_is_equal(one: Recipe, two: Recipe) -> None:
    first, second = ({s.key: s for s in make_plan(r, FACTS).steps} for r in (one, two))
    for key in first.keys() & second.keys():
        a, b = first[key], second[key]
        assert (a.stage, a.spec, a.needs) == (b.stage, b.spec, b.needs)


PHONE = EmulatedDevice("pixel4")
EMULATED = dataclasses.replace(RECIPE, devices=(HostDevice(), PHONE))
PHONE_FACTS = dataclasses.replace(
    FACTS,
    digests={**FACTS.digests, "profile pixel4": "p" * 64, "profile other": "o" * 64, "core models": "c" * 64},
    emulator="qemu 7.2",
    profiles={"pixel4": Path("/profiles/pixel4.toml"), "other": Path("/profiles/other.toml")},
)


def emulated_keys(recipe: Recipe = EMULATED, facts: Facts = PHONE_FACTS) -> dict[str, str]:
    lanes = make_plan(recipe, facts).lanes
    return {
        f"{stage}:{lane.target.name}": getattr(keys, stage)
        for lane in lanes
        for keys in lane.of_kind("emulator").values()
        for stage in ("verify", "count", "estimate")
    }


def changed_stages(recipe: Recipe = EMULATED, facts: Facts = PHONE_FACTS) -> set[str]:
    before, after = emulated_keys(), emulated_keys(recipe, facts)
    return {role.partition(":")[0] for role in before if before[role] != after[role]}


def test_an_emulated_device_adds_three_steps_to_each_target_and_changes_no_other() -> None:
    plan, plain = make_plan(EMULATED, PHONE_FACTS), make_plan(RECIPE, FACTS)
    assert {s.key for s in plain.steps} <= {s.key for s in plan.steps}
    added = [s.stage for s in plan.steps if s.key not in {p.key for p in plain.steps}]
    assert sorted(set(added)) == ["count", "estimate", "verify_device"]
    assert len(set(emulated_keys().values())) == len(added)
    assert not any(s.exclusive for s in plan.steps if s.stage in added), "counts are exact beside other work"


def test_what_an_emulated_devices_steps_depend_on() -> None:
    def facts(**changes: Any) -> Facts:
        return dataclasses.replace(PHONE_FACTS, **changes)

    everything_ = {"verify", "count", "estimate"}
    assert changed_stages(facts=facts(emulator="qemu 10.0")) == everything_
    assert changed_stages(facts=facts(digests={**PHONE_FACTS.digests, "profile pixel4": "q" * 64})) == everything_
    assert changed_stages(facts=facts(digests={**PHONE_FACTS.digests, "core models": "d" * 64})) == {"estimate"}
    assert changed_stages(facts=facts(host="another machine")) == set()

    def device(**changes: Any) -> Recipe:
        return dataclasses.replace(EMULATED, devices=(HostDevice(), dataclasses.replace(PHONE, **changes)))

    assert changed_stages(device(name="my_phone")) == set()
    assert changed_stages(device(profile="other", name="pixel4")) == everything_
    assert changed_stages(device(cores="little")) == everything_
    assert changed_stages(device(eval_samples=3)) == {"verify"}
    assert changed_stages(device(min_sqnr_db=70.0)) == {"verify"}
    own = facts(digests={**PHONE_FACTS.digests, "calibration mine.json": "m" * 64})
    assert changed_stages(device(calibration="mine.json"), own) == {"estimate"}


MADE = Target("theirs", file="theirs.tflite")
MADE_FACTS = dataclasses.replace(FACTS, digests={**FACTS.digests, "file theirs.tflite": "t0"})


def test_a_file_made_elsewhere_hangs_on_its_own_bytes_and_on_what_it_is_held_against() -> None:
    recipe = dataclasses.replace(RECIPE, targets=(*RECIPE.targets, MADE))
    before = keys_of(recipe, MADE_FACTS)
    others = {**MADE_FACTS.digests, "file theirs.tflite": "t1"}
    of_file = {"export:theirs", "verify:theirs", "bench:theirs:host"}
    assert differing(before, keys_of(recipe, dataclasses.replace(MADE_FACTS, digests=others))) == of_file
    # What is exported does not hang on it, and the model that it is held against changes its verdict.
    assert {k: v for k, v in before.items() if "theirs" not in k} == keys_of()
    retrained = {**MADE_FACTS.digests, "weights": "w1"}
    assert of_file <= differing(before, keys_of(recipe, dataclasses.replace(MADE_FACTS, digests=retrained)))
    stricter = dataclasses.replace(MADE, verify=Verify(min_sqnr_db=20.0))
    changed = dataclasses.replace(recipe, targets=(*RECIPE.targets, stricter))
    assert differing(before, keys_of(changed, MADE_FACTS)) == {"verify:theirs"}


@pytest.mark.parametrize(("definition", "first"), [("", ()), ("float.onnx", ("answers",))])
def test_files_alone_need_no_pytorch(definition: str, first: tuple[str, ...]) -> None:
    plan = make_plan(dataclasses.replace(RECIPE, model=Model(definition), targets=(MADE,)), MADE_FACTS)
    assert [step.stage for step in plan.steps] == ["data", *first, "adopt", "verify_file", "bench"]
    assert not any(module.startswith("torch") for step in plan.steps for module in step.preload)
    (lane,) = plan.lanes
    assert bool(plan.reference) == bool(definition) and lane.reference == plan.reference and not lane.quantize
    assert ("reference" in plan.step(lane.verify).needs) == bool(definition)
