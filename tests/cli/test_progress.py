"""News of a build on stderr, in every form that `--progress` has; stdout is for results."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from release_build import SOURCES

from pocketforge import events
from pocketforge.report.progress import progress

LANES = "first+second+third"
NEWS = (
    events.BuildStarted(4, 1),
    events.StepReused("data", "trunk", "k0"),
    events.StepStarted("quantize", LANES, "k1", 4711, "logs/q.log"),
    events.StepProgress("quantize", LANES, 0.5, "half [the] way"),
    events.StepFinished("quantize", LANES, "k1", 1.25),
    events.Warned("one layer [conv1] stayed float"),
    events.StepStarted("export", "first", "k2", 4712, "logs/e.log"),
    events.StepFailed("export", "first", "k2", "no such op [aten.foo]", "logs/e.log"),
    events.StepSkipped("verify", "first", "k3", "export first failed"),
    events.Waiting("process 7 [on host b] benchmarks"),
    events.Transferring("fetch", "export", "second", "k4", 4_000_000, 9_500_000, 2e6),
    events.Transferred("fetch", "export", "second", "k4", 9_500_000, 5_500_000, 2.0),
    events.EntryRefused("verify", "second", "k5", "sftp://ci@host/[x]", "nobody signed it"),
    events.Transferred("send", "verify", "second", "k5", 250_000, 250_000, 0.5),
)
REFUSED = "the result of verify[second] in sftp://ci@host/[x] is refused: nobody signed it; the step is run"


def told(capsys, mode, *news):
    with progress(mode) as emit:
        for event in news or NEWS:
            emit(event)
    found = capsys.readouterr()
    assert found.out == ""
    return found.err


def test_plain_is_a_line_for_each_thing_that_happens(capsys):
    lines = [line.split() for line in told(capsys, "plain").splitlines()]
    assert lines == [
        ["4", "steps,", "1", "of", "them", "stored"],
        ["reused", "data", "trunk"],
        ["start", "quantize", LANES],
        ["done", "quantize", LANES, "1.2", "s"],
        ["warning:", "one", "layer", "[conv1]", "stayed", "float"],
        ["start", "export", "first"],
        ["failed", "export", "first"],
        ["skipped", "verify", "first:", "export", "first", "failed"],
        ["waiting:", "process", "7", "[on", "host", "b]", "benchmarks"],
        ["fetched", "export", "second", *["9.50", "MB", "(5.50", "MB", "now)", "at", "2.8", "MB/s"]],
        ["warning:", *REFUSED.split()],
        ["sent", "verify", "second", *["0.25", "MB", "at", "0.5", "MB/s"]],
    ]


def test_json_lines_are_the_events_themselves(capsys):
    lines = told(capsys, "json").splitlines()
    assert [json.loads(line) for line in lines] == [events.to_json(event) for event in NEWS]
    assert {json.loads(line)["event"] for line in lines} == {type(event).__name__ for event in NEWS}


@pytest.mark.parametrize("mode", ["none", "auto"])
def test_without_a_terminal_only_warnings_and_waits_are_told(capsys, mode):
    """What failed is said by the command at its end, once."""
    warned, waits = "warning: one layer [conv1] stayed float\n", "waiting: process 7 [on host b] benchmarks\n"
    assert told(capsys, mode) == f"{warned}{waits}warning: {REFUSED}\n"


def test_every_event_there_is_can_be_told_in_every_mode(capsys):
    kinds = {type(event) for event in NEWS}
    assert kinds == set(events.Event.__args__)
    for mode in ("plain", "json", "none", "auto", "bars"):
        told(capsys, mode)


SCRIPT = """if True:
    import sys
    from pocketforge import events
    from pocketforge.report.progress import progress
    with progress(sys.argv[1]) as emit:
        for event in (
            events.BuildStarted(4, 1),
            events.StepReused("data", "trunk", "k0"),
            events.StepStarted("quantize", "first+second+third", "k1", 1, "q.log"),
            events.StepProgress("quantize", "first+second+third", 0.5, "half [the] way"),
            events.StepFinished("quantize", "first+second+third", "k1", 1.25),
            events.Warned("one layer [conv1] stayed float"),
            events.StepStarted("export", "first", "k2", 2, "e.log"),
            events.StepFailed("export", "first", "k2", "no such op", "e.log"),
            events.StepSkipped("verify", "first", "k3", "export [first] failed"),
        ):
            emit(event)
    print("the result")
"""


def in_terminal(*argv: str, cwd: Path, env: dict[str, str] | None = None, columns: int = 80) -> tuple[int, str, str]:
    """Run a program whose stderr is a terminal and whose stdout is not: exit code, stdout, stderr without styling."""
    ours, theirs = pty.openpty()
    more = {"PYTHONPATH": SOURCES, "TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": "40", **(env or {})}
    process = subprocess.Popen(
        [sys.executable, *argv], stdout=subprocess.PIPE, stderr=theirs, cwd=cwd, env={**os.environ, **more}
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            chunk = os.read(ours, 4096)
        except OSError:  # Linux says EIO when the other end is closed
            break
        if not chunk:
            break
        seen += chunk
    os.close(ours)
    out = process.communicate()[0].decode()
    return process.wait(), out, seen.decode()


def unstyled(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


@pytest.mark.parametrize("mode", ["bars", "auto"])
def test_bars_on_a_terminal(tmp_path, mode):
    code, out, err = in_terminal("-c", SCRIPT, mode, cwd=tmp_path)
    assert (code, out) == (0, "the result\n")
    assert "\x1b[" in err  # drawn, not only printed
    lines = [line.split() for line in unstyled(err).replace("\r", "\n").splitlines()]
    assert ["done", "quantize", "first", "and", "2", "more", "1.2", "s"] in lines
    assert ["warning:", "one", "layer", "[conv1]", "stayed", "float"] in lines
    assert ["failed", "export", "first"] in [line[:3] for line in lines]
    assert ["skipped", "verify", "first:", "export", "[first]", "failed"] in lines
    # The last thing drawn is no bar that is left behind.
    assert "━" not in unstyled(err).splitlines()[-1]


def test_bars_show_the_progress_of_what_is_running(tmp_path):
    script = SCRIPT.replace('events.StepFinished("quantize", "first+second+third", "k1", 1.25)', 'events.Warned("end")')
    _, _, err = in_terminal(
        "-c", script.replace("emit(event)", "emit(event); __import__('time').sleep(0.15)"), "bars", cwd=tmp_path
    )
    shown = unstyled(err)
    assert "quantize first and 2 more" in shown and "half [the] way" in shown and "━" in shown


def test_a_command_on_a_terminal_draws_on_stderr_and_prints_only_its_result(tmp_path):
    (tmp_path / "model.py").write_text("def build():\n    raise RuntimeError('no [weights] today')\n")
    (tmp_path / "r.toml").write_text(
        'name = "r"\n[model]\ndefinition = "model.py"\n[data]\nsource = "digits"\n'
        '[[target]]\nname = "t"\nruntime = "onnx"\n'
    )
    env = {"POCKETFORGE_CACHE_DIR": str(tmp_path / "cache")}
    code, out, err = in_terminal("-m", "pocketforge", "check", "r.toml", "--json", cwd=tmp_path, env=env)
    assert (code, out) == (2, "")
    shown = unstyled(err)
    assert re.search(r"done +data +trunk +\d+\.\d s", shown)
    assert re.search(r"failed +reference +trunk", shown)
    assert "build() in" in shown and "no [weights] today" in shown and "model.py:2 in build" in shown
    assert shown.count("no [weights] today") == 1  # said once
    assert "Traceback" not in shown
