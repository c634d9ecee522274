"""docs/outputs.md has every role, target and metric as the code has them."""

from __future__ import annotations

import re
from pathlib import Path

from pocketforge.data.role_targets import WANTED
from pocketforge.recipe import output_loss
from pocketforge.recipe.budget import METRICS
from pocketforge.recipe.output import SETTINGS
from pocketforge.recipe.output_rules import faults_of_outputs
from pocketforge.recipe.roles import ROLES
from pocketforge.recipe.toml import parse_recipe

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "outputs.md").read_text(encoding="utf-8")


def table_of_roles() -> str:
    lines = ["| role | what it holds | held against | metrics | post |", "|---|---|---|---|---|"]
    for name, role in ROLES.items():
        metrics = ", ".join(f"`{metric}`" for metric in role.metrics)
        posts = ", ".join(f"`{post}`" for post in role.posts)
        targets = ", ".join(f"`{target}`" for target in role.targets)
        lines.append(f"| `{name}` | {role.about} | {targets} | {metrics} | {posts} |")
    return "\n".join(lines)


def table_of_targets() -> str:
    lines = ["| target | what it has to be |", "|---|---|"]
    return "\n".join([*lines, *(f"| `{kind}` | {words} |" for kind, words in WANTED.items())])


def table_of_metrics() -> str:
    lines = ["| metric | roles | better | unit | ties | a budget's limit |", "|---|---|---|---|---|---|"]
    for name, row in METRICS.ours.items():
        if row.roles and not row.drop_of and name != "accuracy_drop":
            ties = "counted" if row.counted else "real"
            lines.append(f"| `{name}` | {', '.join(row.roles)} | {row.better} | {row.unit} | {ties} | {row.limits} |")
    return "\n".join(lines)


def test_the_tables_are_the_codes() -> None:
    for table in (table_of_roles(), table_of_targets(), table_of_metrics()):
        assert table in TEXT, f"docs/outputs.md has to have:\n{table}"


def test_every_post_processing_and_setting_is_told_of() -> None:
    for post, settings in SETTINGS.items():
        assert f'| `"{post}"` |' in TEXT, post
        for setting in settings:
            assert f"`{setting}`" in TEXT, (post, setting)


def test_every_role_s_losses_and_their_settings_are_told_of() -> None:
    for name, role in ROLES.items():
        first = f"| `{name}` | none of its own" if role.untrained else f"| `{name}` | `{role.losses[0]}`"
        (line,) = [line for line in TEXT.splitlines() if line.startswith(first)]
        assert all(f"`{loss}`" in line for loss in role.losses), line
    for settings in output_loss.SETTINGS.values():
        assert all(f"`{setting}`" in TEXT for setting in settings)


def test_the_example_is_a_recipe() -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    rest = '[model]\ndefinition = "m.py"\n[data]\nsource = "d.py:f"\n[[target]]\nname = "t"\nruntime = "onnx"\n'
    recipe = parse_recipe(f'name = "x"\n{example}{rest}')
    assert not list(faults_of_outputs(recipe.outputs, ()))
    assert recipe.task == "outputs" and recipe.task_metric == "mask.miou"
