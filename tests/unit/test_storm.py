"""A small part of two storms with a fixed seed, and that their judges see what is wrong. All of it: `nox -s storm`."""

from __future__ import annotations

import os
import random
import re
import signal
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from storm import harness, lines
from storm.harness import STORMS, Storm, Trial
from storm.recipe_mutations import mutate
from storm.recipe_nonsense import nonsense

from pocketforge.facts import versions

# JAX, which a worker's other tests import, warns of forks: these children import nothing and compute nothing with it.
pytestmark = pytest.mark.filterwarnings(r"ignore:os\.fork\(\) was called:RuntimeWarning")
ROOT = Path(__file__).parents[2]
EVERYTHING = ROOT / "tests" / "storm" / "everything.toml"


def wrong(storm: Storm, folder: Path, numbers: range) -> list[str]:
    harness.run(storm, folder, numbers)
    found = harness.read(harness.results_file(folder, storm.name))
    assert len(found) == len(numbers)
    return [f"{r['number']}, {r['kind']}: {r['wrong']}" for r in found if r["wrong"]]


def test_mutated_recipes_are_refused_in_words_or_mean_something(tmp_path: Path) -> None:
    assert wrong(harness.load("recipes"), tmp_path, range(150)) == []


def test_a_store_killed_at_a_line_is_whole(tmp_path: Path) -> None:
    def some(base: Path) -> lines.Lines:
        return lines.Lines(base, [lines.store_scenario()])

    (tmp_path / "counted").mkdir()
    count = len(some(tmp_path / "counted"))
    numbers = range(7, count, 24)
    assert wrong(Storm("lines", "", 0, 60, some), tmp_path, numbers) == []


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ('"accuracy_drop"\nlimit = 0.05', '"accuracy_drop"\nlimit = 1', "accuracy_drop = 1"),
        ('"accuracy_top1"\nlimit = 0.9', '"accuracy_top1"\nlimit = 98', "accuracy_top1 = 98"),
        ("min_argmax_agreement = 0.9", "min_argmax_agreement = -1", "min_argmax_agreement = -1"),
        ("threads = 1", "threads = 10_000", "there are"),
        ("epochs = 2", "epochs = 1" + 30 * "0", "epochs = 1e"),
        ("resize = [32, 32]", "resize = [1_000_000, 1_000_000_000_000_000_000]", "resize"),
        ('name = "small"', 'name = "Plain.ort"', "two shipped files are called plain.ort"),
        ('name = "small"', f'name = "{252 * "a"}"', "name of 252 bytes"),
        ("min_seconds = 0.2", "min_seconds = 1e30", "min_seconds"),
    ],
)
def test_nonsense_is_known_and_sense_is_none(before: str, after: str, says: str) -> None:
    text = EVERYTHING.read_text(encoding="utf-8")
    assert nonsense(tomllib.loads(text)) == []
    assert before in text
    assert says in " ".join(nonsense(tomllib.loads(text.replace(before, after))))


def test_shipped_recipes_make_sense() -> None:
    for path in ROOT.glob("models/*/*.toml"):
        assert nonsense(tomllib.loads(path.read_text(encoding="utf-8"))) == [], path


def test_a_number_makes_the_same_mutation_again() -> None:
    text = EVERYTHING.read_bytes()
    both = [[mutate(text, tomllib.loads(text.decode()), random.Random(f"0/{n}")) for n in range(50)] for _ in range(2)]
    assert both[0] == both[1]
    assert len({mutated for _, mutated in both[0]}) > 45


def some_wrong(base: Path) -> lines.Lines:
    def trial(number: int, rng: random.Random, folder: Path) -> Trial:
        assert list(folder.iterdir()) == []
        if number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        while number == 4:
            pass
        return Trial("a kind", "wrong: 7" if number == 5 else "")

    return trial  # type: ignore[return-value]


def test_a_trial_that_ends_its_process_is_wrong_and_the_others_go_on(tmp_path: Path) -> None:
    storm = Storm("recipes", "", 8, 1, some_wrong)
    harness.run(storm, tmp_path, range(4))
    found = wrong(storm, tmp_path, range(8))
    assert found == ["2, ?: crash: SIGKILL", "4, ?: hang: more than 1 s", "5, a kind: wrong: 7"]
    assert "| 8 | 3 |" in harness.table(tmp_path)


def test_what_a_storm_remembers_is_forgotten_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def prepared(base: Path) -> Callable[[int, random.Random, Path], Trial]:
        assert versions.version_of("numpy") != "7"
        return lambda number, chosen, folder: Trial("a kind")

    assert wrong(Storm("recipes", "", 8, 60, prepared), tmp_path, range(1)) == []
    monkeypatch.setattr(metadata, "version", lambda name: "7")
    assert versions.version_of("numpy") == "7"


def test_the_docs_have_a_row_and_a_command_for_every_storm() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    commands = re.findall(r"nox -s storm -- (\w+)", text)
    assert set(commands) == set(STORMS)
    assert re.search(r"^def storm\(", (ROOT / "noxfile.py").read_text(encoding="utf-8"), re.MULTILINE)
    for name in STORMS:
        assert f"| {harness.load(name).about} |" in text, name
