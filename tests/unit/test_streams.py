"""What reaches a terminal is visible and obeyed by nobody, and a reader that left changes no exit code."""

from __future__ import annotations

import io
import os
import re
import sys
from pathlib import Path

import pytest

from pocketforge.report.tables import Screen, console, table, told, words
from pocketforge.streams import GuardedStream, OutputLostError, guarded, printable, reader_gone

FOREIGN = {
    "\x1b[31mred\x1b[0m": r"\x1b[31mred\x1b[0m",
    "\x07bell\x08\x7f": r"\x07bell\x08\x7f",
    "\x9b2J": r"\x9b2J",
    "a\rb": r"a\rb",
    "safe\u202etxt.exe\u2066\u2069\u200f": r"safe\u202etxt.exe\u2066\u2069\u200f",
    "\u2028\ufeffmark\U000e0041": r"\u2028\ufeffmark\U000e0041",
    os.fsdecode(b"caf\xe9"): r"caf\xe9",
    "\ud800": r"\ud800",
    "[red]markup[/] :smile:": "[red]markup[/] :smile:",
    "größe 猫 e\u0301 \U0001f469\u200d\U0001f52c": "größe 猫 e\u0301 \U0001f469\u200d\U0001f52c",
}


@pytest.mark.parametrize("foreign", FOREIGN)
def test_control_characters_are_shown_wherever_text_goes(foreign: str) -> None:
    assert printable(foreign) == FOREIGN[foreign]
    under = io.StringIO()
    stream = GuardedStream(under, needed=True)
    stream.write(f"a {foreign}\n\tb\n")
    assert under.getvalue() == f"a {FOREIGN[foreign]}\n\tb\n"
    under = io.StringIO()
    screen = Screen(file=under, width=200, markup=False, emoji=False, highlight=False, force_terminal=True)
    made = table(foreign, "name", "p50 ms", numbers=("p50 ms",))
    made.add_row(foreign, words((foreign, "red")))
    screen.print(made)
    screen.print(f"said {foreign}")
    told(screen, "wrong", "red", f"{foreign}\nsecond line")
    drawn = re.sub("\x1b\\[[0-9;]*m", "", under.getvalue())  # our own colours
    assert drawn.count(FOREIGN[foreign]) == 5
    assert printable(drawn, lines=True) == drawn


def test_a_name_is_one_line_and_several_lines_stay_beside_their_word() -> None:
    assert printable("a\nverdict  PASS\tx") == r"a\nverdict  PASS\tx"
    under = io.StringIO()
    screen = Screen(file=under, width=100, markup=False)
    made = table("", "name")
    made.add_row("a\nverdict  PASS")
    screen.print(made)
    told(screen, "failed", "red", "one\ntwo")
    assert under.getvalue().splitlines()[-3:] == [r"a\nverdict  PASS", "failed   one", "         two"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_any_text_can_be_written_in_any_encoding(encoding: str) -> None:
    raw = io.BytesIO()
    stream = GuardedStream(io.TextIOWrapper(raw, encoding=encoding), needed=True)
    stream.write("→ ü \ud800\n")
    stream.buffer.write(b"\x1b")
    stream.flush()
    assert raw.getvalue().startswith(rb"\u2192 ") and raw.getvalue().endswith(rb"\x1b")


def pipe_without_reader() -> io.TextIOWrapper:
    reading, writing = os.pipe()
    os.close(reading)
    return os.fdopen(writing, "w", encoding="utf-8")


def test_a_gone_reader_is_no_error_and_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", pipe_without_reader())
    monkeypatch.setattr(sys, "stderr", pipe_without_reader())
    with guarded():
        for _ in range(3):
            sys.stdout.write("x\n" * 10_000)
            console().print("drawn")
            sys.stderr.write("y\n")
            sys.stdout.flush()
        assert reader_gone(sys.stdout)
    for stream in (sys.stdout, sys.stderr):
        stream.close()  # what Python does at exit: nothing is left that could fail


def test_a_full_disk_is_an_error_of_results_and_none_of_news(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        Path("/dev/full").open("w", encoding="utf-8") as out,
        Path("/dev/full").open("w", encoding="utf-8") as err,
        monkeypatch.context() as patch,
    ):
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        with pytest.raises(OutputLostError, match="No space left"):
            say_both()


def say_both() -> None:
    with guarded():
        sys.stderr.write("news\n")
        sys.stderr.flush()
        sys.stdout.write("result\n")


def test_streams_that_were_never_open_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with guarded():
        print("lost")
        console().print("lost")
        assert reader_gone(sys.stdout)
