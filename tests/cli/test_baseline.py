"""`baseline`, and what `gate` does with one; `gate --ratchet`."""

from __future__ import annotations

import dataclasses
import json

import pytest
from test_report_ci import make, sitting

RECIPE = """\
# A recipe somebody cares for.
name = "digits"
[model]
definition = "model.py"
[data]
source = "digits"

[[target]]
name = "good"
runtime = "onnx"

[[budget]]
metric = "size_bytes"   # what the app has room for
limit = 2_000

[[budget]]
metric = "latency_ms"
limit = 5.0 # at 30 frames a second

[[budget]]
metric = "accuracy_top1"
limit = 0.9

[[budget]]
metric = "size_bytes"
limit = 1_500
target = "good"
severity = "warning"
"""


@pytest.fixture
def there(tmp_path, monkeypatch):
    """A folder with a recipe and a report; `save(NAME, latency, size)` writes another."""

    def save(name: str, latency: float = 1.0, size: float = 1234.0) -> str:
        made = make(latency=latency)
        values = [dataclasses.replace(made.measurements[0], value=size), sitting(latency), made.measurements[3]]
        good = dataclasses.replace(made, verdict="PASS", targets=made.targets[:1], measurements=tuple(values), gates=())
        (tmp_path / name).write_text(json.dumps(good.to_json()), encoding="utf-8")
        return name

    (tmp_path / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    save("one.json")
    return save


def relative(metric: str, share: float) -> None:
    with open("recipe.toml", "a", encoding="utf-8") as file:
        file.write(f'\n[[budget]]\nmetric = "{metric}"\nbaseline = "main"\nmax_regression = {share}\n')


def test_a_build_is_held_against_what_was_kept(cli, there):
    relative("size_bytes", 0.05)
    missing = cli("gate", "one.json", "--recipe", "recipe.toml")
    assert missing.code == 1 and "there is no baseline 'main'" in missing.stdout
    done = cli("baseline", "set", "main", "--from", "one.json")
    assert (done.code, done.stderr) == (0, "") and done.stdout.endswith("baselines/main.json: 1 run of digits\n")
    kept = cli("gate", "one.json", "--recipe", "recipe.toml", "--verbose")
    assert kept.code == 0 and "≤ main +5%" in kept.stdout
    worse = cli("gate", there("two.json", size=1300.0), "--recipe", "recipe.toml")
    assert worse.code == 1 and "5.35% worse than baseline 'main' (1234), allowed is 5.00%" in worse.stdout
    listed = cli("baseline", "list", "--json")
    assert [(each["name"], each["runs"], each["targets"]) for each in listed.json()] == [("main", 1, ["good"])]
    assert cli("baseline", "list").stdout == "main: 1 run of digits (good)\n"


def test_runs_on_both_sides_decide(cli, there):
    relative("latency_ms", 0.0)
    runs = [there(f"{index}.json", latency=1 + index / 1000) for index in range(4)]
    given = [word for run in runs for word in ("--from", run)]
    assert cli("baseline", "set", "main", *given[:4]).code == 0
    assert cli("baseline", "set", "main", "--add", *given[4:]).stdout.endswith("4 runs of digits\n")
    now = [there(f"n{index}.json", latency=1.006 + index / 1000) for index in range(4)]
    alone = cli("gate", now[0], "--recipe", "recipe.toml", "--json")
    further = [word for run in now[1:] for word in ("--run", run)]
    together = cli("gate", now[0], "--recipe", "recipe.toml", "--json", *further)
    assert [done.json()[-1]["verdict"] for done in (alone, together)] == ["INCONCLUSIVE", "FAIL"]
    assert "4 runs before, 1 now" in alone.json()[-1]["reason"]


def test_a_place_that_cannot_be_written_to_is_said(cli, there, tmp_path):
    (tmp_path / "baselines").write_text("a file")
    done = cli("baseline", "set", "main", "--from", "one.json")
    assert done.code == 3 and "baselines" in done.stderr and done.stdout == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("baseline", "set", "../x", "--from", "one.json"), "the baseline's name must be letters"),
        (("baseline", "set", "x", "--add", "--from", "one.json"), "to add to"),
        (("baseline", "set", "x", "--from", "none.json"), "no report at none.json"),
        (("gate", "one.json", "--ratchet"), "--ratchet needs --recipe"),
        (("gate", "one.json", "--run", "one.json"), "--run needs --recipe"),
    ],
)
def test_what_cannot_be_done_is_said(cli, there, words, said):
    done = cli(*words)
    assert done.code == 2 and said in done.stderr and done.stdout == ""


def test_a_ratchet_tightens_limits_and_keeps_all_else(cli, there, tmp_path):
    relative("size_bytes", 0.05)
    cli("baseline", "set", "main", "--from", "one.json")
    file = tmp_path / "recipe.toml"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    before = file.read_bytes().decode()
    done = cli("gate", "one.json", "--recipe", "recipe.toml", "--ratchet")
    assert done.code == 0 and "budget[0] size_bytes: limit 2,000 is 1,234 now" in done.stderr
    expected = before.replace("2_000", "1234").replace("1_500", "1234").replace("5.0 #", "1.02 #")
    expected = expected.replace("0.9\r\n", "0.98\r\n")
    assert file.read_bytes().decode() == expected
    assert cli("gate", "one.json", "--recipe", "recipe.toml").code == 0
    again = cli("gate", "one.json", "--recipe", "recipe.toml", "--ratchet")
    assert file.read_bytes().decode() == expected and "now" not in again.stderr
    worse = cli("gate", there("two.json", size=1400.0, latency=0.5), "--recipe", "recipe.toml", "--ratchet")
    assert worse.code == 1 and file.read_bytes().decode() == expected.replace("1.02 #", "0.507 #")


def test_a_ratchet_leaves_limits_that_the_same_report_keeps(cli, there, tmp_path):
    """What else was timed has an end beyond its value; a drop of less than 0 is a limit of 0; a wrong file is no
    measure of anything."""
    report = json.loads((tmp_path / "one.json").read_text())
    (timed,) = [each for each in report["measurements"] if each["metric"] == "latency_ms"]
    timed["how"]["processes"][0]["load_ms"] = 3.0
    load = {**timed, "metric": "load_ms", "value": 1.0, "samples": []}
    drop = {**report["measurements"][0], "metric": "accuracy_drop", "value": -0.01, "unit": ""}
    report["measurements"] += [load, drop]
    words = '\n[[budget]]\nmetric = "{}"\nlimit = {}\n'
    text = RECIPE + words.format("load_ms", 9.0) + words.format("accuracy_drop", 0.05)
    file = tmp_path / "recipe.toml"
    file.write_text(text, encoding="utf-8")
    report["verdict"], report["targets"][0]["status"] = "FAIL", "wrong"
    (tmp_path / "wrong.json").write_text(json.dumps(report), encoding="utf-8")
    wrong = cli("gate", "wrong.json", "--recipe", "recipe.toml", "--ratchet")
    assert wrong.code == 1 and file.read_text() == text
    report["verdict"], report["targets"][0]["status"] = "PASS", "built"
    (tmp_path / "one.json").write_text(json.dumps(report), encoding="utf-8")
    done = cli("gate", "one.json", "--recipe", "recipe.toml", "--ratchet")
    assert done.code == 0 and "load_ms: limit 9 is 3.01 now" in done.stderr
    assert "accuracy_drop: limit 0.05 is 0 now" in done.stderr
    assert cli("gate", "one.json", "--recipe", "recipe.toml").code == 0


def test_a_waived_budget_passes_and_is_said_everywhere(cli, there, tmp_path):
    text = RECIPE.replace("2_000", "1_000")
    waiver = '\n[[waiver]]\nmetric = "size_bytes"\nowner = "ana|x"\nreason = "until the next model"\nexpires = "{}"\n'
    for day, code, said in (("2999-01-31", 0, "FAIL (waived)"), ("2020-01-31", 1, "expired on 2020-01-31")):
        (tmp_path / "recipe.toml").write_text(text + waiver.format(day), encoding="utf-8")
        done = cli("gate", "one.json", "--recipe", "recipe.toml")
        assert done.code == code and said in done.stdout
