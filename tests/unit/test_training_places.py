"""Where a recipe trains: the table's rules, which GPUs a plan takes, and what a step's key says of them. No torch."""

from __future__ import annotations

import dataclasses
import sys

import pytest

from pocketforge.errors import DeviceUnavailable, RecipeError
from pocketforge.facts.gpus import gpus_for, gpus_here, torch_build, training_gpus
from pocketforge.plan.lanes import make_plan
from pocketforge.plan.steps import Facts
from pocketforge.recipe.compress import Finetune
from pocketforge.recipe.toml import parse_recipe
from pocketforge.recipe.training import gpus_in_words

TEXT = """
name = "places"
[model]
definition = "model.py"
[data]
source = "digits"
{training}
[[compress]]
type = "finetune"
{finetune}
[[target]]
name = "a"
runtime = "onnx"
quantize = {{ scheme = "{scheme}" }}
"""
GPU = "NVIDIA H200, compute capability 9.0, CUDA 12.8, cuDNN 91002"
NO_GPU = ((), "torch 2 is built without CUDA")


def recipe(device: str = "", finetune: str = "", scheme: str = "qat_int8"):
    training = f'[training]\ndevice = "{device}"' if device else ""
    return parse_recipe(TEXT.format(training=training, finetune=finetune, scheme=scheme), "recipe.toml", "/nowhere")


def steps(read, gpus: tuple[str, ...] = ()):
    """Stage → (key, spec as the key has it)."""
    versions = dict.fromkeys(module_versions(), "1")
    facts = Facts({}, versions, "host", "none", gpus=gpus)
    return {step.stage: (step.key, step.spec.to_json()) for step in make_plan(read, facts).steps}


def module_versions() -> set[str]:
    from pocketforge.facts.versions import our_libraries

    return our_libraries()


def test_keys_say_which_gpu_trained_and_nothing_of_the_cpu():
    cpu = steps(recipe())
    assert "trained_on" not in cpu["finetune"][1] and "trained_on" not in cpu["qat"][1]
    # Where "auto" is the CPU, what was made there is taken.
    assert steps(recipe("auto")) == cpu == steps(recipe("cpu"))
    gpu = steps(recipe("auto"), (GPU,))
    assert gpu["finetune"][1]["trained_on"] == gpu["qat"][1]["trained_on"] == GPU
    other = steps(recipe("auto"), (GPU.replace("12.8", "13.0"),))
    assert len({each["finetune"][0] for each in (cpu, gpu, other)}) == 3
    assert len({each["qat"][0] for each in (cpu, gpu, other)}) == 3
    assert gpu["data"] == cpu["data"]
    # A process is on a GPU of its own, and a second one that waits is none of its.
    two = (GPU, GPU.replace("H200", "A100"))
    assert steps(recipe("auto"), two)["finetune"][1] == gpu["finetune"][1]
    assert steps(recipe("auto", "processes = 2"), two)["finetune"][1]["trained_on"] == " + ".join(two)
    assert gpus_in_words((GPU, GPU), 2) == GPU


def test_which_gpus_a_recipe_takes():
    here = lambda: ((GPU, GPU), "")  # noqa: E731
    none = lambda: NO_GPU  # noqa: E731
    assert training_gpus(recipe("auto"), here) == (GPU, GPU) == training_gpus(recipe("cuda"), here)
    assert training_gpus(recipe("auto"), none) == () == training_gpus(recipe(), here)
    # Nothing is asked where nothing trains.
    trains = dataclasses.replace(recipe("cuda", scheme="static_int8"), compress=())
    assert training_gpus(trains, lambda: pytest.fail("asked")) == ()
    with pytest.raises(DeviceUnavailable, match='"cuda", and there is no GPU to train on: torch 2 is built') as error:
        training_gpus(recipe("cuda"), none)
    assert error.value.exit_code == 4 and "auto" in error.value.hint
    with pytest.raises(DeviceUnavailable, match="processes = 3 train on a GPU each, found 2: NVIDIA H200"):
        training_gpus(recipe("auto", "processes = 3"), here)
    assert training_gpus(recipe("auto", "processes = 3"), none) == ()
    half = recipe("auto", 'precision = "fp16"')
    assert training_gpus(half, here) == (GPU, GPU)
    with pytest.raises(RecipeError) as refused:
        training_gpus(half, none)
    assert "compress[0].precision" in str(refused.value) and "is the CPU here" in str(refused.value)
    assert gpus_for("auto", {"train": Finetune()}, here) == (GPU, GPU)


def test_fp16_is_refused_where_there_is_surely_no_gpu():
    with pytest.raises(RecipeError, match=r'compress\[0\].precision.*training.device is "cpu"'):
        recipe("cpu", 'precision = "fp16"')
    with pytest.raises(RecipeError, match=r"training\.device"):
        recipe("gpu")
    text = TEXT.format(training='[training]\ndevice = "cuda"', finetune="", scheme="codebook")
    inner = text.replace('"codebook"', '"codebook", finetune = { precision = "fp16" }')
    with pytest.raises(RecipeError, match=r"target\[0\].quantize.finetune.precision.*a codebook is trained on the CPU"):
        parse_recipe(inner, "recipe.toml", "/nowhere")


def test_torch_s_build_is_read_without_importing_it(monkeypatch, tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise SystemExit('imported')\n")
    version = tmp_path / "torch" / "version.py"
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    for name in [name for name in sys.modules if name.partition(".")[0] == "torch"]:
        monkeypatch.delitem(sys.modules, name)
    version.write_text("from typing import Optional\n__version__ = '2.13.0+cpu'\ncuda: Optional[str] = None\n")
    assert torch_build() == ("2.13.0+cpu", "")
    assert gpus_here() == ((), "torch 2.13.0+cpu is built without CUDA")
    version.write_text("__version__ = '2.13.0'\ncuda: str = '12.8'\n")
    assert torch_build() == ("2.13.0", "12.8")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    found, why = gpus_here()
    assert found == () and "could not say which there are" in why
