"""Counts survive JSON, damaged ones are refused, windows agree or not, and a comparison says what grew."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketforge.devices.emulator.counts import Block, Counts, Growth, agree, compare, words_of

FMLA, LDR, RET = 0x4E22CC20, 0x3DC00000, 0xD65F03C0


def counts(blocks: tuple[Block, ...], by_class: dict[str, int], libraries: dict[str, str] | None = None) -> Counts:
    functions: dict[str, int] = {}
    for block in blocks:
        functions[block.function] = functions.get(block.function, 0) + block.executions * len(block.words)
    total = sum(functions.values())
    return Counts(
        instructions=total,
        windows=(total, total),
        tolerance=1e-4,
        conclusive=True,
        by_class=by_class,
        by_function=functions,
        blocks=blocks,
        libraries=libraries or {"libLiteRt.so": "ab" * 32},
        qemu="qemu-aarch64 7.2",
        cpu="cortex-a76",
        runner={"runtime": "tflite"},
    )


BEFORE = counts(
    (
        Block(0x1000, 10, (FMLA, FMLA, LDR, RET), "libLiteRt.so+0x1000"),
        Block(0x9000, 2, (LDR, RET), "libc.so.6!memcpy"),
    ),
    {"fp_mac": 20, "load": 12, "branch": 12},
)
AFTER = counts(
    (
        Block(0x1000, 30, (FMLA, FMLA, LDR, RET), "libLiteRt.so+0x1000"),
        Block(0x2000, 1, (LDR,), "libLiteRt.so+0x2000"),
    ),
    {"fp_mac": 60, "load": 31, "branch": 30},
)


def test_json_gives_the_same_counts_back() -> None:
    text = json.dumps(BEFORE.to_json())
    assert Counts.from_json(json.loads(text)) == BEFORE
    assert Counts.from_json(json.loads(json.dumps(replace(BEFORE, doubts=("x",), threads=2).to_json()))).threads == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 2}, "counts of format 2"),
        ({"instructions": 45}, "the blocks sum to 44, not 45"),
        ({"by_class": {"load": 1}}, "the classes sum to 1, not 44"),
        ({"by_function": {}}, "the functions sum to 0, not 44"),
        ({"windows": [1, "2"]}, "'2' is no count"),
        ({"instructions": True}, "True is no count"),
        ({"blocks": [[1, 2, "1234567", "f"]]}, "7 digits are no whole number of instructions"),
        ({"blocks": [[1, 2]]}, "not enough values"),
        ({"blocks": None}, "not instruction counts: TypeError"),
        ({"libraries": []}, "not instruction counts: AttributeError"),
    ],
)
def test_damaged_counts_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Counts.from_json({**BEFORE.to_json(), **change})


def test_counts_without_a_field_are_refused() -> None:
    for name in BEFORE.to_json():
        data = BEFORE.to_json()
        del data[name]
        with pytest.raises(ValueError, match=f"not instruction counts: KeyError '{name}'"):
            Counts.from_json(data)


@pytest.mark.parametrize(
    ("windows", "tolerance", "expected"),
    [
        ((1_000_000, 1_000_100), 1e-4, True),
        ((1_000_000, 1_000_101), 1e-4, False),
        ((1_000_000, 999_000), 1e-3, True),
        ((5, 5, 6), 1e-3, False),
        ((7,), 1e-3, False),
        ((), 1e-3, False),
        ((0, 0), 1e-3, False),
    ],
)
def test_windows_agree_within_the_tolerance(windows: tuple[int, ...], tolerance: float, expected: bool) -> None:
    assert agree(windows, tolerance) is expected


def test_comparison_names_what_grew_most_first_and_leaves_out_what_did_not_change() -> None:
    rows = compare(BEFORE, AFTER)
    assert rows[0] == Growth("total", "instructions", 44, 121)
    assert [(r.name, r.absolute) for r in rows if r.kind == "class"] == [("fp_mac", 40), ("load", 19), ("branch", 18)]
    assert [(r.name, r.before, r.after) for r in rows if r.kind == "function"] == [
        ("libLiteRt.so+0x1000", 40, 120),
        ("libLiteRt.so+0x2000", 0, 1),
        ("libc.so.6!memcpy", 4, 0),
    ]
    assert rows[0].percent == 175.0
    assert [r.percent for r in rows if r.name == "libLiteRt.so+0x2000"] == [None]
    assert [(r.kind, r.absolute) for r in compare(BEFORE, BEFORE)] == [("total", 0)]


def test_addresses_of_two_builds_of_a_library_are_not_compared() -> None:
    other = replace(AFTER, libraries={"libLiteRt.so": "cd" * 32})
    rows = [r for r in compare(BEFORE, other) if r.kind == "function"]
    assert [(r.name, r.before, r.after) for r in rows] == [
        ("libLiteRt.so (functions without names)", 40, 121),
        ("libc.so.6!memcpy", 4, 0),
    ]


names = st.sampled_from(["a", "b!f", "lib+0x10", "lib+0x20"])
tables = st.dictionaries(names, st.integers(1, 1000), max_size=4)


@given(tables, tables, st.booleans())
def test_the_rows_of_a_comparison_add_up(one: dict[str, int], two: dict[str, int], same_library: bool) -> None:
    def made(table: dict[str, int], sha256: str) -> Counts:
        blocks = tuple(Block(i, n, (RET,), name) for i, (name, n) in enumerate(table.items()))
        return counts(blocks, {"branch": sum(table.values())}, {"lib": sha256})

    before, after = made(one, "x"), made(two, "x" if same_library else "y")
    forth, back = compare(before, after), compare(after, before)
    for kind in ("class", "function"):
        assert sum(r.absolute for r in forth if r.kind == kind) == after.instructions - before.instructions
    assert {(r.name, r.before, r.after) for r in forth} == {(r.name, r.after, r.before) for r in back}


@given(st.lists(st.integers(0, 2**32 - 1)))
def test_words_survive_their_text(words: list[int]) -> None:
    assert words_of("".join(f"{w:08x}" for w in words)) == tuple(words)
