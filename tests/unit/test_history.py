"""Histories in SQLite and in a real PostgreSQL: what is kept, several writers, kills, old and foreign databases."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
import math
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import postgresql_server
import pytest
from history_builds import WRITER, entry
from how_measured import counted, on_phone
from release_build import SOURCES
from report_pages import as_written, hostile, report_of
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from pocketforge import crash
from pocketforge.errors import PocketforgeError, RecipeError, StoreError, ToolMissing
from pocketforge.facts.checkout import Checkout
from pocketforge.history import database, migrate
from pocketforge.history.database import Database, open_database
from pocketforge.history.entry import Entry, Wanted, date, storable, values_of
from pocketforge.history.opening import open_history
from pocketforge.history.places import Place, place_of
from pocketforge.history.tables import HEAD, METADATA, VERSION_TABLE, builds
from pocketforge.records import (
    HowCarried,
    Measurement,
    OnPhone,
    PhoneIs,
    Report,
    StepRecord,
    TargetFacts,
    TargetRecord,
)
from pocketforge.results.relative import kind_of_host

UNIT = Path(__file__).parent
KINDS = ("sqlite", "postgresql")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    folder = postgresql_server.programs()
    if folder is None:
        pytest.skip(f"needs Debian's package postgresql: {postgresql_server.HOW}")
    with postgresql_server.running(folder) as url:
        yield url


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A place without a history: a file's, or a schema of its own on the server."""
    if request.param == "sqlite":
        return _place(str(tmp_path / "history.sqlite"))
    url: str = request.getfixturevalue("server")
    name = f"of_{next(_names)}"
    _ask(url, f"create schema {name}")
    return _place(f"{url}&options=-csearch_path%3D{name}")


_names = itertools.count()
both = pytest.mark.parametrize("place", KINDS, indirect=True)
in_a_file = pytest.mark.parametrize("place", KINDS[:1], indirect=True)
on_a_server = pytest.mark.parametrize("place", KINDS[1:], indirect=True)


def _place(said: str) -> Place:
    found = place_of(said)
    assert found is not None
    return found


def _ask(url: str, *statements: str) -> None:
    """Behind our back."""
    with _behind(url, isolation_level="AUTOCOMMIT") as connection:
        for each in statements:
            connection.exec_driver_sql(each)


@contextlib.contextmanager
def _behind(url: str, **how: Any) -> Iterator[Any]:
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"), poolclass=NullPool, **how)
    with engine.connect() as connection:
        yield connection


def _url(place: Place) -> str:
    return place.url or f"sqlite:///{place.file}"


def _opened(place: Place) -> Database:
    return open_database(place, create=True)


# -- what is kept


@both
def test_a_build_is_kept_whole_and_once_for_a_commit(place: Place) -> None:
    kept = entry(1, "c" * 40, "topic", dirty=True)
    history = open_history(place, create=True)
    assert history.server().startswith("SQLite 3." if place.file else "PostgreSQL ")
    assert (history.add(kept), history.add(kept)) == ((1, True), (1, False))
    number, new = history.add(entry(1, "d" * 40))
    assert new
    (found,) = history.builds(Wanted(commit="cccc"))
    assert (found.id, found.commit, found.branch, found.dirty) == (1, "c" * 40, "topic", True)
    assert (found.commit_s, found.built_s, found.pocketforge) == (1_790_000_001, 1_790_000_101, "0.1.0")
    assert (found.recipe, found.verdict, found.host) == ("digits_before2", "PASS", "x86_64")
    assert history.report(1) == kept.report
    assert [b.id for b in history.builds(Wanted())] == [number, 1] and history.builds(Wanted(), 1)[0].id == number
    assert history.find("topic") == history.find("1") == history.find("cccccc") == found
    for wanted in (Wanted(recipe="other"), Wanted(branch="cccc"), Wanted(commit="%")):
        assert history.builds(wanted) == []
    with pytest.raises(RecipeError, match=r"no build in .* has the number, branch or commit 'nope'"):
        history.find("nope")
    with _opened(place).reading() as connection:
        rows = connection.execute(text("select * from pocketforge_verdicts where build = 1")).mappings().all()
        versions = json.loads(connection.execute(text("select versions from pocketforge_builds")).scalars().first())
    assert [(r["metric"], r["verdict"]) for r in rows] == [
        (g.metric or g.budget.metric, g.verdict) for g in kept.report.gates
    ]
    assert versions == kept.report.environment


@both
def test_every_measurement_has_its_file_its_place_and_its_interval(place: Place) -> None:
    history = open_history(place, create=True)
    report = report_of("quantized")
    history.add(Entry(report))
    found = [value for metric in history.metrics() for _, value in history.values(metric, Wanted())]
    measured = {(m.metric, m.target, m.device, m.value, m.artifact_sha256) for m in report.measurements}
    assert {(v.metric, v.target, v.device, v.value, v.sha256) for v in found} == measured
    assert len(found) == len(report.measurements)
    by = {(v.metric, v.target, v.device): v for v in found}
    timed, size = by["latency_ms", "mixed", "host"], by["size_bytes", "mixed", ""]
    assert timed.conditions == "x86_64 AMD EPYC x2, threads 1" and timed.noisy and timed.better == "lower"
    assert timed.low is not None and timed.high is not None and timed.low < timed.value < timed.high
    assert (size.low, size.high, size.noisy, size.conditions, size.samples) == (size.value, size.value, False, "", 0)
    assert by["instructions", "mixed", "pixel4"].conditions.startswith("emulated processor cortex-a76")
    assert by["accuracy_top1", "mixed", ""].conditions == "x86_64, eval samples 577"
    assert (kind_of_host("ci-7 x86_64 AMD x2"), kind_of_host("x86_64")) == ("x86_64 AMD x2", "x86_64")


def test_what_a_value_hangs_on_is_its_condition_and_its_doubt_is_kept() -> None:
    phone = OnPhone(PhoneIs("s1", "Pixel 4", ()))
    target = TargetRecord("net", "onnx", "fp32", "built", facts=TargetFacts(phones={"pixel": phone}))
    carried = HowCarried("arm64-v8a android", "gzip -9", 1, "onnxruntime 1", 1, "its wheel", {})
    measured = (
        Measurement(
            "latency_ms",
            1.0,
            "ms",
            "net",
            "a" * 64,
            "adb",
            "pixel",
            (1.0,),
            on_phone(conclusive=False, reason="it was hot"),
        ),
        Measurement("app_download_bytes", 2.0, "bytes", "net", "a" * 64, "host", how=carried),
        Measurement("instructions", 3.0, "", "net", "a" * 64, "emulator", "pixel4", how=counted()),
        Measurement("size_bytes", math.inf, "bytes", "net", "a" * 64, "host"),
    )
    steps = (StepRecord("data", "trunk", "a" * 64, "run"),)
    found = values_of(Report("net", "a" * 64, "PASS", (target,), steps, measured, ()))
    assert [(value.conditions, value.doubt) for value in found] == [
        ("Pixel 4, cores big, cpus (), threads 1", "it was hot"),
        ("arm64-v8a android, gzip -9", ""),
        ("emulated processor cortex-a76", ""),
    ]


def test_a_report_whose_parts_do_not_fit_has_values_without_intervals() -> None:
    data = as_written("quantized")
    for each in data["measurements"]:
        each["samples"] = each["samples"][:1] and [0.0, 1.0]
    found = values_of(Report.from_json(data))
    assert len(found) == len(data["measurements"]) and any(value.low is None for value in found)


@both
def test_names_that_mean_harm_are_text(place: Place) -> None:
    history = open_history(place, create=True)
    checkout = Checkout("e" * 40, 1, "a\x00'; drop table pocketforge_builds; --\udcff", False)
    kept = hostile()
    build, _ = history.add(Entry(kept, checkout))
    assert history.report(build) == kept
    (found,) = history.builds(Wanted(branch=checkout.branch, recipe=kept.recipe))
    assert found.branch == "a\\x00'; drop table pocketforge_builds; --\\udcff"
    assert len(history.values("size_bytes", Wanted())) == 3


@both
def test_a_report_that_was_changed_is_no_evidence(place: Place) -> None:
    history = open_history(place, create=True)
    history.add(entry(1))
    _ask(_url(place), "update pocketforge_builds set report = replace(report, '\"PASS\"', '\"FAIL\"')")
    with pytest.raises(StoreError, match=r"the report of build 1 in .* was changed: its SHA-256 is another"):
        history.report(1)


@in_a_file
def test_a_later_pocketforges_report_is_named(place: Place) -> None:
    history = open_history(place, create=True)
    history.add(entry(1))
    later = json.dumps({"schema_version": 2})
    digest = hashlib.sha256(later.encode()).hexdigest()
    _ask(_url(place), f"update pocketforge_builds set report_sha256 = '{digest}', report = '{later}'")
    with pytest.raises(RecipeError, match=r"the report of build 1 .* wanted a report of schema version 1, found 2"):
        history.report(1)
    assert len(history.builds(Wanted())) == 1


# -- several at once, and killed ones


def _writers(place: Place, *orders: tuple[int, int]) -> list[subprocess.Popen[str]]:
    """Programs that add builds (the first one's number, how many), all ready to begin."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([SOURCES, str(UNIT)])}
    argv = [sys.executable, "-c", WRITER, place.url or str(place.file)]
    started = [
        subprocess.Popen(
            [*argv, *map(str, order)], env=env, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for order in orders
    ]  # fmt: skip
    for each in started:
        assert each.stdout and each.stdout.readline() == "ready\n"
    return started


def _whole(place: Place) -> list[str]:
    """The commits of all builds, each of which has all its rows."""
    with _opened(place).reading() as connection:
        found = connection.execute(builds.select()).mappings().all()
        for row in found:
            count = connection.execute(
                text(f"select count(*) from pocketforge_values where build = {row['id']}")
            ).scalar()
            assert count == len(Report.from_json(json.loads(row["report"])).measurements)
        lost = "select count(*) from pocketforge_values where build not in (select id from pocketforge_builds)"
        assert connection.execute(text(lost)).scalar() == 0
        if place.file:
            assert connection.execute(text("pragma integrity_check")).scalar() == "ok"
    return [row["git_commit"] for row in found]


@both
def test_several_builds_add_themselves_at_once_and_one_is_killed(place: Place) -> None:
    """Two programs and this one make the history and write in it at once; the second is killed while it does."""
    writers = _writers(place, (0, 8), (1000, 100_000))
    for each in writers:
        assert each.stdin
        each.stdin.write("go\n")
        each.stdin.flush()
    killed = writers.pop()
    assert killed.stdout
    own = [open_history(place, create=True).add(entry(number))[1] for number in range(4, 12)]
    said = [killed.stdout.readline() for _ in range(3)]
    killed.send_signal(signal.SIGKILL)
    said += killed.stdout.readlines()
    killed.communicate()
    out, err = writers[0].communicate(timeout=120)
    assert writers[0].returncode == 0, err
    news = own + [line.endswith("True") for line in out.splitlines()]
    assert (news.count(True), news.count(False)) == (12, 4)
    commits = _whole(place)
    assert len(set(commits)) == len(commits)
    assert {f"{number:040x}" for number in range(12)} < set(commits)
    # What it said is there; of one more it may not have come to say so.
    of_killed = [int(line.split()[0]) for line in said if line.endswith("\n")]
    there = sorted(int(commit, 16) for commit in commits if int(commit, 16) >= 1000)
    assert there in (of_killed, [*of_killed, of_killed[-1] + 1])
    if place.file:
        assert sorted(path.name for path in place.file.parent.iterdir() if ".part" in path.name) == []


@in_a_file
def test_readers_do_not_wait_and_a_locked_file_is_one_error(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    history = open_history(place, create=True)
    history.add(entry(1))
    monkeypatch.setattr(database, "WAIT_S", 0.2)
    assert place.file is not None
    other = sqlite3.connect(place.file, isolation_level=None)
    other.execute("begin exclusive")
    try:
        impatient = open_history(place)
        assert len(impatient.builds(Wanted())) == 1
        with pytest.raises(StoreError, match=r"another program keeps .* locked: waited 0.2 s") as raised:
            impatient.add(entry(2))
    finally:
        other.close()
    assert "history add" in raised.value.hint
    assert impatient.add(entry(2)) == (2, True)


@on_a_server
def test_a_table_that_is_locked_on_a_server_is_the_same_error(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    open_history(place, create=True)
    monkeypatch.setattr(database, "WAIT_S", 0.2)
    history = open_history(place)
    with _behind(place.url) as other:
        other.execute(text("lock table pocketforge_builds in exclusive mode"))
        with pytest.raises(
            StoreError, match=r"another program keeps postgresql://tester@/postgres locked: waited 0.2 s"
        ):
            history.add(entry(1))
    assert history.add(entry(1))[1] and len(_whole(place)) == 1


# -- older, newer and foreign ones


@both
def test_the_tables_that_migrations_make_are_those_of_the_code(place: Place) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    assert HEAD in migrate.known()
    with _opened(place).reading() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "compare_type": True})
        assert compare_metadata(context, METADATA) == []


NEXT = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = "later", "{head}"
def upgrade():
    op.add_column("pocketforge_builds", sa.Column("note", sa.Text, nullable=False, server_default="old"))
    {fault}
"""


@both
def test_an_older_history_is_migrated_whole_and_a_newer_one_is_left_as_it_is(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = open_history(place, create=True)
    older.add(entry(1))
    before = older.builds(Wanted())
    revision = tmp_path / "versions" / "later.py"
    revision.parent.mkdir()
    with monkeypatch.context() as later:  # a Pocketforge with one revision more
        later.setattr(migrate, "VERSIONS", (*migrate.VERSIONS, revision.parent))
        later.setattr(database, "HEAD", "later")
        revision.write_text(NEXT.format(head=HEAD, fault="op.execute('select * from nowhere')"))
        with pytest.raises(StoreError):  # its second statement fails: nothing of the first is left
            open_history(place)
        assert _columns(place) == {column.name for column in builds.c}
        shutil.rmtree(revision.parent / "__pycache__", ignore_errors=True)
        revision.write_text(NEXT.format(head=HEAD, fault=""))
        history = open_history(place)
        assert history.builds(Wanted()) == before and history.report(1) == entry(1).report
        assert _columns(place) == {column.name for column in builds.c} | {"note"}
        history.add(entry(2))
    with pytest.raises(RecipeError, match="is of a later Pocketforge: its tables are of revision later, this one"):
        open_history(place, create=True)
    with _behind(_url(place)) as connection:
        assert connection.execute(text("select count(*) from pocketforge_builds where note = 'old'")).scalar() == 2


def _columns(place: Place) -> set[str]:
    with _behind(_url(place)) as connection:
        return set(connection.execute(text("select * from pocketforge_builds")).keys())


@pytest.mark.parametrize(
    ("made", "error", "said"),
    [
        ("garbage", RecipeError, "is no database: wanted one that pocketforge history made"),
        ("foreign", RecipeError, "is another program's database: it has a table bookmarks"),
        ("folder", RecipeError, "is a folder: wanted the file of a history"),
        ("pipe", StoreError, "no regular file"),
        ("nowhere", RecipeError, "there is no folder .*/none to make a history in"),
        ("cut", StoreError, "is damaged|is no database"),
    ],
)
def test_what_is_no_history_is_left_as_it_is(
    tmp_path: Path, made: str, error: type[PocketforgeError], said: str
) -> None:
    file = tmp_path / "x" / "found"
    file.parent.mkdir()
    if made == "garbage":
        file.write_bytes(b"not a database, and longer than the head of one is: " * 40)
    elif made == "foreign":
        with sqlite3.connect(file) as other:
            other.execute("create table bookmarks (url text)")
        other.close()
    elif made == "folder":
        file.mkdir()
    elif made == "pipe":
        os.mkfifo(file)
    elif made == "nowhere":
        file = tmp_path / "none" / "found"
    else:
        history = open_history(_place(str(file)), create=True)
        history.add(entry(1))
        whole = file.read_bytes()
        file.write_bytes(whole[:4096] + bytes(len(whole) - 4096))
    before = file.read_bytes() if file.is_file() else b""
    with pytest.raises(error, match=said):
        open_history(_place(str(file)), create=True).add(entry(2))
    assert (file.read_bytes() if file.is_file() else b"") == before
    assert [path.name for path in tmp_path.rglob("*.part*")] == []


@on_a_server
def test_a_servers_database_may_have_other_tables_and_is_not_asked_for_its_password(place: Place) -> None:
    _ask(place.url, "create table bookmarks (url text)")
    with pytest.raises(RecipeError, match="there is no history in postgresql://tester@/postgres"):
        open_history(place)
    assert open_history(place, create=True).add(entry(1)) == (1, True)
    gone = _place(place.url.replace("tester@/postgres", "tester:secret@/none"))
    with pytest.raises(StoreError, match=r'cannot reach postgresql://tester@/none: .*database "none" does not exist'):
        open_history(gone)
    nobody = _place("postgresql://ann:secret@127.0.0.1:9/team?password=secret")
    with pytest.raises(StoreError, match=r"cannot reach postgresql://ann@127.0.0.1:9/team: ") as raised:
        open_history(nobody)
    assert "secret" not in str(raised.value)


@on_a_server
def test_a_user_who_may_only_read_reads(place: Place) -> None:
    open_history(place, create=True).add(entry(1))
    user, schema = f"reader{next(_names)}", place.url.rpartition("%3D")[2]
    _ask(
        place.url,
        f"create user {user}",
        f"grant usage on schema {schema} to {user}",
        f"grant select on all tables in schema {schema} to {user}",
    )
    reader = open_history(_place(place.url.replace("tester@", f"{user}@")))
    assert len(reader.builds(Wanted())) == 1
    with pytest.raises(StoreError, match="does not let this user: permission denied for table pocketforge_builds"):
        reader.add(entry(2))


ON_A_DISK = """
import os, sqlite3, subprocess, sys
from history_builds import entry
from pocketforge.errors import StoreError
from pocketforge.history.entry import Wanted
from pocketforge.history.opening import open_history
from pocketforge.history.places import place_of
place = place_of(sys.argv[1] + "/history.sqlite")
def fill():
    for number in range(1000):
        open_history(place, create=True).add(entry(number))
def ask():
    try:
        print(len(open_history(place).builds(Wanted())))
        open_history(place).add(entry(2000))
    except StoreError as error:
        print(error.message)
def remount(how):
    subprocess.run(["mount", "-o", f"remount,{how}", sys.argv[1]], check=True)
try:
    fill()
except StoreError as error:
    print(error.message)
remount("ro")
ask()
remount("rw,size=2m")
sqlite3.connect(place.file).execute("pragma wal_checkpoint(truncate)").connection.close()
print(os.listdir(sys.argv[1]))
remount("ro")
ask()
"""


def test_a_full_and_then_read_only_disk_is_said(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f'mount -t tmpfs -o size=600k tmpfs "{disk}"'
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "sh", "-c", mount], check=False).returncode:
        pytest.skip("needs unshare (util-linux), and a kernel that lets users mount in a namespace of their own")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([SOURCES, str(UNIT)]), "PYTHONDONTWRITEBYTECODE": "1"}
    argv = ["unshare", "-rm", "sh", "-c", f'{mount} && exec "$0" "$@"', sys.executable, "-c", ON_A_DISK, str(disk)]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    full, *rest = done.stdout.splitlines()
    file = disk / "history.sqlite"
    assert full == f"no space left on the disk of {file}"
    reads, refused, alone, closed = rest
    assert int(reads) > 1 and refused == f"cannot write to {file}: it or its folder is read-only"
    # Where nobody left its log behind, SQLite has to make one, also to read.
    assert (alone, closed) == ("['history.sqlite']", f"cannot open {file}, or write beside it")


def test_without_the_extra_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = _place(str(tmp_path / "history.sqlite"))
    for name in [name for name in sys.modules if name.startswith("pocketforge.history.")]:
        if name.endswith((".database", ".keeper")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(ToolMissing, match="a history needs the package sqlalchemy, which is not installed") as raised:
        open_history(place, create=True)
    assert "sqlalchemy" in raised.value.hint and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("sqlite:///a/b.sqlite", "a/b.sqlite"),
        ("sqlite:////a/b.sqlite", "/a/b.sqlite"),
        ("postgresql://ann:pa%40ss@db/team?password=x", "postgresql://ann@db/team"),
        ("postgres:///team?host=/run/pg", "postgresql:///team"),
    ],
)
def test_places_are_told_without_passwords(said: str, words: str) -> None:
    found = _place(said)
    assert found.words == words or (found.file is not None and found.file == Path(words).absolute())


@pytest.mark.parametrize("said", ["mysql://x/y", "sqlite://", "sqlite:///", "sqlite://x", "~no-such-user/h.sqlite"])
def test_no_other_place_is_guessed(said: str) -> None:
    with pytest.raises(RecipeError):
        place_of(said)
    assert place_of("off") is None


@pytest.mark.parametrize(
    "said",
    [
        "postgresql://ann:sec/ret@db/team", "postgresql://ann:sec@ret@db/team", "postgresql://ann:sec#ret@db/team",
        "postgresql://ann:sec?ret@db/team", "postgresql://ann:5/ret@db/team", "postgresql://ann:sec[ret@db/te@m",
        "postgresql://ann:secret", "postgresql:/ann:secret@db/team", "postgres:ann:secret@db",
        "sqlite://ann:secret@db/team", "mysql://ann:secret@db/team",
    ],
)  # fmt: skip
def test_a_url_that_is_wrong_is_not_told(said: str) -> None:
    with pytest.raises(RecipeError) as raised:
        place_of(said)
    assert "sec" not in str(raised.value) and "ret" not in str(raised.value)


@pytest.mark.parametrize(
    "said", ["port=x", "host=a&host=b&port=1&port=2&port=3", "user=a&user=b", "options=a&options=b"]
)
def test_parameters_that_make_no_sense_are_the_urls_fault(said: str) -> None:
    with pytest.raises((RecipeError, StoreError), match="postgresql:///team"):
        open_history(_place(f"postgresql:///team?{said}"))


def test_the_log_of_a_crash_has_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POCKETFORGE_CACHE_DIR", str(tmp_path))
    url = "postgresql://ann:sec'r/e@t@db/team?password=hidden&sslmode=require"
    crash.tell(ValueError(f"no {url} there"), ["history", "list", "--history", url])
    (log,) = tmp_path.rglob("error-*.log")
    text = log.read_text()
    assert "ann:***@db/team?password=***&sslmode" in text and not re.search("sec|hidden", text), text


def test_what_no_database_takes_as_text_is_kept_to_be_seen() -> None:
    assert storable("a\x00\ud800") == "a\\x00\\ud800"


@both
def test_a_report_by_another_hand_with_halves_of_letters_is_kept(place: Place) -> None:
    made = entry(1)
    odd = dataclasses.replace(made.report.measurements[0], unit="\ud800\x00", artifact_sha256="\x00", via="\udcff")
    report = dataclasses.replace(made.report, recipe_sha256="\ud800", measurements=(odd,))
    history = open_history(place, create=True)
    number, _ = history.add(dataclasses.replace(made, report=report, pocketforge="\ud800"))
    ((_, kept),) = history.values(odd.metric, Wanted())
    assert (kept.unit, kept.sha256, kept.via) == ("\\ud800\\x00", "\\x00", "\\udcff")
    assert history.report(number).measurements == (odd,)
    assert history.values("\udcff\x00", Wanted(), "\udcff", "\udcff") == []
    assert history.builds(Wanted(commit="\udcff\x00")) == []


def test_a_time_that_no_calendar_has_is_told_as_git_tells_it() -> None:
    assert (date(0), date(-5_000_000_000)) == ("1970-01-01 00:00", "1811-07-23 15:06")
    assert (date(10**14), date(-(10**14))) == ("@100000000000000", "@-100000000000000")
