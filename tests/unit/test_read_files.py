"""Whatever a step reads is in its key: the files that data, preprocessing and judging name, and their libraries."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from pocketforge.data.files import look_at
from pocketforge.errors import ModelError
from pocketforge.facts.gather import gather
from pocketforge.plan.lanes import make_plan
from pocketforge.plan.steps import Facts
from pocketforge.recipe.columns import Columns
from pocketforge.recipe.toml import load_recipe, parse_recipe

RECIPE = """\
name = "r"

[model]
definition = "model.py"
outputs = ["kind", "aux"]

[[model.input]]
name = "ids"
argument = "batch.ids"
shape = [1, 8]
dtype = "int64"

[data]
source = "csv:samples.csv"
labels = "labels.txt"
columns = { input = ["text"], target = { label = "kind", value = "size" } }

[[data.preprocess]]
input = "ids"
step = [{ type = "tokenize", file = "tokenizer.json", max_length = 8, gives = ["ids"] }]

[[output]]
name = "kind"
role = "logits"
metrics = ["accuracy_top1", "own.py:score:higher"]
post = "post.py:kept"

[[output]]
name = "aux"
role = "regression"

[[target]]
name = "t"
runtime = "onnx"
"""
FILES = {
    "recipe.toml": RECIPE,
    "model.py": "def build(): ...\n",
    "samples.csv": "text,kind,size,other\none,a,1,2\ntwo,b,2,3\n",
    "labels.txt": "a\nb\n",
    "tokenizer.json": "{}\n",
    "own.py": "import helper\ndef score(outputs, targets): ...\n",
    "helper.py": "LIMIT = 1\n",
    "post.py": "def kept(outputs): ...\n",
}
# Of steps that read no sample again.
AFTER_DATA = {"reference[trunk]", "export[t]", "verify[t]", "bench[t]"}
ALL = {"data[trunk]", *AFTER_DATA}


def keys(folder: Path) -> dict[str, str]:
    recipe = load_recipe(folder / "recipe.toml")
    return {step.name: step.key for step in make_plan(recipe, gather(recipe)).steps}


def write(folder: Path, **changed: str) -> Path:
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(changed.get(name.replace(".", "_"), text), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return keys(write(tmp_path_factory.mktemp("before") / "project"))


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("tokenizer.json", ALL),
        ("labels.txt", ALL),
        ("samples.csv", ALL),
        ("own.py", AFTER_DATA),
        ("helper.py", AFTER_DATA),
        ("post.py", AFTER_DATA),
        ("model.py", AFTER_DATA),
    ],
)
def test_a_changed_file_changes_the_steps_that_read_it(
    before: dict[str, str], tmp_path: Path, name: str, steps: set[str]
) -> None:
    more = {name.replace(".", "_"): FILES[name] + ("c\n" if name == "labels.txt" else "\n")}
    after = keys(write(tmp_path / "project", **more))
    assert {step for step in after if after[step] != before[step]} == steps


@pytest.mark.parametrize(
    ("one", "other", "steps"),
    [
        ('value = "size"', 'value = "other"', ALL),
        ("max_length = 8", "max_length = 6", ALL),
        ('gives = ["ids"]', 'gives = ["mask"]', ALL),
        ('"batch.ids"', '"ids"', AFTER_DATA),
        (":higher", ":lower", AFTER_DATA),
        ("post.py:kept", "post.py:other", AFTER_DATA),
        ('"accuracy_top1", ', "", AFTER_DATA),
    ],
)
def test_a_changed_word_of_the_recipe_does_too(
    before: dict[str, str], tmp_path: Path, one: str, other: str, steps: set[str]
) -> None:
    assert one in RECIPE
    after = keys(write(tmp_path / "project", recipe_toml=RECIPE.replace(one, other)))
    assert {step for step in after if after[step] != before[step]} == steps


def test_the_files_of_a_target_are_read_whatever_the_first_record_has(tmp_path: Path) -> None:
    """A first record without a mask, of a split that no step reads, took all masks out of the keys."""
    (tmp_path / "a.csv").write_text("image,mask,split\n1.png,,train\n2.png,2m.png,val\n", encoding="utf-8")
    for name in ("1.png", "2.png", "2m.png"):
        (tmp_path / name).write_bytes(b"png")
    columns = Columns(("image",), targets={"mask": "mask"}, split="split")
    with pytest.raises(ModelError, match=r"a.csv line 2 names no file: found ''"):
        look_at("csv:a.csv", lambda name: tmp_path / name, columns=columns)


def test_a_state_s_words_are_in_the_keys_of_its_sequences() -> None:
    text = """\
name = "r"
model = { definition = "m.py", input = [{ shape = [1, 3] }, { shape = [2, 1, 4], state = "h" }] }
data = { source = "digits" }
target = [{ name = "t", runtime = "onnx" }]
"""
    facts = gather_nothing()
    before, after = (
        make_plan(parse_recipe(each), facts).steps
        for each in (text, text.replace('state = "h"', 'state = "c", argument = "c"'))
    )
    assert all(one.key != other.key for one, other in zip(before, after, strict=True))


def gather_nothing() -> Facts:
    """Every library in one version, no files."""
    from pocketforge.facts.versions import our_libraries

    return Facts({}, dict.fromkeys(our_libraries(), "1.0"), "host0", "none")


TASK = 'name = "r"\nmodel = {{ definition = "m.py" }}\ntarget = [{{ name = "t", runtime = "onnx" }}]\n{}'
SPEARMAN = TASK.format('data = { source = "digits" }\ntask = "regression"\nmetric = "spearman"\n')
PLAIN = TASK.format('data = { source = "digits" }\ntask = "regression"\n')


@pytest.mark.parametrize(
    ("text", "library", "changes"),
    [
        (SPEARMAN, "scipy", lambda stage: stage != "data"),
        (PLAIN, "scipy", lambda stage: False),
        (TASK.format('data = { source = "csv:a.csv" }\n'), "soundfile", lambda stage: True),
        (TASK.format('data = { source = "jsonl:a.jsonl" }\n'), "soundfile", lambda stage: True),
        (TASK.format('data = { source = "parquet:a.parquet" }\n'), "soundfile", lambda stage: True),
    ],
)
def test_a_new_version_of_what_reads_or_judges_is_another_key(
    text: str, library: str, changes: Callable[[str], bool]
) -> None:
    recipe, facts = parse_recipe(text), gather_nothing()
    newer = dataclasses.replace(facts, versions={**facts.versions, library: "2.0"})
    before, after = make_plan(recipe, facts).steps, make_plan(recipe, newer).steps
    differing = {one.stage for one, other in zip(before, after, strict=True) if one.key != other.key}
    assert differing == {step.stage for step in before if changes(step.stage)}
