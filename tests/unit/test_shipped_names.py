"""Names of shipped files are held against each other, and against what file systems take, before anything runs."""

from __future__ import annotations

import pytest

from pocketforge.recipe import Data, Model, Recipe, Runtime, Target
from pocketforge.recipe.preprocess import InputSteps
from pocketforge.recipe.shipped_names import SUMS, faults_of_names, shipped_names
from pocketforge.recipe.sound_steps import Tokenize
from pocketforge.registries import RUNTIMES

ONNX: Runtime = "onnx"
TFLITE: Runtime = "tflite"
PTE: Runtime = "executorch"
LONG = "x" * 246  # with .ort.json 255


def recipe_of(*targets: tuple[str, Runtime], name: str = "r") -> Recipe:
    made = tuple(Target(name=target, runtime=runtime) for target, runtime in targets)
    return Recipe(name=name, model=Model(definition="m.py"), data=Data(source="digits"), targets=made)


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        # The case as it was found: one sidecar over the other.
        ([("a", ONNX), ("a.ort", TFLITE)], ["targets 'a' and 'a.ort' would both ship a.ort.json"]),
        ([("a.ort", PTE), ("a", ONNX)], ["targets 'a.ort' and 'a' would both ship a.ort.json"]),
        ([("a", ONNX), ("a.ort", ONNX)], ["'a' and 'a.ort' would both ship a.ort.json"]),
        ([("net", TFLITE), ("Net", PTE)], ["'net' and 'Net'", "net.json and Net.json", "case does not count"]),
        ([("a", ONNX), ("A.ORT", TFLITE)], ["a.ort.json and A.ORT.json"]),
        ([("b", TFLITE), ("a", ONNX), ("c", PTE), ("a.Ort", PTE)], ["targets 'a' and 'a.Ort'"]),
        ([("con", TFLITE)], ["'con'", "Windows takes con.tflite for a device"]),
        ([("Lpt1.v2", ONNX)], ["'Lpt1.v2'", "Windows"]),
        ([(LONG + "x", ONNX)], ["….ort.json would have a name of 256 bytes", "shorten it by 1"]),
        ([("y" * 252, TFLITE)], ["….tflite would have a name of 259 bytes", "shorten it by 4"]),
        ([("y" * 249, TFLITE)], ["….tflite", "256 bytes"]),
        ([("y" * 251, PTE)], ["….json", "256 bytes"]),
    ],
    ids=lambda value: None if isinstance(value, list) and isinstance(value[0], str) else "",
)
def test_names_that_cannot_lie_in_one_folder_are_refused(targets: list[tuple[str, Runtime]], said: list[str]) -> None:
    with pytest.raises(ValueError, match="target") as caught:
        recipe_of(*targets)
    for words in said:
        assert words in str(caught.value)


@pytest.mark.parametrize(
    "targets",
    [
        [("a", ONNX), ("a.json", TFLITE), ("a.onnx", PTE), (SUMS, ONNX), ("a.ort.json", PTE)],
        [("a", TFLITE), ("a.ort", TFLITE), ("a.ort.ort", ONNX)],
        [("console", ONNX), ("com10", TFLITE), ("v2.con", PTE)],
        [(LONG, ONNX), ("y" * 248, TFLITE), ("z" * 250, PTE)],
    ],
)
def test_names_that_can_are_taken_and_none_meets_another(targets: list[tuple[str, Runtime]]) -> None:
    names = [name for target in recipe_of(*targets).targets for name in shipped_names(target)]
    assert len({name.casefold() for name in [*names, SUMS]}) == len(names) + 1
    assert max(len(name) for name in names) <= 255


def test_a_name_that_cannot_be_a_folder_is_refused() -> None:
    recipe_of(("a", ONNX), name="n" * 255)
    with pytest.raises(ValueError, match="longer than 255 bytes"):
        recipe_of(("a", ONNX), name="n" * 256)


def test_what_ships_is_what_the_runtimes_say() -> None:
    (onnx,) = recipe_of(("a", ONNX)).targets
    assert list(shipped_names(onnx)) == ["a.onnx", "a.json", "a.ort", "a.ort.json"]
    assert {name for name, runtime in RUNTIMES.items() if runtime.beside} == {ONNX}


@pytest.mark.parametrize(
    ("files", "target", "said"),
    [
        (
            ("a/tokenizer.json", "b/tokenizer.json"),
            "net",
            "b/tokenizer.json is shipped as tokenizer.json, as a/tokenizer.json is",
        ),
        (("a/net.json",), "net", "target 'net' would ship net.json, as the release has a file net.json"),
        (("a/Manifest.json",), "net", "a/Manifest.json is shipped as Manifest.json, as manifest.json is"),
        (("a/con.json",), "net", "its name is none on every system"),
    ],
)
def test_tokenizers_that_cannot_lie_beside_the_others_are_refused(
    files: tuple[str, ...], target: str, said: str
) -> None:
    made = (Target(name=target, runtime=ONNX),)
    assert any(said in fault for fault in faults_of_names(made, files)), faults_of_names(made, files)


def test_one_tokenizer_of_two_inputs_is_one_file() -> None:
    steps = tuple(InputSteps((Tokenize("a/tokenizer.json", 4),), name) for name in ("one", "two"))
    assert Data("d.py:f", preprocess=steps).tokenizers() == ("a/tokenizer.json",)
    assert faults_of_names((Target(name="net", runtime=ONNX),), ("a/tokenizer.json",)) == []
