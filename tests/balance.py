"""What one worker takes together, and in what order, so that all workers end at about the same time.

durations.json has what each group took, the longest is handed out first. It is written anew from a run of all tests:

    nox -s tests -- --junitxml build/tests.xml && .nox/tests/bin/python tests/balance.py build/tests.xml

Groups are ours and not pytest-xdist's own (marks, `--dist loadgroup`): those are lost with pytest 9.2, and stand in the
names of tests.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

DURATIONS = Path(__file__).with_name("durations.json")
# A test that takes as long is worth handing out by itself.
LONG_S = 4
# A file that durations.json does not know is new: rather too early than alone at the end.
UNKNOWN_S = 30
PHONES = "tests/phone"
# They build, and run built files: each as long as all others together.
LONG_PHONES = ("tests/phone/test_phone_builds.py", "tests/phone/test_phone_models.py")
# They import the toolchains into the worker itself, 25 CPU s: one worker does so, not each.
IN_PROCESS = (
    "tests/contract/",
    "tests/e2e/test_describe_files.py",
    "tests/e2e/test_dynamic_int8.py",
    "tests/e2e/test_qat_files.py",
    "tests/e2e/test_weight_only.py",
)


def group_of(name: str, durations: Mapping[str, float]) -> str:
    """The tests of a file stay together, since they share what is made once in each worker; a long one that shares
    nothing has a line of its own in `durations` and is free. Phones are one group.
    """
    path = name.partition("::")[0]
    if path.startswith(f"{PHONES}/") and path not in LONG_PHONES:
        return PHONES
    return name if name in durations else path


def arrange(items: list[pytest.Item], durations: Mapping[str, float]) -> None:
    """Put the groups that take longest first, but phones before all: they wait for adb, for namespaces and for rounds,
    and compute little, so that one worker is with them while the others have the processors.
    """

    def place(item: pytest.Item) -> tuple[bool, float, str]:
        group = group_of(item.nodeid, durations)
        return group != PHONES, -durations.get(group, UNKNOWN_S), group

    items.sort(key=place)


def scheduler(config: pytest.Config, log: Any, durations: Mapping[str, float]) -> Any:
    """pytest-xdist's own that hands out groups (`--dist loadscope`), with ours."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        imported_by: Any = None  # the worker whose process has the toolchains

        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid, durations)

        def _assign_work_unit(self, node: Any) -> None:
            group = next_group(list(self.workqueue), self.imported_by is node, self.imported_by is None)
            if group.startswith(IN_PROCESS) and self.imported_by is None:
                self.imported_by = node
            self.workqueue.move_to_end(group, last=False)
            super()._assign_work_unit(node)

    return Groups(config, log)


def next_group(waiting: Sequence[str], imported: bool, nobody_has: bool) -> str:
    """Of the groups left, in their order, the next for a worker. imported: it has the toolchains in its process;
    nobody_has: no worker has yet.
    """
    if nobody_has:
        return waiting[0]
    return next((group for group in waiting if group.startswith(IN_PROCESS) == imported), waiting[0])


def known() -> dict[str, float]:
    return json.loads(DURATIONS.read_text(encoding="utf-8"))


def shares(item: pytest.Item) -> bool:
    """Whether a fixture of the test lives longer than it, but for those that all files have."""
    path = item.nodeid.partition("::")[0]
    about: Any = item  # pytest's own, and private: which fixtures a test takes, also by way of others
    fixtures = [definition for same in about._fixtureinfo.name2fixturedefs.values() for definition in same]
    return any(f.scope in ("class", "module", "package") for f in fixtures) or any(
        f.scope == "session" and f.baseid == path for f in fixtures
    )


def measured(junit: Path, free: Collection[str]) -> dict[str, int]:
    """Group → whole seconds (so that few lines change from one machine to the next), set-up and the end of fixtures
    included. `free`: the tests that share nothing.
    """
    tests: dict[str, float] = {}
    for case in ElementTree.parse(junit).iter("testcase"):
        if not case.attrib["classname"]:
            continue  # a file that could not be collected
        parts = case.attrib["classname"].split(".")
        classes = [part for part in parts if part.startswith("Test")]
        name = "::".join([f"{'/'.join(parts[: len(parts) - len(classes)])}.py", *classes, case.attrib["name"]])
        tests[name] = tests.get(name, 0) + float(case.attrib["time"])
    groups: dict[str, float] = {}
    for name, seconds in tests.items():
        group = group_of(name, tests if seconds >= LONG_S and name in free else {})
        groups[group] = groups.get(group, 0) + seconds
    return {group: round(seconds) for group, seconds in sorted(groups.items())}


class Collected:
    """A plugin that keeps which tests share nothing."""

    free: frozenset[str] = frozenset()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.free = frozenset(item.nodeid for item in session.items if not shares(item))


if __name__ == "__main__":
    collected = Collected()
    pytest.main(["--collect-only", "-qq", "--no-summary", str(DURATIONS.parent)], plugins=[collected])
    groups = measured(Path(sys.argv[1]), collected.free)
    DURATIONS.write_text(json.dumps(groups, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")
