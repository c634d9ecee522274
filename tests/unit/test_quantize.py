"""`quantize = {…}`: what fits together, what is refused and in which words, and what a step depends on."""

from __future__ import annotations

import ast
import dataclasses
import json
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from quantizations import quantizations

import pocketforge
from pocketforge.errors import RecipeError
from pocketforge.facts.versions import our_libraries
from pocketforge.plan.lanes import make_plan
from pocketforge.plan.steps import Facts
from pocketforge.recipe import Data, Model, Recipe, Target
from pocketforge.recipe.backends import BACKENDS, STORED_LEVELS
from pocketforge.recipe.compress import Distill, Finetune, LayerPair
from pocketforge.recipe.quantize import KEYS, Override, Quantize, Scheme
from pocketforge.recipe.schemes import SCHEMES, SchemeInfo, schemes_with
from pocketforge.recipe.support import refusal, support
from pocketforge.recipe.toml import parse_recipe
from pocketforge.registries import RUNTIMES
from pocketforge.specs.quantize import QuantizeSpec

PACKAGE = Path(pocketforge.__file__).parents[1]
FACTS = Facts({"definition": "d", "weights": "w", "data": "s"}, dict.fromkeys(our_libraries(), "2"), "host", "none")


def recipe(*targets: Target, **changed: Any) -> Recipe:
    return Recipe("any", Model("m.py", "w.safetensors"), Data("digits"), targets, **changed)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (
            {"scheme": "fp32", "backend": "qnnpack"},
            "backend is for scheme mixed or qat_int8 or static_int8, found backend 'qnnpack' with scheme 'fp32'",
        ),
        ({"scheme": "dynamic_int8", "calibration": "mse"}, "calibration is for scheme mixed or static_int8"),
        (
            {"scheme": "static_int8", "entries": 4},
            "entries is for scheme codebook, found entries 4 with scheme 'static_int8'",
        ),
        ({"scheme": "codebook", "overrides": (Override("a"),)}, "overrides is for scheme"),
        ({"scheme": "dynamic_int8", "overrides": (Override(ops=("cat@*",)),)}, "ops is for static schemes"),
        ({"scheme": "static_int8", "overrides": (Override("", "dynamic_int8", ("cat@*",)),)}, "scheme of ops must be"),
        ({"scheme": "static_int8", "finetune": Finetune()}, "finetune is for scheme codebook or qat_int8"),
        ({"scheme": "codebook", "finetune": Finetune(distill=Distill())}, "finetune.distill is for scheme qat_int8"),
        (
            {"scheme": "static_int8", "backend": "qnnpack", "per_channel": True},
            "backend qnnpack has one scale for each weight: per_channel = true is backend xnnpack's",
        ),
        (
            {"scheme": "static_int8", "backend": "fbgemm", "per_channel": False},
            "per_channel = false is backend qnnpack's",
        ),
        (
            {"scheme": "static_int8", "percentile": 99.0},
            "percentile is for calibration percentile, found calibration 'histogram'",
        ),
        (
            {"scheme": "static_int8", "calibration": "percentile", "percentile": 20.0},
            "percentile must be more than 50 and at most 100, found 20.0",
        ),
        ({"scheme": "static_int8", "calibration_samples": 0}, "calibration_samples must be 1 to 10,000,000, found 0"),
        ({"scheme": "static_int8", "weight_bits": 9}, "weight_bits must be 2 to 8, found 9"),
        (
            {"scheme": "weight_only_int4", "group_size": 24},
            "group_size must be 16, 32, 64 or another power of two above, found 24",
        ),
        ({"scheme": "codebook", "entries": 257}, "entries must be 2 to 256"),
        (
            {"scheme": "qat_int8", "finetune": Finetune(precision="bf16")},
            "finetune.precision must be fp32 with scheme qat_int8, found 'bf16'",
        ),
        (
            {"scheme": "qat_int8", "finetune": Finetune(distill=Distill(attention=(LayerPair("a", "b"),)))},
            "hints and attention are for a [[compress]] finetune",
        ),
        (
            {"scheme": "qat_int8", "overrides": (Override("a", "dynamic_int8"),)},
            "overrides: dynamic_int8 cannot be trained for",
        ),
        ({"scheme": "mixed", "max_accuracy_drop": 1.0}, "max_accuracy_drop must be 0 or more and less than 1"),
        ({"scheme": "mixed", "minimize": "estimated_latency_ms"}, "estimated_latency_ms is not known layer by layer"),
        (
            {"scheme": "qat_int8", "freeze_observers": 1.5},
            "freeze_observers must be 0 to 1, found 1.5; did you mean 0.015?",
        ),
        ({"scheme": "static_int8", "repairs": ("equalize", "equalize")}, "repairs must be named once each"),
    ],
)
def test_what_does_not_fit_together_is_refused(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        Quantize(**keys)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({}, "give one of modules"),
        ({"modules": "a", "ops": ("cat@*",)}, "found both"),
        ({"ops": ("cat",)}, "ops must be kind@module"),
        ({"ops": ("@head",)}, "ops must be kind@module"),
    ],
)
def test_an_override_names_layers_or_operations(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Override(**keys)


def test_every_fault_is_said_at_once() -> None:
    with pytest.raises(ValueError, match="fbgemm") as caught:
        Quantize("fp32", backend="fbgemm", weight_bits=11)
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_spec_is_plain_data_and_reaches_its_stage(runtime: str) -> None:
    @given(quantizations(runtime))
    def whatever_is_asked(quantize: Quantize) -> None:
        settled = quantize.settled()
        spec = QuantizeSpec(settled)
        json.dumps(spec.to_json())
        again = pickle.loads(pickle.dumps(spec)).quantize
        assert again == settled == settled.settled()
        assert (again.scheme, again.by_channel, again.overrides) == (
            quantize.scheme, quantize.by_channel, quantize.overrides,
        )  # fmt: skip

    whatever_is_asked()


def test_what_gives_equal_files_settles_to_equal_settings() -> None:
    assert Quantize("fp16").settled() == Quantize("fp16")
    assert Quantize("dynamic_int8").settled() == Quantize("dynamic_int8", per_channel=True)
    assert Quantize("static_int8", backend="qnnpack").settled().per_channel is False
    assert Quantize("qat_int8").settled() == Quantize("qat_int8", finetune=Finetune()).settled()


def test_a_backend_is_what_torch_documents() -> None:
    """The ranges of torch's default qconfigs, and no weight level that ARM's 16-bit sums overflow on."""
    steps = {name: last - first for name, (first, last) in ((n, b.activation_levels) for n, b in BACKENDS.items())}
    assert steps == {"xnnpack": 255, "qnnpack": 255, "fbgemm": 127}
    for backend in BACKENDS.values():
        assert STORED_LEVELS[0] == backend.activation_levels[0] and backend.activation_levels[1] <= STORED_LEVELS[1]
        assert backend.weight_levels == (-127, 127)
        assert backend.calibration == Quantize().calibration, "what a recipe gets that says nothing"


# Which runtime makes what of a scheme


def test_every_scheme_is_known_in_every_runtime_and_a_refusal_says_what_is_nearest() -> None:
    assert [key for key in KEYS if not schemes_with(key)] == [], "keys of no scheme"
    for scheme, info in SCHEMES.items():
        assert info.keys <= set(KEYS), scheme
        assert list(info.support) == list(RUNTIMES), scheme
        for runtime, found in info.support.items():
            assert found.why, (scheme, runtime)
            assert bool(found.nearest) == (found.how == "refused"), (scheme, runtime)
            assert bool(refusal(runtime, Quantize(scheme))) == (found.how == "refused")
            assert support(runtime, Quantize(scheme)) is found


@pytest.mark.parametrize(
    ("scheme", "changed", "said"),
    [
        ("static_int8", {"stored_as": ()}, "stored_as: wanted data types for int8 weights"),
        ("fp32", {"stored_as": ("int8",)}, "stored_as: wanted data types for float32 weights, and none"),
        ("dynamic_int8", {"calibrates": True}, "only a static scheme's ranges come from samples"),
        ("static_int8", {"stage": "", "make": ""}, "stage: wanted one for a static scheme"),
        ("weight_only_int8", {"make": ""}, "make: wanted a function for stage quantize"),
    ],
)
def test_a_row_that_lacks_something_is_no_row(scheme: str, changed: dict[str, Any], said: str) -> None:
    """At import, not in the middle of a build: parity alone would pass a file whose weights nobody looks at."""
    with pytest.raises(ValueError, match=re.escape(said)):
        dataclasses.replace(SCHEMES[scheme], **changed)
    rest: dict[str, Any] = {f.name: None for f in dataclasses.fields(SchemeInfo) if f.name != "limits"}
    with pytest.raises(TypeError, match="limits"):
        SchemeInfo(**rest)


def test_a_row_with_a_key_that_no_table_has_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    row = dataclasses.replace(SCHEMES["codebook"], keys=frozenset({"entires"}))
    monkeypatch.setattr(SCHEMES, "_added", {"mine": row})
    with pytest.raises(ValueError, match=r"scheme mine cannot be used: .* no `quantize` table has: entires"):
        Quantize("mine")


# Of single layers, which compute in one of three ways, code may ask by name.
LAYERS = {"layer", "override", "each"}


def compared_by_name(source: str) -> list[str]:
    """Where a scheme's name is compared with a word, or with several."""
    found: list[str] = []
    source = source.replace("place.scheme", "")  # of a URL
    if ".scheme" not in source:
        return found
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            names = [side for side in sides if isinstance(side, ast.Attribute) and side.attr == "scheme"]
            words = [side for side in sides if isinstance(side, ast.Constant | ast.Tuple | ast.List | ast.Set)]
            if words and any(ast.unparse(name.value) not in LAYERS for name in names):
                found.append(ast.unparse(node))
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and node.value.attr == "scheme":
            found.append(ast.unparse(node))  # .scheme.startswith
    return found


def test_nobody_asks_a_scheme_by_its_name() -> None:
    """Who needs a fact of a scheme looks it up in its row: a scheme that is missing in a list would be so silently."""
    asked = {str(path): compared_by_name(path.read_text("utf-8")) for path in PACKAGE.glob("pocketforge/**/*.py")}
    assert len(asked) > 300 and {path: names for path, names in asked.items() if names} == {}
    for line in ("q.scheme == 'mixed'", "q.scheme in ('fp32', 'fp16')", "x.y.scheme.startswith"):
        assert compared_by_name(line) == [line]


@pytest.mark.parametrize("name", SCHEMES.ours)
def test_what_a_row_names_is_there(name: str) -> None:
    info = SCHEMES[name]
    module, _, function = info.make.partition(":")
    assert not function or f"def {function}(" in (PACKAGE / f"{module.replace('.', '/')}.py").read_text("utf-8")
    words = info.numerics.format(granularity="a", bits="b", backend="c", group_size=3, entries=4)
    assert words and "{" not in words


def test_a_refused_scheme_is_a_fault_of_the_recipe() -> None:
    runtime, scheme = next(
        (r, s) for s, info in SCHEMES.items() for r, found in info.support.items() if found.how == "refused"
    )
    text = f"""
name = "any"
[model]
definition = "m.py"
[data]
source = "digits"
[[target]]
name = "t"
runtime = "{runtime}"
quantize = {{ scheme = "{scheme}" }}
"""
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text)
    (fault,) = caught.value.faults
    assert fault.startswith(f"target[0]: scheme {scheme} is refused for runtime {runtime}: ") and "; nearest: " in fault


def test_dynamic_layers_in_a_static_file_are_for_the_runtime_that_can() -> None:
    quantize = Quantize("static_int8", overrides=(Override("fc*", "dynamic_int8"),))
    assert Target("t", "executorch", quantize).quantize is quantize
    with pytest.raises(ValueError, match=r"overrides of dynamic_int8 .* are for runtime executorch: .*fc"):
        Target("t", "tflite", quantize)


# Rules between a target and the rest of the recipe


@pytest.mark.parametrize(
    ("quantize", "changed", "said"),
    [
        (
            Quantize("static_int8", calibration_samples=200),
            {},
            "target[0].quantize.calibration_samples: wanted at most data.calibration_samples (100), found 200",
        ),
        (Quantize("static_int8", calibration_samples=3), {}, "static_int8 calibrates on 3 samples, wanted 8 or more"),
        (
            Quantize("mixed"),
            {"data": Data("digits", calibration_samples=7)},
            "mixed calibrates on 7 samples, wanted 8 or more",
        ),
        (Quantize("qat_int8"), {"model": Model("m.pt2")}, "a .pt2 is a traced graph and cannot be trained"),
        (
            Quantize("qat_int8", finetune=Finetune(distill=Distill())),
            {"task": "regression"},
            "target[0].quantize.finetune: distill and label_smoothing are of task classification or an [[output]]'s "
            "loss",
        ),
    ],
)
def test_rules_between_a_target_and_the_rest(quantize: Quantize, changed: dict[str, Any], said: str) -> None:
    good = recipe(Target("t", "onnx", Quantize()))
    with pytest.raises(ValueError, match=re.escape(said)):
        dataclasses.replace(good, targets=(Target("t", "onnx", quantize),), **changed)


# Steps


def stages(*targets: Target, **changed: Any) -> list[str]:
    return [step.name for step in make_plan(recipe(*targets, **changed), FACTS).steps]


def test_targets_that_quantize_alike_share_their_steps() -> None:
    stages_of: dict[Scheme, list[str]] = {
        "qat_int8": ["qat[a+b]"],
        "mixed": ["layers[a+b]", "quantize[a+b]"],
        "codebook": ["quantize[a+b]"],
    }
    for scheme, made in stages_of.items():
        names = stages(Target("a", "tflite", Quantize(scheme)), Target("b", "onnx", Quantize(scheme)))
        assert [name for name in names if name.startswith(("qat", "layers", "quantize"))] == made
    assert not [name for name in stages(Target("a", "onnx", Quantize("fp16"))) if name.startswith("quantize")]


def test_the_study_of_layers_does_not_depend_on_what_is_chosen_from_it() -> None:
    def key(quantize: Quantize) -> str:
        plan = make_plan(recipe(Target("a", "onnx", quantize)), FACTS)
        return next(step.key for step in plan.steps if step.stage == "layers")

    assert key(Quantize("mixed")) == key(Quantize("mixed", max_accuracy_drop=0.1))
    assert key(Quantize("mixed")) != key(Quantize("mixed", weight_bits=4))


def test_training_for_a_target_reads_what_training_reads() -> None:
    facts = dataclasses.replace(FACTS, digests={**FACTS.digests, "loss losses.py:sharp": "1"})
    target = Target("a", "onnx", Quantize("qat_int8", finetune=Finetune(loss="losses.py:sharp")))
    other = dataclasses.replace(facts, digests={**facts.digests, "loss losses.py:sharp": "2"})
    keys = [next(s.key for s in make_plan(recipe(target), f).steps if s.stage == "qat") for f in (facts, other)]
    assert keys[0] != keys[1]
    trained = make_plan(recipe(target, compress=(Finetune(),)), facts)
    qat = next(step for step in trained.steps if step.stage == "qat")
    assert qat.needs["checkpoint"] == trained.changes[-1].key
