"""examples/: every recipe is one and plans, names only what is there, and its page says commands that exist."""

from __future__ import annotations

import ast
import re
import shutil
import tomllib
import wave
from pathlib import Path

import pytest

from pocketforge.cli.main import COMMANDS, main
from pocketforge.recipe.roles import ROLES
from pocketforge.recipe.toml import load_recipe, parse_recipe

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path.parent for path in ROOT.glob("examples/*/recipe.toml"))
INDEX = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")
# What `python examples/voices.py` makes of a package that is not installed here.
VOICES = ("speaker_embedding", "voice_activity")
each_example = pytest.mark.parametrize("folder", EXAMPLES, ids=lambda path: path.name)


def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


@each_example
def test_an_example_is_a_recipe_whose_files_and_functions_are_there(folder: Path) -> None:
    recipe = load_recipe(folder / "recipe.toml")
    assert recipe.name == folder.name and "build" in functions(folder / recipe.model.definition)
    file, _, function = recipe.data.source.partition(":")
    if file.endswith(".py"):
        assert function in functions(folder / file)
    for own in (own for output in recipe.judged for own in output.user_metrics):
        assert own.name in functions(folder / own.file)
    assert all(path.is_file() for path in recipe.named_files().values() if path.name != "voices")
    # Every target is held to something that its task is about, not to its size alone.
    metrics = {budget.metric.rpartition(".")[2] for budget in recipe.budgets}
    assert any(metric.endswith(("_drop", "_drop_db")) for metric in metrics) and "size_bytes" in metrics


@each_example
def test_an_example_plans(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POCKETFORGE_CACHE_DIR", str(tmp_path / "cache"))
    copied = shutil.copytree(folder, tmp_path / folder.name, ignore=shutil.ignore_patterns("voices", "__pycache__"))
    if folder.name in VOICES:
        for split in ("train", "eval"):
            (copied / "voices" / split / "m1").mkdir(parents=True)
            with wave.open(str(copied / "voices" / split / "m1" / "0.wav"), "wb") as sound:
                sound.setparams((1, 2, 16_000, 0, "NONE", ""))
                sound.writeframes(bytes(64))
    assert main(["plan", str(copied / "recipe.toml")]) == 0
    shown = capsys.readouterr().out
    targets = [t["name"] for t in tomllib.loads((folder / "recipe.toml").read_text(encoding="utf-8"))["target"]]
    assert len(targets) >= 2 and all(name in shown for name in targets)


@each_example
def test_an_example_s_page_has_real_commands_and_a_real_run(folder: Path) -> None:
    page = (folder / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^\$ (.+)$", page, re.MULTILINE)
    assert f"pocketforge build examples/{folder.name}/recipe.toml" in commands
    for command in commands:
        program, verb, *rest = command.split()
        assert (program, verb) in {("pip", "install"), ("python", "examples/voices.py")} or (
            program == "pocketforge" and verb in COMMANDS
        ), command
        for path in (word for word in rest if word.startswith("examples/") and not word.endswith("/voices")):
            assert (ROOT / path).exists(), command
    assert re.search(r"^verdict +PASS", page, re.MULTILINE)
    recipe = load_recipe(folder / "recipe.toml")
    shown = [line.split() for line in page.splitlines()]
    for target in recipe.targets:
        assert any(line[:2] == ["PASS", target.name] for line in shown), target.name


@each_example
def test_the_index_and_the_pages_of_its_tasks_name_an_example(folder: Path) -> None:
    (line,) = [line for line in INDEX.splitlines() if line.startswith(f"| `examples/{folder.name}` |")]
    pages = re.findall(r"\]\((\w+)\.md\)", line)
    assert pages
    for page in pages:
        assert f"`examples/{folder.name}`" in (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8"), page


@pytest.mark.parametrize("page", sorted({role.page for role in ROLES.values()}))
def test_every_role_has_a_page_whose_recipe_is_one(page: str) -> None:
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    roles = [name for name, role in ROLES.items() if role.page == page]
    assert all(re.search(rf"`{name}`|\"{name}\"", text) for name in roles), roles
    (shown,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    rest = '[model]\ndefinition = "m.py"\n[data]\nsource = "d.py:f"\n[[target]]\nname = "t"\nruntime = "onnx"\n'
    recipe = parse_recipe(f'name = "x"\n{shown}{rest}')
    assert {output.role for output in recipe.outputs} & set(roles)
    named = re.findall(r"\]\((\w+)\.md", text)
    assert named and all((ROOT / "docs" / f"{each}.md").is_file() for each in named)
