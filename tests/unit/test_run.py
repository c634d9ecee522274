"""run_plan over stages that do as they are told: reuse, crashes, verdicts, order, interruption."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from release_build import SOURCES
from told_spec import ToldSpec

from pocketforge import errors, events
from pocketforge.plan.steps import Step
from pocketforge.registries import STAGES, StageInfo
from pocketforge.run import worker
from pocketforge.run.build_inputs import BuildInputs
from pocketforge.run.store import Store
from pocketforge.run.walk import Outcome, run_plan

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PATIENCE_S = 60


def told(step: Step) -> dict[str, Any]:
    assert isinstance(step.spec, ToldSpec)
    return step.spec.told


class Forge:
    """A store, a journal of what stages did, and builds over them, here or in a process of their own."""

    def __init__(self, folder: Path) -> None:
        import fake_stages

        self.fake = fake_stages
        self.folder = folder
        self.cache = folder / "cache"
        self.logs = folder / "logs"
        self.journal = folder / "journal"
        self.events: list[events.Event] = []
        self.programs: list[subprocess.Popen[str]] = []

    def step(self, name: str, *do: Sequence[Any], **more: Any) -> Step:
        return self.fake.make_step(name, *do, journal=self.journal, **more)

    def run(self, *steps: Step, **more: Any) -> Outcome:
        self.events.clear()
        plan = self.fake.make_plan(steps)
        return run_plan(plan, Store(self.cache), logs=self.logs, emit=self.events.append, **more)

    def start(self, *steps: Step, jobs: int = 1) -> subprocess.Popen[str]:
        """The same build in a process of its own; its stdout is its events."""
        described = json.dumps(
            [
                {f.name: getattr(s, f.name) for f in dataclasses.fields(s) if f.name != "paths"} | {"spec": told(s)}
                for s in steps
            ]
        )
        program = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import fake_stages; fake_stages.main()",
                str(self.cache),
                str(self.logs),
                str(jobs),
                described,
            ],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([SOURCES, str(HERE)])},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.programs.append(program)
        return program

    def notes(self, name: str = "", what: str = "") -> list[list[Any]]:
        lines = self.journal.read_text().splitlines() if self.journal.exists() else []
        return [n for n in map(json.loads, lines) if name in ("", n[0]) and what in ("", n[1])]

    def starts(self, name: str) -> int:
        return len(self.notes(name, "start"))

    def result(self, outcome: Outcome, name: str) -> str:
        return (outcome.entries[self.fake.key_of(name)].files / "result.txt").read_text()

    def status(self, outcome: Outcome, name: str) -> str:
        return outcome.records[self.fake.key_of(name)].status

    def error(self, outcome: Outcome, name: str) -> errors.PocketforgeError:
        return outcome.errors[self.fake.key_of(name)]

    def seen(self, kind: type[Any]) -> list[Any]:
        return [e for e in self.events if isinstance(e, kind)]

    def left_in_tmp(self) -> list[str]:
        return sorted(p.name for p in (self.cache / "v1" / "tmp").iterdir())

    def published(self) -> set[str]:
        return set(Store(self.cache).keys())


@pytest.fixture
def forge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Forge]:
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setitem(STAGES, "fake", StageInfo("fake_stages", 1, ()))
    forge = Forge(tmp_path)
    yield forge
    for program in forge.programs:
        program.kill()
        program.communicate()


def until(happened: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < deadline, f"waited {PATIENCE_S} s and it did not happen: {what}"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    # A container's first process may not bury the orphans that it adopts.
    return state not in "ZX"


# Results, reuse and refresh


def test_a_step_reads_the_results_it_needs_and_a_second_run_reuses_everything(forge: Forge) -> None:
    steps = (forge.step("a"), forge.step("b", needs=["a"]), forge.step("c", needs=["a", "b"]))
    first = forge.run(*steps)
    assert forge.result(first, "b") == "b[a]"
    assert sorted(forge.result(first, "c")) == sorted("c[a][b[a]]")
    assert [forge.status(first, n) for n in "abc"] == ["run"] * 3
    assert forge.events[0] == events.BuildStarted(3, 0)

    second = forge.run(*steps)
    assert [forge.status(second, n) for n in "abc"] == ["reused"] * 3
    assert events.BuildStarted(3, 3) in forge.events
    assert {type(e) for e in forge.events} == {events.BuildStarted, events.StepReused}
    assert [forge.starts(n) for n in "abc"] == [1, 1, 1]


def test_only_what_is_not_stored_runs(forge: Forge) -> None:
    forge.run(forge.step("a"))
    outcome = forge.run(forge.step("a"), forge.step("b", needs=["a"]))
    assert (forge.status(outcome, "a"), forge.status(outcome, "b")) == ("reused", "run")
    assert forge.starts("a") == 1


def test_a_reused_record_keeps_the_time_of_the_run_that_made_it(forge: Forge) -> None:
    first = forge.run(forge.step("a", ["sleep", 0.2]))
    second = forge.run(forge.step("a", ["sleep", 0.2]))
    key = forge.fake.key_of("a")
    assert 0.2 <= second.records[key].wall_s == first.records[key].wall_s


def test_a_record_says_when_a_step_ran_and_what_it_took(forge: Forge) -> None:
    steps = forge.step("a", ["burn", 0.05, 0.1]), forge.step("b", ["sleep", 0.2], needs=["a"])
    first = forge.run(*steps, began=time.monotonic() - 100)
    a, b = (first.records[forge.fake.key_of(name)] for name in "ab")
    assert a.cpu_s is not None and b.cpu_s is not None and a.cpu_s >= 0.15
    assert a.began_s is not None and a.ended_s is not None and b.began_s is not None and b.ended_s is not None
    assert 100 <= a.began_s < a.ended_s <= b.began_s and b.ended_s - b.began_s >= 0.2
    # Reused: it took that once, and not in this build.
    again = forge.run(*steps, forge.step("c", ["exit", 3]))
    kept = again.records[a.key]
    assert (kept.cpu_s, kept.peak_rss_bytes, kept.began_s, kept.ended_s) == (a.cpu_s, a.peak_rss_bytes, None, None)
    failed = again.records[forge.fake.key_of("c")]
    assert failed.status == "failed" and failed.cpu_s is None and failed.began_s is not None


def test_refresh_runs_stored_steps_again_and_replaces_their_results(forge: Forge) -> None:
    step = forge.step("a")
    before = forge.run(step).entries[step.key].files / "result.txt"
    os.utime(before, (1, 1))
    outcome = forge.run(step, refresh=True)
    assert forge.status(outcome, "a") == "run"
    assert forge.starts("a") == 2
    assert (outcome.entries[step.key].files / "result.txt").stat().st_mtime > 1


def test_a_refresh_that_fails_leaves_the_earlier_result(forge: Forge) -> None:
    bad_day = forge.folder / "bad_day"
    step = forge.step("a", ["exit_if", str(bad_day)])
    forge.run(step)
    bad_day.touch()
    assert forge.status(forge.run(step, refresh=True), "a") == "failed"
    assert forge.status(forge.run(step), "a") == "reused"


def test_a_damaged_result_is_made_again_with_a_warning(forge: Forge) -> None:
    steps = (forge.step("a"), forge.step("b", needs=["a"]))
    first = forge.run(*steps)
    (first.entries[steps[0].key].files / "result.txt").write_text("spoilt")
    second = forge.run(*steps)
    assert (forge.status(second, "a"), forge.status(second, "b")) == ("run", "reused")
    assert forge.result(second, "a") == "a"
    (warning,) = forge.seen(events.Warned)
    assert "fake[a]" in warning.message
    assert "result.txt does not match its hash" in warning.message
    assert "made again" in warning.message


# Results that go under a build


def test_clearing_under_a_build_leaves_what_it_reads_and_what_it_made(forge: Forge) -> None:
    forge.run(forge.step("stored"), forge.step("of another build"))
    outcome = forge.run(
        forge.step("stored"),
        forge.step("made", needs=["stored"]),
        forge.step("cleaner", ["clear", str(forge.cache)], needs=["made"]),
        forge.step("reader", needs=["stored", "made"], after=["cleaner"]),
    )
    assert outcome.errors == {}
    (note,) = forge.notes("cleaner", "cleared")
    removed, _, in_use = note[3]
    assert (removed, in_use) == (1, 2)
    assert forge.seen(events.Warned) == []
    assert [forge.status(outcome, name) for name in ("stored", "made", "reader")] == ["reused", "run", "run"]
    names = ("stored", "made", "cleaner", "reader")
    assert forge.published() == {forge.fake.key_of(name) for name in names}


def test_what_is_stored_is_imported_for_by_nobody(forge, monkeypatch):
    """Also where a step before it is made again: what is stored fits that, and no stage of it will run."""
    steps = [
        dataclasses.replace(forge.step(name, needs=needs), preload=(f"for_{name}",))
        for name, needs in (("a", ()), ("b", "a"), ("c", "b"), ("d", "c"))
    ]
    asked: list[Sequence[str]] = []
    start_server = worker.context

    def context(preload: Sequence[str]) -> worker.StageContext:
        asked.append(preload)
        return start_server(("fake_stages",))

    monkeypatch.setattr(worker, "context", context)
    forge.run(*steps)
    for name in "ad":
        Store(forge.cache).discard(forge.fake.key_of(name))
    outcome = forge.run(*steps)
    assert [record.status for record in outcome.records.values()] == ["run", "reused", "reused", "run"]
    forge.run(*steps, refresh=True)
    monkeypatch.setattr(BuildInputs, "difference", lambda _, step, entry: "a file" if step is steps[1] else None)
    forge.run(*steps)
    everything = ["for_a", "for_b", "for_c", "for_d"]
    assert asked == [everything, ["for_a", "for_d"], everything, ["for_b"]]


def test_what_vanishes_under_a_build_is_made_again(forge: Forge) -> None:
    first = forge.run(forge.step("a"), forge.step("b", needs=["a"]))
    entries = [first.entries[forge.fake.key_of(n)].files.parent for n in "ab"]
    steps = (
        forge.step("a"),
        forge.step("b", needs=["a"]),
        forge.step("c", ["remove_once", str(entries[0])], needs=["a"]),  # and then fails, as what it needs is gone
        forge.step("d", ["remove_once", str(entries[1])], needs=["b", "c"]),
    )
    outcome = forge.run(*steps)
    assert outcome.errors == {}
    assert sorted(forge.result(outcome, "d")) == sorted("d[b[a]][c[a]]")
    said = [warning.message for warning in forge.seen(events.Warned)]
    assert said == [f"gone from the cache while they were in use, and made again: fake[{n}]" for n in "ab"]
    assert forge.published() == {step.key for step in steps}


def test_what_vanishes_again_and_again_is_an_error(forge: Forge) -> None:
    forge.run(forge.step("a"))
    place = Store(forge.cache).root / "entries"
    with pytest.raises(errors.StoreError, match="vanish again and again"):
        forge.run(forge.step("a"), *(forge.step(f"b{n}", ["remove", str(place)], ["exit", 1]) for n in range(1)))


# Failures


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (["exit", 7], "exit code 7"),
        (["exit", 0], "exit code 0"),
        (["signal", int(signal.SIGKILL)], "SIGKILL"),
        (["signal", int(signal.SIGSEGV)], "SIGSEGV"),
        (["raise", "SystemExit"], "exit code 5"),
    ],
)
def test_a_crash_fails_its_lane_and_the_others_finish(forge: Forge, end: list[Any], words: str) -> None:
    outcome = forge.run(
        forge.step("trunk"),
        forge.step("bad", end, needs=["trunk"]),
        forge.step("bad_child", needs=["bad"]),
        forge.step("bad_grandchild", needs=["bad_child"]),
        forge.step("good", needs=["trunk"]),
        forge.step("good_child", needs=["good"]),
        jobs=2,
    )
    names = ["trunk", "bad", "bad_child", "bad_grandchild", "good", "good_child"]
    assert [forge.status(outcome, n) for n in names] == ["run", "failed", "skipped", "skipped", "run", "run"]
    error = forge.error(outcome, "bad")
    assert type(error) is errors.StageFailed
    assert words in error.message
    assert "before it was done" in error.message
    assert list(outcome.errors) == [forge.fake.key_of("bad")]
    skipped = {e.lane: e.because for e in forge.seen(events.StepSkipped)}
    assert skipped == {"bad_child": "fake[bad] failed", "bad_grandchild": "fake[bad_child] was skipped"}
    met = {forge.fake.key_of(name): forge.fake.key_of("bad") for name in ("bad_child", "bad_grandchild")}
    assert outcome.causes == met
    assert forge.left_in_tmp() == []
    assert forge.fake.key_of("bad") not in forge.published()


def test_a_failed_step_runs_again_in_the_next_build(forge: Forge) -> None:
    bad_day = forge.folder / "bad_day"
    bad_day.touch()
    steps = (forge.step("a", ["exit_if", str(bad_day)]), forge.step("b", needs=["a"]))
    assert forge.status(forge.run(*steps), "b") == "skipped"
    bad_day.unlink()
    assert forge.result(forge.run(*steps), "b") == "b[a]"


@pytest.mark.parametrize(
    ("kind", "wanted", "message", "hint"),
    [
        ("StageFailed", errors.StageFailed, "does not fit", "make it smaller"),
        ("ToolMissing", errors.ToolMissing, "no adb", "install platform-tools"),
        ("ModelError", errors.ModelError, "weights do not fit", "check the definition"),
        ("DeviceTimeout", errors.DeviceTimeout, "no answer", "plug it in"),
        ("ValueError", errors.StageFailed, "ValueError: seven is not eight", "the whole story is in the log"),
        ("nothing", errors.StageFailed, "RuntimeError: no message", "the whole story is in the log"),
        ("MemoryError", errors.StageFailed, "the stage ran out of memory", "use fewer samples or a smaller batch"),
        (
            "ImportError",
            errors.ToolMissing,
            "cannot import litert: No module named 'litert'",
            "pocketforge doctor says what is missing",
        ),
    ],
)
def test_an_error_keeps_its_type_message_and_hint_across_the_process(
    forge: Forge, kind: str, wanted: type[Exception], message: str, hint: str
) -> None:
    outcome = forge.run(forge.step("a", ["raise", kind], lane="phone"))
    error = forge.error(outcome, "a")
    assert type(error) is wanted
    assert (error.message, error.hint) == (message, hint)
    record = outcome.records[forge.fake.key_of("a")]
    assert (record.status, record.message) == ("failed", message)
    log = Path(record.log).read_text()
    assert "Traceback" in log
    assert "in _raise" in log
    if isinstance(error, errors.StageFailed):
        assert (error.stage, error.lane, error.log) == ("fake", "phone", record.log)
    (event,) = forge.seen(events.StepFailed)
    assert (event.message, event.log) == (message, record.log)


def test_a_failed_tool_keeps_its_command_and_last_words(forge: Forge) -> None:
    error = forge.error(forge.run(forge.step("a", ["raise", "ToolFailed"])), "a")
    assert isinstance(error, errors.ToolFailed)
    assert (error.argv, error.returncode, error.stderr_tail) == (("prog", "-x"), 3, "first\nlast words")
    assert error.message == "prog ended with exit code 3:\nfirst\nlast words"
    assert error.hint == "try less"


def test_a_recipe_error_from_a_stage_keeps_its_faults_and_exit_code(forge: Forge) -> None:
    error = forge.error(forge.run(forge.step("a", ["raise", "RecipeError"])), "a")
    assert isinstance(error, errors.RecipeError)
    assert error.faults == ("a: one", "b: two")
    assert error.exit_code == 2
    assert str(error) == "two faults:\n  a: one\n  b: two\n  hint: look again"


def test_a_full_disk_in_a_stage_says_how_to_free_space(forge: Forge) -> None:
    error = forge.error(forge.run(forge.step("a", ["raise", "full disk"])), "a")
    assert type(error) is errors.StoreError
    assert "no space left" in error.message
    assert "cache clear" in error.hint


def test_other_os_errors_of_a_stage_are_its_own(forge: Forge) -> None:
    error = forge.error(forge.run(forge.step("a", ["raise", "no file"])), "a")
    assert type(error) is errors.StageFailed
    assert "FileNotFoundError" in error.message
    assert "x.bin" in error.message


def test_what_a_crashed_stage_started_is_ended_with_it(forge: Forge) -> None:
    forge.run(forge.step("a", ["start_program"], ["exit", 1]))
    (note,) = forge.notes("a", "program")
    until(lambda: not is_alive(note[3]), "the program that the stage started is gone")


def test_a_stage_module_that_cannot_be_imported_fails_its_step(forge: Forge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STAGES, "fake", StageInfo("no_such_stage_module", 1, ()))
    error = forge.error(forge.run(forge.step("a")), "a")
    assert isinstance(error, errors.ToolMissing)
    assert "no_such_stage_module" in error.message


def test_a_log_folder_that_cannot_be_made_is_a_store_error_with_a_hint(forge: Forge) -> None:
    forge.logs.write_text("a file where the folder should be")
    error = forge.error(forge.run(forge.step("a")), "a")
    assert type(error) is errors.StoreError
    assert "--out" in error.hint


# Verdicts


def test_a_rejection_skips_what_depends_on_it_and_keeps_other_lanes(forge: Forge) -> None:
    steps = (
        forge.step("verify", ["reject", "sqnr 3 dB under 20 dB", "accuracy dropped"]),
        forge.step("bench", after=["verify"], exclusive=True),
        forge.step("other"),
        forge.step("other_bench", after=["other"], exclusive=True),
    )
    for status in ("rejected", "reused"):
        outcome = forge.run(*steps)
        assert forge.status(outcome, "verify") == status
        assert outcome.records[steps[0].key].message == "sqnr 3 dB under 20 dB; accuracy dropped"
        assert steps[0].key in outcome.entries, "what it found is a result"
        assert forge.status(outcome, "bench") == "skipped"
        assert forge.status(outcome, "other_bench") in ("run", "reused")
        assert outcome.errors == {}
    assert forge.starts("verify") == 1
    assert forge.starts("bench") == 0


def test_a_verdict_that_passes_lets_the_rest_run(forge: Forge) -> None:
    outcome = forge.run(forge.step("verify", ["reject"]), forge.step("bench", after=["verify"]))
    assert (forge.status(outcome, "verify"), forge.status(outcome, "bench")) == ("run", "run")


# Order and side by side


def test_steps_that_do_not_depend_on_each_other_run_side_by_side(forge: Forge) -> None:
    a, b = str(forge.folder / "a_is_here"), str(forge.folder / "b_is_here")
    outcome = forge.run(
        forge.step("a", ["touch", a], ["wait_for", b]), forge.step("b", ["touch", b], ["wait_for", a]), jobs=2
    )
    assert outcome.errors == {}


def test_one_job_runs_one_step_at_a_time(forge: Forge) -> None:
    forge.run(*(forge.step(n, ["sleep", 0.05]) for n in "abc"), jobs=1)
    assert [n[1] for n in forge.notes()] == ["start", "stop"] * 3


def test_an_exclusive_step_never_runs_beside_another(forge: Forge) -> None:
    # The last shared step outlasts the start of a process, so that a benchmark let in too early would meet it.
    shared = [forge.step(f"shared{i}", ["sleep", seconds]) for i, seconds in enumerate((0.2, 0.3, 1.5))]
    benches = [
        forge.step("bench0", ["sleep", 0.2], exclusive=True),
        forge.step("bench1", ["sleep", 0.2], needs=["shared0"], exclusive=True),
        forge.step("bench2", ["sleep", 0.2], after=["shared2"], exclusive=True),
    ]
    late = forge.step("late", ["sleep", 0.2], needs=["bench0"])
    outcome = forge.run(benches[0], *shared, *benches[1:], late, jobs=4)
    assert outcome.errors == {}
    names = [s.lane for s in (*shared, *benches, late)]
    spans = {n: (forge.notes(n, "start")[0][2], forge.notes(n, "stop")[0][2]) for n in names}
    for bench in benches:
        begin, end = spans[bench.lane]
        beside = [n for n, (b, e) in spans.items() if n != bench.lane and b < end and begin < e]
        assert beside == []
    assert spans["shared2"][0] < spans["shared1"][1], "the shared steps were meant to run side by side"


def test_benchmarks_of_two_builds_take_turns(forge: Forge) -> None:
    go = forge.folder / "go"
    first = forge.start(forge.step("bench1", ["wait_for", str(go)], exclusive=True))
    until(lambda: forge.notes("bench1", "start"), "the first build's benchmark began")
    second = forge.start(forge.step("bench2", exclusive=True))
    assert second.stdout is not None
    assert json.loads(second.stdout.readline())["event"] == "BuildStarted"
    time.sleep(0.5)  # time enough to begin, were it let
    go.touch()
    outputs = [build.communicate(timeout=PATIENCE_S) for build in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], outputs
    assert forge.notes("bench2", "start")[0][2] >= forge.notes("bench1", "stop")[0][2]


def test_benchmarks_of_builds_with_other_caches_take_turns_too(forge: Forge, tmp_path: Path) -> None:
    go = forge.folder / "go"
    first = forge.start(forge.step("bench1", ["wait_for", str(go)], exclusive=True))
    until(lambda: forge.notes("bench1", "start"), "the first build's benchmark began")
    forge.cache = tmp_path / "another"
    second = forge.start(forge.step("bench2", exclusive=True))
    assert second.stdout is not None
    told = [json.loads(second.stdout.readline()) for _ in range(2)]
    assert [event["event"] for event in told] == ["BuildStarted", "Waiting"]
    assert told[1]["message"].startswith(f"fake[bench2]: process {first.pid} (since ")
    go.touch()
    outputs = [build.communicate(timeout=PATIENCE_S) for build in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], outputs
    assert forge.notes("bench2", "start")[0][2] >= forge.notes("bench1", "stop")[0][2]


def test_a_step_waits_for_those_it_comes_after(forge: Forge) -> None:
    outcome = forge.run(forge.step("late", after=["slow"]), forge.step("slow", ["sleep", 0.3]), jobs=2)
    assert outcome.errors == {}
    assert forge.notes("late", "start")[0][2] >= forge.notes("slow", "stop")[0][2]


# Events and logs


def test_progress_comes_between_start_and_finish(forge: Forge) -> None:
    forge.run(forge.step("a", ["progress", 0.25, "epoch 1"], ["progress", 1, "epoch 4"], lane="phone"))
    build, start, *progress, finish = forge.events
    key = forge.fake.key_of("a")
    assert build == events.BuildStarted(1, 0)
    assert isinstance(start, events.StepStarted)
    assert (start.stage, start.lane, start.key) == ("fake", "phone", key)
    assert start.pid > 0
    assert progress == [
        events.StepProgress("fake", "phone", 0.25, "epoch 1"),
        events.StepProgress("fake", "phone", 1.0, "epoch 4"),
    ]
    assert isinstance(finish, events.StepFinished)
    assert finish.wall_s > 0


def test_the_output_of_a_stage_and_of_its_programs_goes_to_its_log_alone(
    forge: Forge, capfd: pytest.CaptureFixture[str]
) -> None:
    outcome = forge.run(forge.step("a", ["say", "hello"]))
    log = Path(outcome.records[forge.fake.key_of("a")].log)
    assert log.parent == forge.logs
    assert sorted(log.read_text().splitlines()) == ["a program: hello", "its stderr: hello", "python: hello"]
    assert capfd.readouterr() == ("", "")


def test_a_log_holds_one_run(forge: Forge) -> None:
    for _ in range(2):
        outcome = forge.run(forge.step("a", ["say", "hello"]), refresh=True)
    assert Path(outcome.records[forge.fake.key_of("a")].log).read_text().count("python: hello") == 1


def test_two_steps_of_one_stage_and_lane_have_logs_of_their_own(forge: Forge) -> None:
    outcome = forge.run(
        forge.step("host_bench", ["say", "host"], lane="phone"), forge.step("adb_bench", ["say", "adb"], lane="phone")
    )
    logs = [Path(outcome.records[forge.fake.key_of(n)].log).read_text() for n in ("host_bench", "adb_bench")]
    assert "python: host" in logs[0]
    assert "python: adb" in logs[1]


def test_a_lane_of_very_many_targets_still_has_a_log(forge: Forge) -> None:
    lane = "+".join(f"a_target_with_quite_a_long_name_{i}" for i in range(40))
    outcome = forge.run(forge.step("a", lane=lane), forge.step("b", lane=lane))
    assert outcome.errors == {}
    logs = {outcome.records[forge.fake.key_of(n)].log for n in "ab"}
    assert len(logs) == 2
    assert all(Path(log).exists() for log in logs)


# Several builds, interruption and death


def test_two_builds_at_once_run_each_stage_once(forge: Forge) -> None:
    go = forge.folder / "go"
    steps = (
        forge.step("a", ["wait_for", str(go)]),
        forge.step("b", ["sleep", 0.1], needs=["a"]),
        forge.step("c", ["sleep", 0.1], needs=["a"]),
        forge.step("bench", needs=["b"], exclusive=True),
    )
    builds = [forge.start(*steps, jobs=2) for _ in range(2)]
    for build in builds:
        assert build.stdout is not None
        # Both have seen an empty store before anything was made.
        assert json.loads(build.stdout.readline()) == {"event": "BuildStarted", "steps": 4, "stored": 0}
    go.touch()
    outputs = [build.communicate(timeout=PATIENCE_S) for build in builds]
    assert [b.returncode for b in builds] == [0, 0], outputs
    assert {s.lane: forge.starts(s.lane) for s in steps} == {"a": 1, "b": 1, "c": 1, "bench": 1}
    told = [json.loads(line)["event"] for out, _ in outputs for line in out.splitlines()]
    assert told.count("StepFinished") == 4
    assert told.count("StepReused") == 4
    assert forge.left_in_tmp() == []


def test_interrupting_stops_stages_and_their_programs_and_leaves_nothing_half(forge: Forge) -> None:
    never = str(forge.folder / "never")
    quick = forge.step("quick")
    slow = [
        forge.step(n, ["half_write"], ["start_program"], ["wait_for", never], needs=["quick"]) for n in ("s1", "s2")
    ]
    build = forge.start(quick, *slow, jobs=2)
    until(lambda: len(forge.notes(what="program")) == 2, "both slow stages started their program")
    assert build.stdout is not None
    started = [json.loads(build.stdout.readline()) for _ in range(5)]
    stages = [e["pid"] for e in started if e["event"] == "StepStarted"]
    assert len(stages) == 3

    build.send_signal(signal.SIGINT)
    out, err = build.communicate(timeout=PATIENCE_S)
    assert build.returncode == errors.EXIT_INTERRUPTED, err
    assert "StepFailed" not in out, "what was stopped did not fail"
    for pid in [*stages, *(n[3] for n in forge.notes(what="program"))]:
        until(lambda pid=pid: not is_alive(pid), f"process {pid} ended")  # type: ignore[misc]
    assert forge.left_in_tmp() == []
    assert forge.published() == {quick.key}

    Path(never).touch()
    outcome = forge.run(quick, *slow)
    assert forge.status(outcome, "quick") == "reused"
    assert [forge.status(outcome, n) for n in ("s1", "s2")] == ["run", "run"]
    for note in forge.notes(what="program"):
        until(lambda pid=note[3]: not is_alive(pid), "programs end with their stage")  # type: ignore[misc]


def test_nothing_stays_in_tmpdir_however_stages_and_builds_end(forge: Forge, monkeypatch: pytest.MonkeyPatch) -> None:
    place = forge.folder / "tmp"
    for name in ("pymp-other", "pocketforge-of-a-user"):
        (place / name).mkdir(parents=True)
    theirs = sorted(place.iterdir())
    monkeypatch.setenv("TMPDIR", str(place))
    never = ["wait_for", str(forge.folder / "never")]
    ends: dict[str, list[Any]] = {
        "done": [],
        "crash": ["exit", 9],
        "killed": ["signal", int(signal.SIGKILL)],
        "raises": ["raise", "nothing"],
    }
    steps = [forge.step(name, ["leave_temporary"], *([end] if end else [])) for name, end in ends.items()]
    program = forge.start(*steps)
    program.communicate(timeout=PATIENCE_S)
    assert [note[0] for note in forge.notes(what="temporary")] == list(ends)
    assert sorted(place.iterdir()) == theirs

    for number, how in enumerate((signal.SIGINT, signal.SIGKILL)):
        build = forge.start(forge.step(f"slow{number}", ["leave_temporary"], never))
        until(lambda n=number: forge.notes(f"slow{n}", "temporary"), "a stage has a temporary file")  # type: ignore[misc]
        build.send_signal(how)
        build.communicate(timeout=PATIENCE_S)
        left = sorted(set(place.iterdir()) - set(theirs))
        # The stage's folder, and that of the server's sockets.
        assert len(left) == (2 if how == signal.SIGKILL else 0), left
    made = [Path(note[3]) for note in forge.notes(what="temporary")]
    assert len(made) == 6
    assert all(path.is_relative_to(place) for path in made)

    alive = forge.start(forge.step("alive", ["leave_temporary"], never))
    until(lambda: forge.notes("alive", "temporary"), "the next build has cleaned up and is at work")
    kept = set(place.iterdir()) - set(theirs)
    assert len(kept) == 2
    assert forge.start(forge.step("beside")).communicate(timeout=PATIENCE_S)[1] == ""
    used = Path(forge.notes("alive", "temporary")[0][3])
    assert any(used.is_relative_to(folder) for folder in kept)
    assert all(folder.is_dir() for folder in kept), "of a build that lives"
    alive.send_signal(signal.SIGINT)
    alive.communicate(timeout=PATIENCE_S)
    assert sorted(place.iterdir()) == theirs


def test_interrupting_ends_the_wait_for_another_build(forge: Forge) -> None:
    step = forge.step("a")
    store = Store(forge.cache)
    with store.lock(step.key):
        build = forge.start(step)
        assert build.stdout is not None
        assert json.loads(build.stdout.readline())["event"] == "BuildStarted"
        time.sleep(0.3)  # let it come to the lock; an earlier interrupt has to end it as well
        build.send_signal(signal.SIGINT)
        _, err = build.communicate(timeout=PATIENCE_S)
    assert build.returncode == errors.EXIT_INTERRUPTED, err
    assert forge.notes() == []


def test_killing_the_build_ends_its_stages_and_a_rerun_succeeds(forge: Forge) -> None:
    never = str(forge.folder / "never")
    steps = (
        forge.step("quick"),
        forge.step("slow", ["half_write"], ["start_program"], ["wait_for", never], needs=["quick"]),
    )
    build = forge.start(*steps)
    until(lambda: forge.notes("slow", "program"), "the slow stage started its program")
    assert build.stdout is not None
    pids = [e["pid"] for e in (json.loads(build.stdout.readline()) for _ in range(4)) if e["event"] == "StepStarted"]
    build.kill()
    build.wait(PATIENCE_S)
    for pid in (pids[-1], forge.notes("slow", "program")[0][3]):
        until(lambda pid=pid: not is_alive(pid), f"process {pid} ended with its build")  # type: ignore[misc]

    assert forge.left_in_tmp() != [], "the killed build could not clean up, or this test shows nothing"
    assert forge.published() == {steps[0].key}
    assert forge.left_in_tmp() == [], "opening the store cleans up after the dead"
    Path(never).touch()
    outcome = forge.run(*steps)
    assert (forge.status(outcome, "quick"), forge.status(outcome, "slow")) == ("reused", "run")
    assert forge.result(outcome, "slow") == "slow[quick]"


def test_an_error_in_the_listener_stops_the_build_and_its_stages(forge: Forge) -> None:
    def broken(event: events.Event) -> None:
        if isinstance(event, events.StepProgress):
            raise BrokenPipeError("nobody reads")

    step = forge.step("a", ["progress", 0.5, "half"], ["start_program"], ["wait_for", str(forge.folder / "never")])
    with pytest.raises(BrokenPipeError):
        run_plan(forge.fake.make_plan([step]), Store(forge.cache), logs=forge.logs, emit=broken)
    assert forge.left_in_tmp() == []
    for note in forge.notes(what="program"):
        until(lambda pid=note[3]: not is_alive(pid), "what the stage started is gone")  # type: ignore[misc]


def test_a_build_that_is_over_holds_nothing_of_the_store(forge: Forge) -> None:
    """Without waiting for Python's search for cycles: another program may clear the cache."""
    gc.collect()
    gc.disable()
    try:
        forge.run(forge.step("a"))
        assert not [held for held in gc.get_objects() if type(held) is Store]  # isinstance asks proxies
    finally:
        gc.enable()
