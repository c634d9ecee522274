"""How the suite is cut into groups and put in order; a real run of pytest-xdist over a small suite of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import balance
import pytest
from rewritten_asserts import cached, rewrite

CONFTEST = """\
import os, time, pytest
from pathlib import Path
from balance import arrange, scheduler, Collected
from rewritten_asserts import rewrite_once

DURATIONS = {durations}

@pytest.fixture(scope="session")
def of_all(): ...

def pytest_configure(config):
    if "PYTEST_XDIST_WORKER" not in os.environ:
        rewrite_once(config, [*Path("tests").resolve().rglob("test_*.py")])

def pytest_collection_modifyitems(items):
    arrange(items, DURATIONS)

def pytest_xdist_make_scheduler(config, log):
    return scheduler(config, log, DURATIONS)
"""
FILES = {
    "tests/test_free.py": """\
import pytest
@pytest.mark.parametrize("p", ["a", "b"])
def test_long(of_all, p): ...
def test_short(): ...
def test_other(): ...
""",
    "tests/test_shared.py": """\
import pytest, time
@pytest.fixture(scope="module", params=[1, 2])
def costly(): ...
def test_first(costly): time.sleep(0.2)
def test_then(costly): time.sleep(0.2)
""",
    "tests/test_whole_run.py": """\
import pytest
@pytest.fixture(scope="session")
def costly(): ...
def test_long(costly): ...
def test_alone(): ...
""",
    "tests/test_new.py": "def test_it(): ...\n",
    "tests/phone/test_link.py": "def test_it(): ...\n",
    "tests/phone/test_session.py": "def test_it(): ...\n",
    "tests/phone/test_phone_builds.py": "def test_it(): ...\n",
}
DURATIONS = {
    "tests/test_free.py": 6,
    "tests/test_free.py::test_long[a]": 50,
    "tests/test_free.py::test_long[b]": 5,
    "tests/test_shared.py": 49,
    "tests/test_whole_run.py": 7,
    "tests/phone": 1,
    "tests/phone/test_phone_builds.py": 40,
}
# The groups in the order wanted, and each group's tests.
WANTED = {
    "tests/phone": ["phone/test_link.py::test_it", "phone/test_session.py::test_it"],
    "tests/test_free.py::test_long[a]": ["test_free.py::test_long[a]"],
    "tests/test_shared.py": [f"test_shared.py::test_{name}[{n}]" for n in (1, 2) for name in ("first", "then")],
    "tests/phone/test_phone_builds.py": ["phone/test_phone_builds.py::test_it"],
    "tests/test_new.py": ["test_new.py::test_it"],
    "tests/test_whole_run.py": ["test_whole_run.py::test_long", "test_whole_run.py::test_alone"],
    "tests/test_free.py": ["test_free.py::test_short", "test_free.py::test_other"],
    "tests/test_free.py::test_long[b]": ["test_free.py::test_long[b]"],
}


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suite")
    for name, text in {"tests/conftest.py": CONFTEST.replace("{durations}", repr(DURATIONS)), **FILES}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "pytest.ini").write_text(f"[pytest]\npythonpath = {Path(balance.__file__).parent}\n", encoding="utf-8")
    return folder


def run(suite: Path, *words: str) -> dict[str, str]:
    """Test → its worker, in the order in which they ended. Other plugins take longer to load than it takes."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    options = ("-p", "xdist", "-p", "no:cacheprovider", "-v", "--dist", "loadscope", "--no-loadscope-reorder")
    argv = [sys.executable, "-m", "pytest", *options, *words, "tests"]
    done = subprocess.run(argv, cwd=suite, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return {test: worker for worker, test in re.findall(r"^\[(gw\d)\] \[.*\] PASSED tests/(\S+)", done.stdout, re.M)}


def test_what_takes_longest_is_handed_out_first(suite: Path) -> None:
    assert list(run(suite, "-n", "1")) == [test for group in WANTED.values() for test in group]


def test_what_shares_is_with_one_worker_and_the_phones_too(suite: Path) -> None:
    worker = run(suite, "-n", "2")
    for path in suite.rglob("test_*.py"):
        assert rewrite._read_pyc(path, cached(path)) is not None, "the workers rewrote it, each for itself"
    assert len(worker) == sum(map(len, WANTED.values())) and set(worker.values()) == {"gw0", "gw1"}
    for group, tests in WANTED.items():
        assert len({worker[test] for test in tests}) == 1, group


def test_a_line_for_each_group_is_what_is_measured(suite: Path, tmp_path: Path) -> None:
    """Only long tests that share nothing get one of their own."""
    program = (
        "import json, pytest, balance; c = balance.Collected(); pytest.main(['-qq', '--co', 'tests'], plugins=[c])"
    )
    argv = [sys.executable, "-c", f"{program}; print(json.dumps(sorted(c.free)))"]
    environment = {
        **os.environ,
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONPATH": str(Path(balance.__file__).parent),
    }
    done = subprocess.run(argv, cwd=suite, env=environment, capture_output=True, text=True, check=True)
    free = json.loads(done.stdout.splitlines()[-1])
    assert free == sorted(
        f"tests/{test}"
        for group in WANTED.values()
        for test in group
        if not re.search("shared|run.py::test_long", test)
    )
    cases = "".join(
        f'<testcase classname="tests.{path.removesuffix(".py").replace("/", ".")}" name="{name}" time="{seconds}" />'
        for test, seconds in {
            test: 5.4 if "long" in test else 0.8 for tests in WANTED.values() for test in tests
        }.items()
        for path, name in [test.split("::")]
    )
    (tmp_path / "run.xml").write_text(f"<testsuite>{cases}</testsuite>", encoding="utf-8")
    assert balance.measured(tmp_path / "run.xml", free) == {
        "tests/phone": 2,
        "tests/phone/test_phone_builds.py": 1,
        "tests/test_free.py": 2,
        "tests/test_free.py::test_long[a]": 5,
        "tests/test_free.py::test_long[b]": 5,
        "tests/test_new.py": 1,
        "tests/test_shared.py": 3,
        "tests/test_whole_run.py": 6,
    }


def test_a_test_in_a_class_is_of_its_file(tmp_path: Path) -> None:
    case = '<testcase classname="tests.unit.test_store.TestSequence" name="runTest" time="2.6" />'
    (tmp_path / "run.xml").write_text(f"<testsuite>{case}</testsuite>", encoding="utf-8")
    assert balance.measured(tmp_path / "run.xml", ()) == {"tests/unit/test_store.py": 3}


def test_the_committed_durations_are_of_files_that_are_there() -> None:
    """A file that goes takes its lines along; a test that goes only costs balance."""
    durations = balance.known()
    assert durations and all(seconds >= 0 for seconds in durations.values())
    places = {name.partition("::")[0] for name in durations}
    assert [place for place in places if not (balance.DURATIONS.parents[1] / place).exists()] == []


@pytest.mark.parametrize(
    ("imported", "nobody_has", "group"),
    [
        (False, True, "tests/e2e/test_a.py"),
        (False, False, "tests/e2e/test_a.py"),
        (True, False, "tests/contract/test_b.py"),
    ],
)
def test_contract_tests_stay_with_the_worker_that_has_the_toolchains(imported, nobody_has, group):
    waiting = ["tests/e2e/test_a.py", "tests/contract/test_b.py", "tests/unit/test_c.py"]
    assert balance.next_group(waiting, imported, nobody_has) == group
    # Nothing of its kind is left: better another worker's than none.
    assert balance.next_group(["tests/contract/test_b.py"], imported, nobody_has) == "tests/contract/test_b.py"
