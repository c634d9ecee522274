"""Files that are swapped under a build: no result is stored, or used again, that is of other files than there are."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import os
import py_compile
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from told_spec import ToldSpec

from pocketforge import errors, events
from pocketforge.plan.steps import Plan, ReadFiles, Step
from pocketforge.registries import STAGES, StageInfo
from pocketforge.run import fingerprints, stage_server
from pocketforge.run.fingerprints import Fingerprints
from pocketforge.run.inputs import look_at
from pocketforge.run.reuse import difference, reusable
from pocketforge.run.store import Store
from pocketforge.run.walk import Outcome, run_plan

HERE = Path(__file__).resolve().parent
OLD = 946_684_800  # what `touch -d` or an archive may give any file
A, B = "A" * 100, "B" * 100


@dataclass
class Bench:
    """A cache, and builds of steps that read files while a test swaps them."""

    folder: Path
    told: list[events.Event] = field(default_factory=list)
    # (when, name of the step) → what happens then. "after the plan": before any stage begins.
    happens: dict[tuple[str, str], Callable[[], object]] = field(default_factory=dict)

    def step(
        self,
        name: str,
        *do: Sequence[str],
        files: dict[str, ReadFiles] | None = None,
        needs: Sequence[Step] = (),
        hold: bool = True,
        stage: str = "reading",
    ) -> Step:
        """Its key is of its name and of the content of its files."""
        digests = "".join(found.digest for found in (files or {}).values())
        key = hashlib.sha256(f"{name} {digests} {[s.key for s in needs]}".encode()).hexdigest()
        roles = {f"need{n}": s.key for n, s in enumerate(needs)}
        go = str(self.folder / "go") if hold else ""
        spec = ToldSpec({"name": name, "do": [list(d) for d in do], "go": go, "needs": list(roles)})
        roots = (self.folder / "project",)
        return Step(stage, name, spec, roles, key, files=files or {}, roots=roots, preload=("reading_stage",))

    def run(self, *steps: Step, **more: Any) -> Outcome:
        shutil.rmtree(self.folder / "go", ignore_errors=True)
        (self.folder / "go").mkdir()
        self.told.clear()
        for step in steps:
            self.happen("after the plan", step.lane)
        plan = Plan(steps, steps[0].key, steps[0].key, ())
        return run_plan(plan, Store(self.folder / "cache"), logs=self.folder / "logs", emit=self.tell, **more)

    def tell(self, event: events.Event) -> None:
        self.told.append(event)
        if isinstance(event, events.StepFinished):
            self.happen("at the end", event.lane)
        if isinstance(event, events.StepProgress):
            when, _, name = event.message.partition(" ")
            self.happen(when, name)
            (self.folder / "go" / f"{when}-{name}").touch()

    def happen(self, when: str, name: str) -> None:
        self.happens.pop((when, name), lambda: None)()

    def result(self, outcome: Outcome, step: Step) -> str:
        return (outcome.entries[step.key].files / "result.txt").read_text() if step.key in outcome.entries else ""

    def build(self, step: Step) -> tuple[str, str]:
        """Whether it ran or was reused, and its result."""
        outcome = self.run(step)
        return outcome.records[step.key].status, self.result(outcome, step)


@pytest.fixture(scope="module", autouse=True)
def quick_stages() -> None:
    """A fork server of these tests' own, that has imported what stages need: another file's may have nothing."""
    stage_server.current().kill()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setitem(STAGES, "reading", StageInfo("reading_stage", 1, (), user_code=True))
    monkeypatch.setitem(STAGES, "reading again", StageInfo("reading_stage", 1, (), resumable=True, user_code=True))
    (tmp_path / "project").mkdir()
    return Bench(tmp_path)


def write(path: Path, text: str) -> Path:
    """All files of these tests have one time and one size: only what they hold differs."""
    path.write_text(text)
    os.utime(path, (OLD, OLD))
    return path


# How another content comes to a path, and how the first comes back.


def _in_place(path: Path, other: Path) -> None:
    with path.open("r+") as file:
        file.write(other.read_text())
    os.utime(path, (OLD, OLD))


def _copied(path: Path, other: Path) -> None:
    shutil.copy2(other, path)


def _moved(path: Path, other: Path) -> None:
    aside = path.with_name("aside")
    path.rename(aside)
    shutil.copy2(other, path)


def _moved_back(path: Path, other: Path) -> None:
    path.with_name("aside").replace(path)


def _linked(path: Path, other: Path) -> None:
    path.rename(path.with_name("aside"))
    path.symlink_to(other)


def _on_another_disk(path: Path, other: Path) -> None:
    elsewhere = Path("/dev/shm") / f"pocketforge-{os.getpid()}-{path.parent.name}"
    shutil.copy2(other, elsewhere)
    path.rename(path.with_name("aside"))
    path.symlink_to(elsewhere)


def _removed(path: Path, other: Path) -> None:
    path.rename(path.with_name("aside"))


WAYS: dict[str, tuple[Callable[[Path, Path], None], Callable[[Path, Path], None]]] = {
    "in place": (_in_place, _in_place),
    "cp -p": (_copied, _copied),
    "mv": (_moved, _moved_back),
    "symlink": (_linked, _moved_back),
    "another device": (_on_another_disk, _moved_back),
    "removed": (_removed, _moved_back),
}


@pytest.fixture
def ways(tmp_path: Path) -> Iterator[Callable[[str, str], tuple[Path, Callable[[], None], Callable[[], None]]]]:
    """(way, name) → a file with A, what swaps it for B, and what brings A back."""
    contents = {text: write(tmp_path / text[0], text) for text in (A, B)}

    def make(way: str, name: str) -> tuple[Path, Callable[[], None], Callable[[], None]]:
        swap, back = WAYS[way]
        (tmp_path / name).mkdir()
        path = write(tmp_path / name / "weights", A)
        return path, lambda: swap(path, contents[B]), lambda: back(path, contents[A])

    yield make
    for path in Path("/dev/shm").glob(f"pocketforge-{os.getpid()}-*"):
        path.unlink()


def both(*calls: Callable[[], object]) -> None:
    for call in calls:
        call()


@contextlib.contextmanager
def remembered(cache: Path) -> Iterator[Fingerprints]:
    (cache / "v1").mkdir(parents=True, exist_ok=True)
    with Fingerprints(cache / "v1") as memory:
        yield memory


# Files that the recipe names

BOUNDARIES = ("after the plan", "before", "after", "at the end")


@pytest.mark.parametrize(
    ("tick_ns", "swapped"),
    [(20_000_000, tuple(WAYS)), (2_000_000_000, ("in place", "mv"))],
    ids=["old files", "files just written"],
)
def test_a_file_that_is_swapped_at_any_boundary_is_never_stored_under_the_first_one_s_key(
    bench: Bench, ways: Any, monkeypatch: pytest.MonkeyPatch, tick_ns: int, swapped: tuple[str, ...]
) -> None:
    monkeypatch.setattr(fingerprints, "_TICK_NS", tick_ns)
    files: dict[str, tuple[Path, str, Callable[[], None]]] = {}
    for way, when in itertools.product(swapped, (*BOUNDARIES, "before and back", "put back at once")):
        name = f"{way} {when}".replace(" ", "_")
        path, swap, back = ways(way, name)
        if when == "before and back":
            bench.happens |= {("before", name): swap, ("after", name): back}
        elif when == "put back at once":
            bench.happens["after the plan", name] = functools.partial(both, swap, back)
        else:
            bench.happens[when, name] = swap
        files[name] = (path, when, back)
    time.sleep(0.03)
    with remembered(bench.folder / "cache") as memory:
        steps = {
            name: bench.step(
                name, ("read", str(path)), files={"weights": look_at(functools.partial(exactly, path), memory)}
            )
            for name, (path, *_) in files.items()
        }
    outcome = bench.run(*steps.values(), jobs=4)
    for name, (path, when, back) in files.items():
        key = steps[name].key
        if when in ("at the end", "put back at once"):
            assert bench.result(outcome, steps[name]) == A, name
        else:
            error = outcome.errors[key]
            assert isinstance(error, errors.ChangedInput) and error.exit_code == errors.EXIT_USAGE, (name, error)
            assert str(path) in error.message and "run again" in error.hint, (name, error.message)
            assert not Store(bench.folder / "cache").has(key), name
            if when != "before and back" or bench.happens.pop(("after", name), None) is not None:
                back()
    # The first content's builds are right afterwards, and so is the other's key.
    again = bench.run(*steps.values(), jobs=4)
    assert {name: bench.result(again, step) for name, step in steps.items()} == dict.fromkeys(steps, A)


def test_files_that_come_and_go_in_a_folder_that_is_read_whole_are_seen(bench: Bench) -> None:
    def added(folder: Path) -> None:
        write(folder / "new", B)

    def taken_out(folder: Path) -> None:
        (folder / "new").unlink()

    def renamed(folder: Path) -> None:
        (folder / "one").rename(folder / "three")

    def another(folder: Path) -> None:
        folder.rename(folder.with_name("aside"))
        shutil.copytree(folder.with_name("aside"), folder)
        write(folder / "one", B)

    ways = {"added": added, "renamed": renamed, "another": another}
    steps, folders = {}, {}
    for way, when in itertools.product((*ways, "added and taken out"), ("after the plan", "before", "after")):
        name = f"{way}_{when}".replace(" ", "_")
        folder = folders[name] = bench.folder / name / "images"
        folder.mkdir(parents=True)
        write(folder / "one", A), write(folder / "two", A)
        if way in ways:
            bench.happens[when, name] = functools.partial(ways[way], folder)
        elif when == "before":
            bench.happens["before", name] = functools.partial(added, folder)
            bench.happens["after", name] = functools.partial(taken_out, folder)
        else:
            bench.happens[when, name] = functools.partial(
                both, *(functools.partial(f, folder) for f in (added, taken_out))
            )
        with remembered(bench.folder / "cache") as memory:
            found = look_at(functools.partial(_all_in, folder), memory, folder)
        steps[name] = bench.step(name, ("read", str(folder)), files={"data": found})
    outcome = bench.run(*steps.values(), jobs=4)
    for name, step in steps.items():
        if name == "added_and_taken_out_after_the_plan":
            assert bench.result(outcome, step) == f"{A}+{A}"
        else:
            assert isinstance(outcome.errors[step.key], errors.ChangedInput), name
            assert str(folders[name]) in outcome.errors[step.key].message, name
            assert not Store(bench.folder / "cache").has(step.key), name


def _all_in(folder: Path) -> tuple[list[Path], str]:
    return list(folder.iterdir()), ""


def exactly(path: Path) -> tuple[list[Path], str]:
    return [path], ""


def test_refreshing_stores_nothing_of_other_files_and_leaves_what_was_right(bench: Bench, ways: Any) -> None:
    path, swap, back = ways("cp -p", "w")
    with remembered(bench.folder / "cache") as memory:
        step = bench.step(
            "w", ("read", str(path)), files={"weights": look_at(functools.partial(exactly, path), memory)}
        )
    assert bench.result(bench.run(step), step) == A
    bench.happens = {("before", "w"): swap, ("after", "w"): back}
    assert isinstance(bench.run(step, refresh=True).errors[step.key], errors.ChangedInput)
    assert bench.build(step) == ("reused", A)


def test_work_that_broke_off_goes_on_only_with_the_files_it_began_with(bench: Bench, ways: Any) -> None:
    end = bench.folder / "end"
    for way in ("untouched", "mv", "in place", "opened, mv", "failed"):
        path, swap, back = ways(way.removeprefix("opened, ") if "mv" in way or way == "in place" else "cp -p", way)
        named = not way.startswith("opened")
        with remembered(bench.folder / "cache") as memory:
            files = {"weights": look_at(functools.partial(exactly, path), memory)} if named else {}
        step = bench.step(way, ("half done", str(path), str(end)), files=files, stage="reading again")
        if way == "failed":  # its end is met, but it read another file than it should
            bench.happens = {("before", way): swap, ("after", way): back}
            assert isinstance(bench.run(step).errors[step.key], errors.ChangedInput)
        else:
            if way != "untouched":
                bench.happens["before", way] = swap
            end.touch()
            assert step.key in bench.run(step).errors
            end.unlink()
            if way != "untouched":
                back()
        kept = (bench.folder / "cache" / "v1" / "partial" / step.key / "kept").exists()
        assert kept == (way in ("untouched", "opened, mv"))
        assert bench.build(step) == ("run", A), way


def test_a_result_that_another_build_replaces_while_it_is_read_is_not_built_upon(bench: Bench) -> None:
    path = write(bench.folder / "project" / "settings", A)
    first = bench.step("first", ("read", str(path)), hold=False)
    second = bench.step("second", needs=[first])

    def another_build() -> None:
        write(path, B)
        Bench(bench.folder).run(first)

    bench.happens["before", "second"] = another_build
    outcome = bench.run(first, second)
    assert "the stored result of reading[first] was replaced while reading[second] read it" in str(
        outcome.errors[second.key]
    )
    assert bench.result(bench.run(first, second), second) == f"[{B}]"


# Files that the user's code opens by itself


def test_what_the_user_s_code_opens_is_compared_before_a_result_is_used_again(bench: Bench) -> None:
    """Each way to read; what the file is then; and whether the stored result may be used."""
    project = bench.folder / "project"
    save_file = pytest.importorskip("safetensors.numpy").save_file
    import numpy as np

    def tensors(value: int) -> Callable[[Path], object]:
        return lambda path: save_file({"x": np.full(2, value)}, path)

    def text(value: str) -> Callable[[Path], object]:
        return lambda path: write(path, value)

    def folder(path: Path) -> None:
        path.mkdir()
        write(path / "x", A)

    cases: list[tuple[str, Callable[[Path], object], Callable[[Path], object], str, str]] = [
        ("read", text(A), text(B), A, B),
        ("thread", text(A), text(B), A, B),
        ("fork", text(A), text(B), A, B),
        ("safetensors", tensors(1), tensors(2), "[1, 1]", "[2, 2]"),
        ("read if there", lambda path: None, text(A), "none", A),
        ("read if there", text(A), Path.unlink, A, "none"),
        ("try to read", lambda path: None, text(A), "none", A),
        ("glob", lambda path: None, text(A), "none", A),
        ("names", folder, lambda path: text(A)(path / "y"), "x", "x+y"),
        ("read", text(A), lambda path: (write(path, B), write(path, A)), A, A),  # touched, and as it was
        ("unpacked", text("C"), text("D"), "CCC", "DDD"),
        ("cache", lambda path: None, lambda path: None, "made", "made"),  # written by the code itself
        ("names", folder, lambda path: text(B)(path / "x"), "x", "x"),
    ]
    steps = []
    for number, (action, make, _, _, _) in enumerate(cases):
        make(project / str(number))
        steps.append(bench.step(f"s{number}", (action, str(project / str(number))), hold=False))
    first = bench.run(*steps, jobs=4)
    assert [bench.result(first, s) for s in steps] == [case[3] for case in cases]
    assert {first.records[s.key].status for s in steps} == {"run"}
    assert {r.status for r in bench.run(*steps, jobs=4).records.values()} == {"reused"}
    # The same project elsewhere: its files are found there.
    moved = bench.folder / "elsewhere"
    shutil.copytree(project, moved)
    for number, case in enumerate(cases):
        case[2](project / str(number))
    plan = Plan(tuple(steps), steps[0].key, steps[0].key, ())
    stored = reusable(plan, Store(bench.folder / "cache"))
    again = bench.run(*steps, jobs=4)
    assert [bench.result(again, s) for s in steps] == [case[4] for case in cases]
    for number, step in enumerate(steps):
        status = "reused" if cases[number][3] == cases[number][4] else "run"
        assert (again.records[step.key].status, step.key in stored) == (status, status == "reused"), cases[number][0]
    said = [e.message for e in bench.told if isinstance(e, events.Warned)]
    assert len(said) == 10 and f"{project / '0'}, which its code reads, is another now" in " ".join(said)


def test_a_file_named_from_the_working_folder_is_another_one_elsewhere(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (("one", A), ("two", B)):
        (bench.folder / name).mkdir()
        write(bench.folder / name / "settings", text)
    step = bench.step("s", ("read", "settings"), hold=False)
    for folder, expected in (("one", ("run", A)), ("one", ("reused", A)), ("two", ("run", B)), ("one", ("run", A))):
        monkeypatch.chdir(bench.folder / folder)
        assert bench.build(step) == expected


def test_a_project_that_lies_elsewhere_reuses_what_was_made_of_the_same_files(bench: Bench) -> None:
    path = write(bench.folder / "project" / "settings", A)
    step = bench.step("s", ("read", str(path)), hold=False)
    bench.run(step)
    (bench.folder / "project").rename(bench.folder / "behind a link")
    (bench.folder / "moved").symlink_to(bench.folder / "behind a link")
    assert bench.build(dataclasses.replace(step, roots=(bench.folder / "moved",))) == ("reused", A)
    write(bench.folder / "moved" / "settings", B)
    assert difference_at(bench, dataclasses.replace(step, roots=(bench.folder / "moved",)))
    # Its code finds itself by the link or by what is behind it.
    for name, asks in (("t", "moved"), ("u", "behind a link")):
        step = bench.step(name, ("read if there", str(bench.folder / asks / "extra")), hold=False)
        step = dataclasses.replace(step, roots=(bench.folder / "moved",))
        assert [bench.build(step), bench.build(step)] == [("run", "none"), ("reused", "none")]
        write(bench.folder / asks / "extra", A)
        assert bench.build(step) == ("run", A)
        (bench.folder / asks / "extra").unlink()


def difference_at(bench: Bench, step: Step) -> str | None:
    store = Store(bench.folder / "cache")
    entry = store.get(step.key)
    assert entry is not None
    with remembered(bench.folder / "cache") as memory:
        return difference(step, entry, {}, memory)


def test_a_file_that_user_code_opens_is_watched_until_the_result_is_stored(bench: Bench, ways: Any) -> None:
    steps, paths = {}, {}
    for way, when in itertools.product(WAYS, ("before", "after", "after and back")):
        name = f"{way}_{when}".replace(" ", "_")
        path, swap, back = ways(way, name)
        bench.happens[when.partition(" ")[0], name] = functools.partial(both, swap, back) if "back" in when else swap
        steps[name], paths[name] = bench.step(name, ("try to read", str(path))), path
    outcome = bench.run(*steps.values(), jobs=4)
    for name, step in steps.items():
        if name.endswith("before"):  # read as it is now, and noted so
            assert bench.result(outcome, step) == ("none" if name.startswith("removed") else B), name
        else:
            assert isinstance(outcome.errors[step.key], errors.ChangedInput), name
            assert str(paths[name]) in outcome.errors[step.key].message, name


def test_the_steps_of_one_build_read_one_content(bench: Bench) -> None:
    path = write(bench.folder / "project" / "settings", A)
    first = bench.step("first", ("read", str(path)))
    second = bench.step("second", ("read", str(path)), needs=[first])
    bench.happens["at the end", "first"] = lambda: write(path, B)
    third = bench.step("third", needs=[first], hold=False)  # opens nothing itself
    outcome = bench.run(first, second, third)
    assert f"{path} changed while the build ran" in outcome.errors[second.key].message
    assert bench.result(outcome, third) == f"[{A}]"
    # All are of the new file then: the first result is not the one that the others need.
    again = bench.run(first, second, third)
    assert [bench.result(again, step) for step in (second, third)] == [f"{B}[{B}]", f"[{B}]"]
    # One that is made again and comes out as before leaves what needs it stored.
    Store(bench.folder / "cache").discard(first.key)
    statuses = {r.lane: r.status for r in bench.run(first, second, third).records.values()}
    assert statuses == {"first": "run", "second": "reused", "third": "reused"}


def test_a_module_beside_the_model_is_compiled_from_its_source_not_from_an_old_pyc(bench: Bench) -> None:
    module = write(bench.folder / "project" / "layers.py", "VALUE = 'one'\n")
    py_compile.compile(str(module))
    assert list((bench.folder / "project" / "__pycache__").iterdir())
    write(module, "VALUE = 'two'\n")  # as long and as old as the one that was compiled
    step = bench.step("s", ("module", str(bench.folder / "project"), "layers"), hold=False)
    assert bench.build(step) == ("run", "two")
    write(module, "VALUE = 'six'\n")
    assert bench.build(step) == ("run", "six")
