"""Docs cannot drift: commands, recipe keys, metrics and examples in them are held against the code."""

from __future__ import annotations

import dataclasses
import re
import tomllib
import typing
from pathlib import Path

import pytest

from pocketforge import recipe
from pocketforge.cli.main import COMMANDS
from pocketforge.recipe import app, compress, device, quantize, waiver
from pocketforge.recipe.backends import BACKENDS
from pocketforge.recipe.budget import METRICS, budget_metrics
from pocketforge.recipe.columns import TARGET_KINDS
from pocketforge.recipe.output_loss import OutputLoss
from pocketforge.recipe.preprocess import STEPS
from pocketforge.recipe.schemes import SCHEMES
from pocketforge.recipe.toml import parse_recipe
from pocketforge.registries import RUNTIMES, SOURCES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
QUANTIZATION = (ROOT / "docs" / "quantization.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs" / "compression.md").read_text(encoding="utf-8")
DATA = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
REFERENCE = (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8")
TABLES = {
    "targets": "target",
    "devices": "device",
    "budgets": "budget",
    "waivers": "waiver",
    "inputs": "input",
    "outputs": "output",
    "libraries": "library",
}


STEPS_PAGE = (ROOT / "docs" / "preprocessing.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_every_command_is_in_the_readme() -> None:
    named = set(re.findall(r"^\| `pocketforge ([\w-]+)", README, re.MULTILINE))
    assert named == set(COMMANDS)


@pytest.mark.parametrize(
    "part",
    [
        recipe.Recipe, recipe.Training, recipe.Release, recipe.Model, recipe.InputSpec, recipe.Columns, recipe.Data,
        recipe.Preprocess, recipe.InputSteps, *compress.KINDS.values(),
        compress.Goal, compress.Distill, compress.Teacher, compress.LayerPair,
        recipe.Target, quantize.Quantize, quantize.Override, recipe.Verify, recipe.Budget, recipe.Output, recipe.Post,
        OutputLoss,
        device.HostDevice, device.EmulatedDevice, device.AdbDevice, app.App, app.AppLibrary, waiver.Waiver,
    ],
)  # fmt: skip
def test_every_recipe_key_is_in_the_reference(part: type) -> None:
    keys = {TABLES.get(f.name, f.name) for f in dataclasses.fields(part)} - {"folder", "varying", "bucket"}
    missing = {k for k in keys if not re.search(rf"`(\[+[\w.]*)?{k}\b|\b{k} =|\[\[(\w+\.)?{k}\]\]", REFERENCE)}
    assert not missing, f"{part.__name__}: {missing} not in docs/recipe.md"


@pytest.mark.parametrize("name", STEPS)
def test_every_step_and_its_keys_are_in_the_page_of_preprocessing(name: str) -> None:
    part = next(
        part for part in STEPS_PAGE.split("\n### ") if part.startswith(f"`{name}`") or f", `{name}`" in part[:60]
    )
    missing = {f.name for f in dataclasses.fields(STEPS[name]) if f.name != "type" and f"`{f.name}`" not in part}
    assert not missing, f"{name}: {missing} not in docs/preprocessing.md"
    words = {word for hint in typing.get_type_hints(STEPS[name]).values() for word in literals(hint)} - set(STEPS)
    unsaid = {word for word in words if f'"{word}"' not in part and f"`{word}`" not in part}
    assert not unsaid, f"{name}: {unsaid} not in docs/preprocessing.md"


def literals(hint: object) -> set[str]:
    """The words that a field may hold."""
    within = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Literal:
        return {word for word in within if isinstance(word, str)}
    return {word for each in within for word in literals(each)}


def test_the_page_of_preprocessing_has_lists_that_are_lists() -> None:
    found = blocks(STEPS_PAGE, "toml")
    assert len(found) >= 5
    (recipe_text,) = blocks(README, "toml")
    for text in found:
        before, _, after = recipe_text.partition("[data.preprocess]")
        rest = after[after.index("\n[") :]
        assert parse_recipe(f"{before}{text}{rest}").data.preprocess, text


def test_every_budget_metric_is_in_the_reference() -> None:
    table = REFERENCE[REFERENCE.index("## `[[budget]]`") :]
    for metric in budget_metrics():
        if metric in METRICS and METRICS[metric].roles:  # test_output_docs.py has those of outputs
            continue
        assert f"`{metric}`" in table, metric


def test_the_reference_names_verifys_real_default_limits() -> None:
    lines = REFERENCE[REFERENCE.index("`verify` limits decide") :].splitlines()
    header = next(line for line in lines if line.startswith("| scheme |"))
    names = [cell.strip(" `") for cell in header.split("|")[2:-1]]
    for scheme, info in SCHEMES.items():
        row = next(line for line in lines if line.startswith(f"| {scheme} |"))
        cells = [cell.strip() for cell in row.split("|")[2:-1]]
        found = {name: float(cell) for name, cell in zip(names, cells, strict=True) if cell != "-"}
        assert found == info.limits, scheme


def test_the_quantization_guide_says_what_each_runtime_makes_of_each_scheme() -> None:
    tables = QUANTIZATION.splitlines()
    for scheme, info in SCHEMES.items():
        row = next(line for line in tables if line.startswith(f"| `{scheme}` |"))
        cells = [cell.strip() for cell in row.split("|")[2:-1]]
        assert [cell.partition(":")[0] for cell in cells[:3]] == [info.support[r].how for r in RUNTIMES], scheme
    for name, backend in BACKENDS.items():
        row = next(line for line in tables if line.startswith(f"| `{name}` |"))
        assert backend.about in row, name


def test_the_data_page_tells_of_every_source_what_its_row_says() -> None:
    rows = [line for line in DATA.splitlines() if line.startswith("| `")]
    wanted = []
    for name, info in SOURCES.ours.items():
        written = info.place if name == "function" else f"{name}:{info.place}".rstrip(":")
        targets = "any" if name == "function" else "by columns" if info.columns else ", ".join(info.targets)
        extra = f"`pocketforge[{info.extra}]`" if info.extra else "-"
        wanted.append(f"| `{written}` | {info.about} | {info.splits or 'none'} | {targets} | {extra} |")
    assert rows == wanted
    assert {f"`{name}`" for name in TARGET_KINDS} <= set(re.findall(r"`\w+`", DATA))


def test_the_readmes_recipe_is_a_recipe() -> None:
    (text,) = blocks(README, "toml")
    assert parse_recipe(text).targets[0].name == "flowers_android"


def test_the_compression_guides_entries_are_entries() -> None:
    (text,) = blocks(GUIDE, "toml")
    (recipe_text,) = blocks(README, "toml")
    entries = parse_recipe(f"{recipe_text}\n{text}").compress
    assert [entry.type for entry in entries] == ["prune_channels", "finetune"]


def test_the_compression_guide_names_every_kind_and_every_shipped_recipe_of_it() -> None:
    assert not [kind for kind in compress.KINDS if f"`{kind}`" not in GUIDE and f"`{kind}" not in GUIDE]
    for path in ROOT.glob("models/*/*.toml"):
        recipe_ = parse_recipe(path.read_text(encoding="utf-8"), str(path), str(path.parent))
        if recipe_.compress and path.name != "recipe.toml":
            assert f"shipped:{path.parent.name}/{path.stem}" in GUIDE, path


def test_the_readme_shows_a_real_run_of_the_shipped_recipe() -> None:
    shown = README[README.index("<!-- transcript -->") : README.index("<!-- /transcript -->")]
    shipped = tomllib.loads((ROOT / "models/digits_cnn/release.toml").read_text(encoding="utf-8"))
    for target in shipped["target"]:
        assert target["name"] in shown
    assert re.search(r"^verdict +PASS", shown, re.MULTILINE)
    files = README[README.index("<!-- files -->") : README.index("<!-- /files -->")]
    assert files.count("digits_") == 2 * 8  # six model files and two .ort, a sidecar each
    assert "SHA256SUMS" in files


@pytest.mark.parametrize("path", sorted(ROOT.glob("models/*/*.toml")), ids=lambda p: f"{p.parent.name}/{p.name}")
def test_every_shipped_recipe_is_valid(path: Path) -> None:
    parse_recipe(path.read_text(encoding="utf-8"), str(path), str(path.parent))


def test_the_ci_runs_the_readmes_test_command() -> None:
    run = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    command = next(line for line in README.splitlines() if line.startswith("$ python3") and "demo" not in line)
    for part in command.removeprefix("$ ").split(" && "):
        assert part in run


def test_no_package_registry_is_named() -> None:
    # Split, so that this file does not name one either.
    hosts = ("py" + "pi.org", "download.py" + "torch.org", "npm" + "js.org", "pythonhosted" + ".org")
    for path in [
        *ROOT.glob("*.*"),
        *ROOT.glob("docs/*"),
        *ROOT.glob("pipeline/**/*.py"),
        ROOT / ".ci" / "run",
    ]:
        if path.is_file():
            content = path.read_text(encoding="utf-8", errors="replace")
            assert not [h for h in hosts if h in content], path
