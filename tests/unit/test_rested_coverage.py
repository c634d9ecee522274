"""Where coverage's tracer runs: a real run of pytest-cov and pytest-xdist over a small suite of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from coverage import CoverageData

FILES = {
    "conftest.py": """\
import sys, pytest
from rested_coverage import Tracing

def pytest_configure(config):
    Tracing(config).stop()
    assert sys.gettrace() is None

@pytest.hookimpl(wrapper=True)
def pytest_collection(session):
    with Tracing(session.config).resting():
        return (yield)

@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    if "rests" not in item.name:
        return (yield)
    with Tracing(item.config).resting():
        return (yield)
""",
    "room/__init__.py": "",
    "room/early.py": """\
from room import used

def in_collection():
    return 1

def in_a_test():
    return 2

def in_a_test_that_rests():
    return 3
""",
    "room/used.py": "USED = True\n",
    "room/late.py": "LATE = True\n",
    "room/imported_in_a_rest.py": "import other\nAFTER = 1\n",
    "other.py": "",
    "elsewhere.py": "import sys\nTRACED = sys.gettrace() is not None\n",
    "test_small.py": """\
import sys
import elsewhere
from room import early

TRACED = sys.gettrace() is not None
early.in_collection()

def test_a():
    assert sys.gettrace() is not None
    import room.late
    early.in_a_test()

def test_that_rests():
    assert sys.gettrace() is None
    early.in_a_test_that_rests()
    import room.imported_in_a_rest
    assert sys.gettrace() is None

def test_collection_was_not_traced():
    assert not TRACED and not elsewhere.TRACED
""",
}


def test_measured_modules_and_tests_are_traced_and_nothing_else_is(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / ".coveragerc").write_text("[run]\nbranch = true\nrelative_files = true\nsource = room\n")
    words = ("-q", "-p", "no:cacheprovider", "-n", "1", "--dist", "loadscope", "--cov", "--cov-report=")
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "COV"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**ours, "PYTHONPATH": str(Path(__file__).parents[1])},
    )  # fmt: skip
    assert done.returncode == 0 and "3 passed" in done.stdout, done.stdout + done.stderr
    data = CoverageData(str(tmp_path / ".coverage"))
    data.read()
    lines = {Path(file).name: sorted(data.lines(file) or []) for file in data.measured_files()}
    # Definitions run as they are imported, and of the functions, the one that the first test calls.
    assert lines["early.py"] == [1, 3, 6, 7, 9] and lines["used.py"] == lines["late.py"] == [1]
    assert lines["imported_in_a_rest.py"] == [1, 2] and not {"elsewhere.py", "other.py"} & lines.keys()
