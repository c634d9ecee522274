"""`history` and `baseline --from COMMIT|BRANCH`, with a real repository of git."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from test_report_ci import make, sitting

from pocketforge.facts.checkout import Checkout, checkout_of
from pocketforge.history.entry import Entry
from pocketforge.history.keeper import History
from pocketforge.history.opening import open_history
from pocketforge.history.places import place_of
from pocketforge.records import Report

RECIPE = """\
name = "digits"
[model]
definition = "model.py"
[data]
source = "digits"
[[target]]
name = "good"
runtime = "onnx"
"""
OF_CHANGES = ("GITHUB_HEAD_REF", "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "CHANGE_BRANCH")
REPORTS = Path(__file__).resolve().parents[1] / "unit" / "reports"


def report(latency: float = 1.0, size: float = 1234.0, wall_s: float = 1.0) -> Report:
    made = make(latency=latency)
    values = [dataclasses.replace(made.measurements[0], value=size), sitting(latency), made.measurements[3]]
    return dataclasses.replace(
        made, verdict="PASS", targets=made.targets[:1], measurements=tuple(values), gates=(), wall_s=wall_s
    )


def git(*words: str, at: int = 1_790_000_000) -> str:
    who = {f"GIT_{role}_{what}": "ann" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    when = {"GIT_AUTHOR_DATE": f"{at} +0000", "GIT_COMMITTER_DATE": f"{at} +0000"}
    done = subprocess.run(
        ["git", "-c", "init.defaultBranch=main", *words],
        env={**os.environ, **who, **when, "GIT_CONFIG_GLOBAL": os.devnull},
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout.strip()


@pytest.fixture
def there(tmp_path, monkeypatch):
    """A repository with a recipe, where a history is chosen by the environment; `save(NAME, …)` writes a report."""
    monkeypatch.chdir(tmp_path)
    for name in (*OF_CHANGES, "GITHUB_REF_NAME", "CI_COMMIT_BRANCH", "BRANCH_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("POCKETFORGE_HISTORY", str(tmp_path / "history.sqlite"))
    git("init", "--quiet")
    (tmp_path / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    git("add", "recipe.toml")
    git("commit", "--quiet", "-m", "one")

    def save(name: str, **values: float) -> str:
        Path(name).write_text(json.dumps(report(**values).to_json()), encoding="utf-8")
        return name

    return save


def listed(cli: Any, *words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cli("history", "list", "--json", *words).json()
    return found


def test_a_report_is_added_with_the_commit_that_is_checked_out(cli, there, tmp_path, monkeypatch):
    head = git("rev-parse", "HEAD")
    there("one.json")
    assert cli("history", "add", "one.json").stdout == "build 1: one.json\n"
    assert cli("history", "add", "one.json").stdout == "build 1 is one.json already\n"
    (tmp_path / "recipe.toml").write_text(RECIPE + "# changed\n", encoding="utf-8")
    assert cli("history", "add", there("two.json", wall_s=2.0), "--json").json()[0]["new"] is True
    git("commit", "--quiet", "-a", "-m", "two", at=1_790_000_500)
    git("checkout", "--quiet", "--detach")
    monkeypatch.setenv("GITHUB_REF_NAME", "from-ci")
    cli("history", "add", there("three.json", wall_s=3.0))
    older = cli("history", "add", there("four.json", wall_s=4.0), "--commit", "main~1", "--branch", "old")
    assert older.code == 0, older.stderr
    rows = {row["id"]: row for row in listed(cli)}
    assert [(rows[n]["commit"] == head, rows[n]["branch"], rows[n]["dirty"]) for n in (1, 2, 3, 4)] == [
        (True, "main", False), (True, "main", True), (False, "from-ci", False), (True, "old", False),
    ]  # fmt: skip
    assert [rows[n]["commit_s"] - 1_790_000_000 for n in (1, 2, 3, 4)] == [0, 0, 500, 0]
    shown = cli("history", "list")
    assert re.search(r"history\.sqlite \(SQLite 3\.[\d.]+\)", shown.stdout)
    assert f"{head[:9]}+" in shown.stdout and "+ files of the commit had been changed" in shown.stdout
    assert [row["id"] for row in listed(cli, "--branch", "old")] == [4] and listed(cli, "--recipe", "none") == []
    assert len(listed(cli, "--commit", head[:8])) == 3 and len(listed(cli, "--rows", "1")) == 1
    one = cli("history", "show", "old", "--json").json()
    assert (one["id"], one["report"]["wall_s"]) == (4, 4.0)
    text = cli("history", "show", head[:10]).stdout
    assert "digits" in text and "verdict  PASS" in text


@pytest.mark.parametrize("says", OF_CHANGES)
def test_a_forks_main_is_not_ours(there, monkeypatch, says):
    git("checkout", "--quiet", "--detach")
    monkeypatch.setenv("GITHUB_REF_NAME", "main")
    assert checkout_of(Path()).branch == "main"
    monkeypatch.setenv(says, "main")
    assert checkout_of(Path()).branch == "pull/main"


def test_a_submodule_that_was_changed_makes_a_dirty_checkout(there, tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    git("-C", "inner", "init", "--quiet")
    (inner / "model.py").write_text("", encoding="utf-8")
    git("-C", "inner", "add", "model.py")
    git("-C", "inner", "commit", "--quiet", "-m", "one")
    git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", "./inner", "sub")
    git("config", "--file", ".gitmodules", "submodule.sub.ignore", "all")
    git("add", ".gitmodules")
    git("commit", "--quiet", "-m", "two")
    assert checkout_of(tmp_path).dirty is False
    (tmp_path / "sub" / "model.py").write_text("changed", encoding="utf-8")
    assert checkout_of(tmp_path).dirty is True


def test_outside_a_repository_no_commit_is_made_up(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    (tmp_path / "report.json").write_text(json.dumps(report().to_json()), encoding="utf-8")
    assert cli("history", "add", ".", "--history", "h.sqlite").code == 0
    (row,) = cli("history", "list", "--history", "h.sqlite", "--json").json()
    assert (row["commit"], row["branch"], row["dirty"], row["commit_s"]) == ("", "", None, None)


def test_what_was_exported_and_old_reports_are_imported(cli, there, tmp_path):
    cli("history", "add", there("one.json"), there("two.json", latency=2.0))
    exported = cli("history", "export")
    assert [json.loads(line)["history_version"] for line in exported.stdout.splitlines()] == [1, 1]
    cli("history", "export", "--output", "all.jsonl", "--recipe", "digits")
    assert Path("all.jsonl").read_text() == exported.stdout
    again = ("--history", "sqlite:///again.sqlite")
    assert cli("history", "import", "all.jsonl", *again).stdout == "2 builds added\n"
    assert cli("history", "export", *again).stdout == exported.stdout
    assert cli("history", "import", "all.jsonl", *again).stdout == "0 builds added, 2 were there already\n"
    done = cli("history", "import", REPORTS, *again)
    assert (done.code, done.stdout, done.stderr) == (0, "2 builds added\n", "")
    assert {row["commit"] for row in cli("history", "list", "--json", *again).json()} == {git("rev-parse", "HEAD"), ""}


def test_what_a_clock_of_another_age_wrote_is_exported_and_imported(cli, there, tmp_path):
    there("one.json")
    os.utime("one.json", (-5_000_000_000, -2_000_000_000))
    cli("history", "import", "one.json")
    line = json.loads(cli("history", "export").stdout)
    far = line | {"commit": "e" * 40, "commit_s": 10**15}
    Path("all.jsonl").write_text(f"{json.dumps(line)}\n{json.dumps(far)}\n")
    again = ("--history", "again.sqlite")
    assert cli("history", "import", "all.jsonl", *again).stdout == "2 builds added\n"
    assert cli("history", "import", "one.json", *again).stdout == "0 builds added, 1 was there already\n"
    text = cli("history", "list", *again).stdout
    assert "1906-08-16 20:26" in text and "@1000000000000000" in text, text
    assert "@1000000000000000" in cli("history", "trend", "size_bytes", *again).stdout
    assert cli("history", "trend", "size_bytes", *again, "--output", "trend.html").code == 0


def test_a_long_export_is_imported_few_at_a_time_and_only_if_all_of_it_can_be_read(cli, there, monkeypatch):
    seen = []
    add_all = History.add_all

    def counted(self, few):
        seen.append(len(few))
        return add_all(self, few)

    monkeypatch.setattr(History, "add_all", counted)
    monkeypatch.setattr("pocketforge.commands.history._AT_ONCE", 2)
    fill(5)
    lines = cli("history", "export").stdout
    Path("all.jsonl").write_text(lines)
    Path("cut.jsonl").write_text(lines[:-100])
    seen.clear()
    done = cli("history", "import", "cut.jsonl", "all.jsonl", "--history", "again.sqlite")
    assert (done.code, done.stdout, seen) == (2, "5 builds added\n", [2, 2, 1]), done.stderr
    assert "cut.jsonl was not imported: cannot read line 5 of cut.jsonl" in done.stderr


def test_of_a_folder_with_bad_files_the_good_ones_are_imported_and_the_bad_ones_named(cli, there, tmp_path):
    folder = tmp_path / "old"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
    there("old/a/report.json")
    cli("history", "add", "old/a")
    newer = {**json.loads(Path("old/a/report.json").read_text()), "schema_version": 2}
    (folder / "b" / "report.json").write_text(json.dumps(newer))
    (folder / "notes.json").write_text("{}")
    line = json.loads(cli("history", "export").stdout)
    for name, wrong in (("hash", {"commit": "HEAD"}), ("time", {"built_s": 2**63}), ("type", {"dirty": "no"}),
                        ("newer", {"history_version": 2}), ("key", {"more": 1})):  # fmt: skip
        (folder / f"{name}.jsonl").write_text(json.dumps({**line, **wrong}))
    (folder / "cut.jsonl").write_text('{"history_version": 1}\n{"history')
    done = cli("history", "import", "old")
    assert (done.code, done.stdout) == (2, "1 build added\n"), done.stderr
    for said in (
        "old/b/report.json was not imported: cannot read the report old/b/report.json: wanted a report of schema "
        "version 1, found 2",
        "old/notes.json was not imported: ",
        "old/cut.jsonl was not imported: cannot read line 1 of old/cut.jsonl: wanted a report of schema version 1",
        "line 1 of old/hash.jsonl: commit must be a hash or empty, found 'HEAD'",
        "line 1 of old/time.jsonl: commit_s and built_s must be seconds since 1970",
        "line 1 of old/type.jsonl: ",
        "line 1 of old/newer.jsonl: wanted an export of history_version 1",
        "line 1 of old/key.jsonl: ",
    ):
        assert said in done.stderr, done.stderr
    told = cli("history", "import", "old", "--json")
    assert told.code == 2 and [len(told.json()[part]) for part in ("added", "passed")] == [1, 8]


def fill(count: int, place: str = "history.sqlite") -> None:
    """Builds of a commit each: the file is larger from the 10th on, and slower from the 12th; every 6th on another kind
    of host."""
    entries = []
    for at in range(count):
        found = report((1.0 if at < 12 else 1.06) * (1 + 0.004 * (at * 7 % 5 - 2)), 1234.0 if at < 10 else 1500.0, at)
        size, timed, top1 = found.measurements
        host = f"ci-{at} x86_64 Intel x4" if at % 6 == 0 else f"ci-{at} x86_64 AMD x2"
        timed = dataclasses.replace(timed, how=dataclasses.replace(timed.how, host=host))  # type: ignore[arg-type]
        found = dataclasses.replace(found, measurements=(size, timed, top1), environment={"host": host})
        checkout = Checkout(f"{at + 16:02x}" * 20, 1_790_000_000 + 3600 * at, "main" if at else "old", at == 3)
        entries.append(Entry(found, checkout, 1_790_000_100 + 3600 * at, "0.1.0"))
    chosen = place_of(place)
    assert chosen is not None
    open_history(chosen, create=True).add_all(entries)


def test_a_trend_tells_what_changed_and_between_which_commits(cli, there):
    fill(24)
    (sizes,) = cli("history", "trend", "size_bytes", "--json").json()
    assert [(c["at"], c["before"], c["after"]) for c in sizes["changes"]] == [(10, 1234.0, 1500.0)]
    lines = {line["conditions"]: line for line in cli("history", "trend", "latency_ms", "--json").json()}
    assert {name: len(line["points"]) for name, line in lines.items()} == {
        "x86_64 AMD x2, threads 1": 20, "x86_64 Intel x4, threads 1": 4,
    }  # fmt: skip
    (change,) = lines["x86_64 AMD x2, threads 1"]["changes"]
    assert change["effect"] == pytest.approx(0.06, abs=0.01)
    text = cli("history", "trend", "latency_ms", "--branch", "main", "--rows", "4").stdout
    assert "latency_ms of digits good on host (x86_64 AMD x2, threads 1)" in text
    assert re.search(r"changed between 1b1b1b1b1 and 1d1d1d1d1: \+[56]\.\d\d%, .* ms, worse", text), text
    assert "▁" in text and "█" in text and "16 earlier ones are not shown" in text and "no change (3 timings" in text
    assert "told are changes of 1.00% or more" in text and "branches" not in text
    both = cli("history", "trend", "size_bytes").stdout
    assert (
        "+21.56%, 1,234 → 1,500 bytes, worse" in both and "builds of 2 branches are in these lines (main, old)" in both
    )
    assert cli("history", "trend", "size_bytes", "--min-effect", "0.3", "--json").json()[0]["changes"] == []
    cut = cli("history", "trend", "size_bytes", "--last", "20").stdout
    assert "4 builds before these were not looked at (--last)" in cut and "20 earlier" not in cut
    assert cli("history", "trend", "latency_ms", "--target", "good", "--device", "host", "--recipe", "digits").code == 0


def test_a_line_that_ended_is_said(cli, there):
    cli("history", "add", there("one.json"))
    assert cli("history", "trend", "latency_ms", "--json").json()[0]["later"] == 0
    assert "not in this line" not in cli("history", "trend", "latency_ms").stdout
    without = dataclasses.replace(report(), measurements=report().measurements[:1], wall_s=2.0)
    other = dataclasses.replace(without, recipe="other")
    for at, made in enumerate((without, other), 1):
        git("commit", "--quiet", "--allow-empty", "-m", "later", at=1_790_000_000 + at)
        Path("two.json").write_text(json.dumps(made.to_json()))
        assert cli("history", "add", "two.json").code == 0
    said = "1 later build of its recipe is not in this line: without such a value, or of other conditions"
    assert said in " ".join(cli("history", "trend", "latency_ms").stdout.split())
    assert "later build" not in cli("history", "trend", "size_bytes").stdout
    cli("history", "trend", "latency_ms", "--output", "trend.html")
    assert said in Path("trend.html").read_text(encoding="utf-8")


def test_the_page_of_a_trend_is_one_file_that_asks_for_nothing(cli, there):
    fill(24)
    done = cli("history", "trend", "latency_ms", "--output", "trend.html")
    assert (done.code, done.stdout, done.stderr) == (0, "", "")
    page = Path("trend.html").read_text(encoding="utf-8")
    assert "<script" not in page and "url(" not in page and page.count("<svg") == 2
    assert set(re.findall(r"\bhttps?:[^\"\s]*", page)) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "Pocketforge trend" in page and "1 change</span>" in page and "a history of builds" in page
    assert page.count("1d1d1d1d1") >= 2 and "x86_64 Intel x4" in page
    cli("history", "trend", "latency_ms", "--output", "again.html")
    assert Path("again.html").read_bytes() == Path("trend.html").read_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("list",), "there is no history at "),
        (("list", "--history", "off"), "the history is off"),
        (("list", "--history", "mysql://x/y"), "no history is kept by 'mysql'"),
        (("show", "x", "--history", "some.sqlite"), "has the number, branch or commit 'x'"),
        (("trend", "size_byte", "--history", "some.sqlite"), "did you mean 'size_bytes'?"),
        (("trend", "size_bytes", "--branch", "x", "--history", "some.sqlite"), "no build that was asked"),
        (("add", "none.json"), "no report at none.json"),
        (("add", "one.json", "--commit", "nothing"), "has no commit 'nothing'"),
        (("add", "one.json", "--commit", "recipe.toml"), "has no commit 'recipe.toml'"),
        (("add", "one.json", "--commit", "--output=x"), "has no commit '--output=x'"),
        (("import", "none"), "no report at none"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said(cli, there, words, said):
    there("one.json")
    cli("history", "add", "one.json", "--history", "some.sqlite")
    done = cli("history", *words)
    assert done.code == 2 and said in done.stderr and "x" not in os.listdir()
    assert not Path("history.sqlite").exists() or words[0] == "import"


def test_a_baseline_is_of_a_commit_or_of_the_last_good_one_of_a_branch(cli, there, tmp_path):
    head = git("rev-parse", "HEAD")
    missing = cli("baseline", "set", "main", "--from", "main")
    assert missing.code == 2 and "'main' is no report, and there is no history at" in missing.stderr
    runs = [there(f"{at}.json", latency=1 + at / 1000) for at in range(3)]
    cli("history", "add", *runs)
    done = cli("baseline", "set", "main", "--from", "main")
    assert done.stdout.endswith(f"baselines/main.json: 3 runs of digits, commit {head[:12]}\n"), done.stderr
    # What was changed, what did not end, and another host's are passed over.
    git("commit", "--quiet", "--allow-empty", "-m", "two", at=1_790_000_500)
    failed = dataclasses.replace(report(2.0), verdict="ERROR")
    Path("failed.json").write_text(json.dumps(failed.to_json()))
    other = dataclasses.replace(report(3.0), environment={"host": "other"})
    Path("other.json").write_text(json.dumps(other.to_json()))
    cli("history", "add", "failed.json")
    cli("history", "add", "other.json", "--commit", head, "--branch", "main")
    (tmp_path / "recipe.toml").write_text(RECIPE + "# changed\n", encoding="utf-8")
    cli("history", "add", there("dirty.json", latency=4.0))
    again = cli("baseline", "set", "main", "--from", "main", "--json").json()
    assert again["runs"] in (1, 3)
    passed = cli("baseline", "set", "main", "--from", "main")
    assert f"commit {head[:12]} (2 later builds are no baseline)" in passed.stdout
    by_commit = cli("baseline", "set", "older", "--from", head[:9])
    assert by_commit.code == 0 and f"commit {head[:12]}" in by_commit.stdout
    for said, words in (
        (git("rev-parse", "HEAD"), "none of the 2 builds of"),
        ("topic", "'topic' is no report, and"),
    ):
        none = cli("baseline", "set", "x", "--from", said)
        assert none.code == 2 and words in none.stderr, none.stderr
    assert not (tmp_path / "baselines" / "x.json").exists()


def test_a_build_that_kept_not_every_budget_is_no_baseline(cli, there):
    cli("history", "add", there("good.json"))
    git("commit", "--quiet", "--allow-empty", "-m", "two", at=1_790_000_500)
    gate = make().gates[0]
    failed = dataclasses.replace(gate, verdict="FAIL", budget=dataclasses.replace(gate.budget, severity="error"))
    slow = dataclasses.replace(report(2.0), verdict="FAIL", gates=(failed,))
    waived = dataclasses.replace(report(3.0), gates=(dataclasses.replace(failed, waiver="until 2099-01-01, by ann"),))
    warned = dataclasses.replace(failed, budget=dataclasses.replace(gate.budget, severity="warning"))
    for name, made in (("slow.json", slow), ("waived.json", waived)):
        Path(name).write_text(json.dumps(made.to_json()))
        assert cli("history", "add", name).code == 0
    passed = cli("baseline", "set", "main", "--from", "main")
    assert "1 run of digits" in passed.stdout and "(2 later builds are no baseline)" in passed.stdout, passed.stderr
    none = cli("baseline", "set", "x", "--from", git("rev-parse", "HEAD"))
    assert none.code == 2 and "a budget was not kept" in none.stderr and "--from REPORT" in none.stderr
    assert cli("baseline", "set", "x", "--from", "slow.json").code == 0
    # A warning stops no build; what is missing at first is the baseline itself.
    missing = dataclasses.replace(failed, verdict="MISSING")
    soft = dataclasses.replace(report(4.0), verdict="FAIL", gates=(warned, missing))
    Path("soft.json").write_text(json.dumps(soft.to_json()))
    kept = cli("history", "add", "soft.json")
    assert kept.code == 0, kept.stderr
    assert "1 run of digits" in cli("baseline", "set", "main", "--from", "main").stdout
    assert json.loads(Path("baselines/main.json").read_text())["runs"][0]["report"] == soft.to_json()


def test_another_repositorys_builds_are_no_baseline_of_ours(cli, there, tmp_path):
    cli("history", "add", there("ours.json"))
    Path("all.jsonl").write_text(
        json.dumps(json.loads(cli("history", "export").stdout) | {"commit": "d" * 40, "commit_s": 1_790_000_900}) + "\n"
    )
    cli("history", "import", "all.jsonl")
    done = cli("baseline", "set", "main", "--from", "main")
    assert f"commit {git('rev-parse', 'HEAD')[:12]} (1 later build is no baseline)" in done.stdout, done.stderr
    none = cli("baseline", "set", "x", "--from", "dddddd")
    assert none.code == 2 and "its commit is not in the recipe's repository (git fetch)" in none.stderr
    git("clone", "--quiet", "--depth", "1", f"file://{tmp_path}", "shallow")
    assert (
        "commit dddddddddddd"
        in cli("baseline", "set", "main", "--from", "main", "--recipe", "shallow/recipe.toml").stdout
    )


def test_the_last_commit_is_gits_last_one_where_clocks_were_wrong(cli, there):
    git("commit", "--quiet", "--allow-empty", "-m", "of a clock that is ahead", at=1_899_000_000)
    cli("history", "add", there("one.json"))
    git("commit", "--quiet", "--allow-empty", "-m", "later", at=1_790_000_500)
    cli("history", "add", there("two.json", latency=2.0))
    done = cli("baseline", "set", "main", "--from", "main")
    assert f"commit {git('rev-parse', 'HEAD')[:12]}" in done.stdout, done.stdout + done.stderr
