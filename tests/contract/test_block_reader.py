"""The reader of qemu's log: right counts for what qemu writes, in its three forms; a message for everything else.

The logs here are made from blocks and a sequence of runs, so that the right counts are known.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pocketforge.devices.emulator.parts import Emulator

BEGIN, END = "bench_mark_begin", "bench_mark_end"
FORMS = ("word", "bytes", "plain")
RET = 0xD65F03C0
HOST = 0x7F9B2A800000


@dataclass(frozen=True)
class Made:
    """A block as qemu would translate it; `host` is where its code is."""

    host: int
    pc: int
    words: tuple[int, ...]
    symbol: str = ""

    def shown(self, form: str) -> str:
        lines = ["----------------", f"IN: {self.symbol}"]
        if form == "plain":
            data = b"".join(w.to_bytes(4, "little") for w in self.words).hex()
            lines += [f"0x{self.pc:016x}:  "] + [f"OBJD-T: {data[i : i + 64]}" for i in range(0, len(data), 64)]
        else:
            for i, word in enumerate(self.words):
                code = f"{word:08x}" if form == "word" else word.to_bytes(4, "little").hex(" ")
                lines.append(f"0x{self.pc + 4 * i:x}:  {code}  mov      x29, #0")
        return "\n".join([*lines, "", ""])

    def ran(self, cpu: int = 0) -> str:
        return f"Trace {cpu}: 0x{self.host:x} [00001001/{self.pc:016x}/00000001/00000200] {self.symbol}\n"

    def taken_back(self) -> str:
        return f"Stopped execution of TB chain before 0x{self.host:x} [{self.pc:016x}] {self.symbol}\n"


def made(index: int, length: int, symbol: str = "") -> Made:
    words = tuple(0xD2800000 + 32 * index + i for i in range(length - 1))
    return Made(HOST + 0x140 * index, 0x5500000000 + 0x400 * index, (*words, RET), symbol)


A, B, BEGINNING, ENDING = made(1, 5), made(2, 17), made(3, 1, BEGIN), made(4, 2, END)


@pytest.fixture(scope="module")
def reader(emulator: Emulator) -> str:
    return str(emulator.reader)


def read(reader: str, log: str | bytes) -> subprocess.CompletedProcess[bytes]:
    data = log if isinstance(log, bytes) else log.encode()
    return subprocess.run([reader], input=data, capture_output=True, timeout=60, check=False)


def counted(reader: str, log: str) -> dict[str, Any]:
    done = read(reader, log)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def refused(reader: str, log: str | bytes) -> str:
    done = read(reader, log)
    assert done.returncode == 65
    assert not done.stdout
    return done.stderr.decode()


def log_of(sequence: list[Made], form: str = "word") -> str:
    """The log of a run: each block is shown before it runs for the first time."""
    known: set[Made] = set()
    text = []
    for block in sequence:
        if block not in known:
            text.append(block.shown(form))
            known.add(block)
        text.append(block.ran())
    return "".join(text)


def executions(found: dict[str, Any]) -> dict[int, list[int]]:
    return {pc: runs for pc, _, runs, _ in found["blocks"]}


@pytest.mark.parametrize("form", FORMS)
def test_blocks_are_counted_between_the_marks_only(reader: str, form: str) -> None:
    window = [BEGINNING, A, B, A, ENDING]
    found = counted(reader, log_of([A, B, B, *window, A, *window, B], form))
    assert found["windows"] == 2 and found["threads"] == 1 and found["translated"] == 4 and found["doubts"] == []
    assert executions(found) == {A.pc: [2, 2], B.pc: [1, 1]}
    assert [text for _, _, _, text in found["blocks"]] == ["".join(f"{w:08x}" for w in b.words) for b in (A, B)]


def test_an_empty_log_has_no_windows(reader: str) -> None:
    assert counted(reader, "") == {
        "log_lines": 0,
        "translated": 0,
        "threads": 0,
        "doubts": [],
        "windows": 0,
        "blocks": [],
    }


def test_the_same_address_with_other_instructions_is_another_block(reader: str) -> None:
    # A library was unmapped and another mapped: qemu flushes its cache and may use the same host address again.
    other = Made(A.host, A.pc, (0xD503201F, 0xD503201F, RET))
    moved = Made(A.host + 0x9000, A.pc, A.words[:2])
    found = counted(reader, log_of([BEGINNING, A, A, other, other, other, moved, ENDING]))
    assert sorted((len(text) // 8, runs) for _, _, runs, text in found["blocks"]) == [(2, [1]), (3, [3]), (5, [2])]
    assert found["doubts"] == []


def test_a_block_translated_twice_before_it_runs_is_the_later_one(reader: str) -> None:
    shorter = Made(B.host, B.pc, B.words[:9])
    found = counted(
        reader, log_of([BEGINNING]) + B.shown("word") + shorter.shown("word") + shorter.ran() * 3 + log_of([ENDING])
    )
    assert [(len(text) // 8, runs) for _, _, runs, text in found["blocks"]] == [(9, [3])]


def test_runs_that_qemu_took_back_do_not_count(reader: str) -> None:
    back = A.ran() + A.taken_back()
    log = log_of([A, BEGINNING]) + BEGINNING.taken_back() + BEGINNING.ran() + back + A.ran() + back + back
    log += log_of([ENDING]) + ENDING.taken_back() + A.ran() + ENDING.ran()
    assert executions(counted(reader, log)) == {A.pc: [2]}


def test_blocks_that_calls_enter_are_told_apart(reader: str) -> None:
    caller = Made(HOST + 0x10000, 0x5500010000, (0xD503201F, 0x94000010))
    found = counted(reader, log_of([BEGINNING, caller, A, B, ENDING]))
    assert {pc: entered for pc, entered, _, _ in found["blocks"]} == {caller.pc: 0, A.pc: 1, B.pc: 0}


def test_all_threads_are_counted_and_a_block_replaced_meanwhile_is_a_doubt(reader: str) -> None:
    two = log_of([A, BEGINNING]) + A.ran(1) + A.ran(0)
    found = counted(reader, two + log_of([ENDING]))
    assert found["threads"] == 2 and executions(found) == {A.pc: [2]} and found["doubts"] == []
    other = Made(A.host, A.pc, (RET,))
    found = counted(reader, two + other.shown("word") + other.ran() + log_of([ENDING]))
    assert found["doubts"] and "several threads" in found["doubts"][0]


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (A.ran(), "a block runs that was never shown"),
        (log_of([A]) + Made(A.host, A.pc + 4, A.words).ran(), "a block runs that was never shown"),
        (log_of([A])[:-3], "it ends inside a line"),
        (A.shown("word")[:-1], "it ends inside a block"),
        (log_of([BEGINNING, A]), "it ends inside a window"),
        (log_of([BEGINNING, A, BEGINNING]), "a window begins inside a window"),
        (log_of([A, ENDING]), "a window ends that has not begun"),
        (log_of([BEGINNING, ENDING] * 17), "more windows than can be counted"),
        ("----------------\nIN: \n\n", "a block without instructions"),
        ("----------------\n0x1000:  d503201f  nop\n", "a block without its heading"),
        ("----------------\nIN: \n0x1000:  d503201f  nop\n0x1008:  d503201f  nop\n", "an instruction is missing"),
        ("----------------\nIN: \n0x1000:  d503201\n\n", "not an instruction"),
        ("----------------\nIN: \n0x1000:  1f 20 03\n\n", "not an instruction"),
        ("----------------\nIN: \n0x1000:  \nOBJD-T: 1f2003d51f20\n\n", "not the bytes of instructions"),
        ("----------------\nIN: \nOBJD-T: 1f2003d5\n\n", "bytes without an address"),
        ("Linking TBs 0x7f9b2a8007c0 index 0 -> 0x7f9b2a8007d0\n", "not understood"),
        ("Trace 0: 0x7f9b [00/55/01/02]\n", "not the start of a block"),
        (log_of([A]).replace("] \n", "] Trace 0: 0x7f\n"), "two lines in one"),
        (A.taken_back(), "a block is taken back that never ran"),
        (log_of([A]).encode().replace(b"Trace", b"Tr\0ce"), "a zero byte"),
        ("x" * (5 << 20), "a line without end"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 60 and "\n" not in value else "",
)
def test_what_is_not_understood_ends_it(reader: str, log: str | bytes, words: str) -> None:
    message = refused(reader, log)
    assert words in message and message.startswith("pf_block_reader: line ") and message.count("\n") == 1


def weights(found: dict[str, Any]) -> list[tuple[list[int], int]]:
    """Executions and lengths, whatever the addresses and instructions."""
    return sorted((runs, len(text)) for _, _, runs, text in found["blocks"])


POOL = tuple(made(10 + i, 1 + i * 7 % 23) for i in range(12))
runs = st.lists(st.sampled_from(POOL), max_size=40)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(runs, runs), min_size=1, max_size=4), st.sampled_from(FORMS))
def test_any_run_is_counted_exactly(reader: str, parts: list[tuple[list[Made], list[Made]]], form: str) -> None:
    sequence = [b for outside, inside in parts for b in (*outside, BEGINNING, *inside, ENDING)]
    found = counted(reader, log_of(sequence, form))
    assert executions(found) == {
        b.pc: [inside.count(b) for _, inside in parts] for b in POOL if any(b in inside for _, inside in parts)
    }


WINDOWS = [A, BEGINNING, A, B, A, A, ENDING, B, BEGINNING, A, B, B, ENDING]


@settings(max_examples=120, deadline=None)
@given(st.data(), st.sampled_from(FORMS))
def test_a_log_cut_short_never_gives_a_smaller_count(reader: str, data: st.DataObject, form: str) -> None:
    log = log_of(WINDOWS, form)
    whole = counted(reader, log)
    cut = data.draw(st.integers(0, len(log) - 1))
    done = read(reader, log[:cut])
    if done.returncode == 0:
        # Whole windows are left, or none: the caller knows how many there must be.
        found = json.loads(done.stdout)
        assert found["windows"] < 2
        assert executions(found) in ({}, {pc: runs[:1] for pc, runs in executions(whole).items()})
    else:
        assert done.returncode == 65 and not done.stdout


@settings(max_examples=250, deadline=None)
@given(st.data(), st.sampled_from(FORMS))
def test_a_damaged_byte_never_changes_a_count_in_silence(reader: str, data: st.DataObject, form: str) -> None:
    log = log_of(WINDOWS, form).encode()
    at = data.draw(st.integers(0, len(log) - 1))
    byte = data.draw(st.sampled_from(b"0f x:/[]-.TIO\n\t\0\xff") | st.integers(0, 255))
    assume(log[at] != byte)
    done = read(reader, log[:at] + bytes([byte]) + log[at + 1 :])
    if done.returncode == 0:
        found = json.loads(done.stdout)
        if found["windows"] == 2:  # a mark's name may be what was hit
            assert weights(found) == weights(counted(reader, log.decode()))
    else:
        assert done.returncode == 65 and not done.stdout


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("instead", [b"0", b" ", b":", b""])
def test_two_lines_in_one_are_not_an_instruction_fewer(reader: str, form: str, instead: bytes) -> None:
    """The line after is then text of the line before: of a block's last two instructions, one is gone."""
    log = log_of(WINDOWS, form).encode()
    right = weights(counted(reader, log.decode()))
    for at in (at for at, byte in enumerate(log) if byte == ord("\n")):
        done = read(reader, log[:at] + instead + log[at + 1 :])
        if done.returncode == 0:
            found = json.loads(done.stdout)
            assert found["windows"] != 2 or weights(found) == right, log[at - 40 : at + 40]
        else:
            assert done.returncode == 65 and not done.stdout
